"""A simulated runner of GitHub's: steps of a composite action, run as a runner does, as far as the action uses it.

What is like there: bash as the shell of a step, a script file for each, GITHUB_OUTPUT with both ways to write values,
conditions, ``continue-on-error``, expressions in ``env``, ``if``, ``with`` and ``working-directory``, and the signals
of a cancelled job: SIGINT and SIGTERM to the step's own process (ProcessInvoker.cs of actions/runner, where
the patience is 7.5 s and 2.5 s), then SIGKILL. What is not: contexts that the action does not use, and the artifact
service, for which a folder stands. There a name can be used once, as in a run of a workflow.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_TOKEN = re.compile(r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<sign>&&|\|\||==|!=|[()])|(?P<name>[\w.*-]+))")
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)


class Expression:
    """Evaluate one expression; of the language, what action.yml uses."""

    def __init__(self, text: str, lookup: Callable[[str], Any]) -> None:
        self._tokens = [match.lastgroup and match[0].strip() for match in _TOKEN.finditer(text)]
        assert "".join(filter(None, self._tokens)) == re.sub(r"\s(?=(?:[^']*'[^']*')*[^']*$)", "", text), text
        self._lookup = lookup

    def value(self) -> Any:
        value = self._either()
        assert not self._tokens, self._tokens
        return value

    def _either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = value and other
        return value

    def _compared(self) -> Any:
        value = self._one()
        for sign, is_wanted in (("==", True), ("!=", False)):
            if self._take(sign):
                return (str(value).lower() == str(self._one()).lower()) is is_wanted
        return value

    def _one(self) -> Any:
        if self._take("("):
            value = self._either()
            assert self._take(")")
            return value
        token = self._tokens.pop(0)
        assert token is not None
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if self._take("("):
            assert self._take(")")
            return self._lookup(f"{token}()")
        return self._lookup(token)

    def _take(self, token: str) -> bool:
        if self._tokens[:1] == [token]:
            self._tokens.pop(0)
            return True
        return False


@dataclass
class Step:
    """Hold what became of a step."""

    outcome: str = "skipped"
    conclusion: str = "skipped"
    outputs: dict[str, str] = field(default_factory=dict)
    exit_code: int | None = None
    log: str = ""


@dataclass
class Result:
    """Hold what became of the action."""

    steps: dict[str, Step]
    outputs: dict[str, str]
    has_failed: bool
    summary: str
    log: str

    @property
    def last(self) -> Step:
        return list(self.steps.values())[-1]


class Runner:
    """Run actions in one job, as one user."""

    def __init__(
        self,
        workspace: Path,
        temp: Path,
        artifacts: Path,
        *,
        environment: Mapping[str, str],
        identity: Mapping[str, Any],
        strategy: Mapping[str, Any] | None = None,
    ) -> None:
        self.workspace = workspace
        self.temp = temp
        self.artifacts = artifacts
        self.environment = dict(environment)
        self.identity = dict(identity)
        self.strategy = {"job-index": 0, "job-total": 1, **(strategy or {})}
        self._files = 0

    def use(self, action: Path, inputs: Mapping[str, str], cancel: Callable[[], None] | None = None) -> Result:
        """Run an action; the job is cancelled when ``cancel``, called once the step that records has begun, returns."""
        document = yaml.safe_load((action / "action.yml").read_text())
        assert document["runs"]["using"] == "composite"
        unknown = inputs.keys() - document["inputs"].keys()
        assert not unknown, f"the action has no input {unknown}"
        given = {name: str(one.get("default", "")) for name, one in document["inputs"].items()} | dict(inputs)
        run = _Run(self, action, given, cancel)
        for index, step in enumerate(document["runs"]["steps"]):
            run.step(step, step.get("id", f"step-{index}"))
        outputs = {name: run.text(one["value"]) for name, one in document["outputs"].items()}
        return Result(run.steps, outputs, run.has_failed, run.summary, "".join(step.log for step in run.steps.values()))

    def file(self, name: str) -> Path:
        """Make a file for a step, which belongs to the user."""
        self._files += 1
        path = self.temp / f"_runner_{self._files}_{name}"
        path.touch()
        self.give(path)
        return path

    def give(self, path: Path) -> None:
        if "user" in self.identity:
            os.chown(path, self.identity["user"], self.identity["group"])


class _Run:
    def __init__(
        self, runner: Runner, action: Path, inputs: Mapping[str, str], cancel: Callable[[], None] | None
    ) -> None:
        self.runner = runner
        self.action = action
        self.inputs = inputs
        self.cancel = cancel
        self.steps: dict[str, Step] = {}
        self.has_failed = False
        self.is_cancelled = False
        self.summary = ""

    def text(self, template: object) -> str:
        """Return a value with its expressions evaluated, once."""
        return _EXPRESSION.sub(
            lambda match: _as_text(Expression(match[1].strip(), self._lookup).value()), str(template)
        )

    def _lookup(self, name: str) -> Any:
        if name == "always()":
            return True
        context, _, rest = name.partition(".")
        if context == "inputs":
            return self.inputs[rest]
        if context == "strategy":
            return self.runner.strategy[rest]
        if context == "steps":
            step, what, *output = rest.split(".")
            known = self.steps.get(step, Step())
            return known.outputs.get(output[0], "") if what == "outputs" else getattr(known, what)
        raise AssertionError(f"the simulated runner does not know {name}")

    def _is_due(self, step: Mapping[str, Any]) -> bool:
        condition = str(step.get("if", ""))
        inner = _EXPRESSION.fullmatch(condition)
        is_true = not condition or bool(Expression((inner[1] if inner else condition).strip(), self._lookup).value())
        return is_true and ("always()" in condition or not (self.has_failed or self.is_cancelled))

    def step(self, step: Mapping[str, Any], name: str) -> None:
        record = self.steps[name] = Step()
        if not self._is_due(step):
            return
        is_cancelled = self.is_cancelled
        succeeded = self._upload(step, record) if "uses" in step else self._run(step, record)
        record.outcome = "success" if succeeded else "failure"
        if self.is_cancelled and not is_cancelled:
            record.outcome = "cancelled"
        tolerated = step.get("continue-on-error", False)
        record.conclusion = "success" if tolerated else record.outcome
        self.has_failed = self.has_failed or (record.conclusion == "failure")

    def _run(self, step: Mapping[str, Any], record: Step) -> bool:
        assert step["shell"] == "bash"
        runner = self.runner
        script, output, summary = (runner.file(name) for name in ("script.sh", "output", "summary"))
        script.write_text(self.text(step["run"]))
        assert script.read_text() == step["run"], "no expression belongs into a script"
        environment = {
            **runner.environment,
            "GITHUB_ACTION_PATH": str(self.action),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(runner.temp),
            **{key: self.text(value) for key, value in step.get("env", {}).items()},
        }
        log = runner.file("log")
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
                cwd=runner.workspace / self.text(step.get("working-directory", ".")),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                **runner.identity,
            )
            if self.cancel is not None and step.get("id") == "record":
                self._cancel(process)
            record.exit_code = process.wait(timeout=100)
        record.log = log.read_text(errors="replace")
        record.outputs = _outputs(output.read_text())
        self.summary += summary.read_text()
        return record.exit_code == 0

    def _cancel(self, process: subprocess.Popen[bytes]) -> None:
        assert self.cancel is not None
        self.cancel()
        self.is_cancelled = True
        for number, patience_s in ((signal.SIGINT, 2.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 0.0)):
            if process.poll() is None:
                process.send_signal(number)
                _wait(process, patience_s)

    def _upload(self, step: Mapping[str, Any], record: Step) -> bool:
        """Copy a folder, as the user, to where the artifacts of this run of the workflow are."""
        assert re.fullmatch(r"actions/upload-artifact@[0-9a-f]{40}", step["uses"])
        given = {key: self.text(value) for key, value in step["with"].items()}
        place = self.runner.artifacts / given["name"]
        assert not re.search(r'[\\/":<>|*?\r\n]', given["name"]), "the service refuses such a name"
        if place.exists():
            record.log = "an artifact of that name exists in this run\n"
            return False
        place.mkdir()
        self.runner.give(place)
        copied = subprocess.run(
            ["cp", "-r", "--no-preserve=mode", f"{given['path']}/.", str(place)],
            check=False,
            capture_output=True,
            text=True,
            **self.runner.identity,
        )
        record.log = copied.stderr
        record.outputs = {"artifact-url": f"https://github.example/artifacts/{given['name']}"}
        return copied.returncode == 0


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _outputs(text: str) -> dict[str, str]:
    outputs: dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        name, separator, rest = line.partition("<<" if re.match(r"[\w-]+<<", line) else "=")
        if separator == "=":
            outputs[name] = rest
            continue
        value = []
        for part in lines:
            if part == rest:
                break
            value.append(part)
        else:
            raise AssertionError(f"the value of {name} has no end")
        outputs[name] = "\n".join(value)
    return outputs


def copy_of_action(source: Path, place: Path) -> Path:
    """Return a folder that has of a checkout what the action's steps need, readable by everybody."""
    place.mkdir()
    shutil.copy(source / "action.yml", place)
    shutil.copytree(source / "action", place / "action")
    for path in (place, *place.rglob("*")):
        path.chmod(0o755)
    return place
