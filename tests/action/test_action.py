"""The GitHub Action: its own steps, taken from action.yml, in a simulated runner, by a user who has sudo."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator

import pytest
import yaml
from markdown_it import MarkdownIt

from action.job import ROOT, Job, ordinary_user
from action.runner import Expression, copy_of_action
from diffkeeper.store.format import read_session, trace_state
from diffkeeper.trace import Trace
from integration.recorder import wait_until
from integration.ways import Way

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    yield from ordinary_user()


@pytest.fixture
def job(way: Way) -> Iterator[Job]:
    place = way.home / "job"
    yield Job(way, place, way.home / "artifacts")
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(way.home / "artifacts", ignore_errors=True)


pytestmark = pytest.mark.ebpf


def test_a_command_that_passes_leaves_no_trace_and_no_artifact(job: Job) -> None:
    result = job.use("echo out; echo one > file")
    assert not result.has_failed, result.log
    assert (result.outputs["exit-code"], result.outputs["kept"]) == ("0", "false")
    assert {result.outputs[name] for name in ("complete", "events", "trace-path", "artifact-url", "last-change")} == {
        ""
    }
    assert sorted(path.name for path in job.workspace.iterdir()) == ["file"]
    assert job.uploaded() == []
    assert "out\n" in result.steps["record"].log
    assert result.summary == "## diffkeeper: exit 0\n\nNo trace is kept.\n"


def test_a_command_that_fails_leaves_its_trace_its_exit_code_and_a_summary(job: Job) -> None:
    result = job.use("for n in $(seq 20); do echo $n >> log; done; echo last > status.log; exit 3")
    assert result.has_failed
    assert result.last.exit_code == 3
    failing = [name for name, step in result.steps.items() if step.conclusion == "failure"]
    assert failing == [list(result.steps)[-1]]
    outputs = result.outputs
    assert (outputs["exit-code"], outputs["kept"], outputs["complete"], outputs["lost-events"]) == (
        "3", "true", "true", "0",
    )  # fmt: skip
    assert int(outputs["events"]) > 22
    assert outputs["trace-path"] == str(job.trace)
    assert re.match(r"\[00m:0\ds\] WRITE +status.log \(5B\) +@\d+ +00:0\d\.\d{3}  bash\[\d+\]$", outputs["last-change"])
    (artifact,) = job.uploaded()
    assert outputs["artifact-url"].endswith(artifact.name)
    with Trace.open(artifact) as trace:
        assert (trace.info().exit_code, trace.info().is_complete) == (3, True)
    assert "## diffkeeper: exit 3" in result.summary
    assert "**The trace is complete.**" in result.summary
    assert result.summary.count("\n[00m:") == 10
    assert "<-- last change before exit 3" in result.summary
    assert (
        f"gh run download 77 --repo someone/something --name {artifact.name} --dir diffkeeper-trace" in result.summary
    )
    assert result.outputs["artifact-url"] in result.summary


def test_the_command_is_the_users_and_so_are_its_files_and_the_trace(job: Job) -> None:
    (job.way.home / "bin-of-mine").mkdir(exist_ok=True)
    tool = job.way.home / "bin-of-mine" / "tool-of-mine"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    for path in (tool, tool.parent):
        os.chown(path, job.way.identity["user"], job.way.identity["group"])
    result = job.use("id -u; id -G; echo $PATH $HOME $MARK; tool-of-mine; pwd; env > environment; exit 1")
    ids = [str(job.way.identity["user"]), " ".join(map(str, job.way.identity["extra_groups"]))]
    expected = [*ids, f"{job.runner.environment['PATH']} {job.way.home} mine", "found", str(job.workspace)]
    assert "\n".join(expected) in result.steps["record"].log
    variables = dict(line.partition("=")[::2] for line in (job.workspace / "environment").read_text().splitlines())
    added = {"GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP", "PWD", "SHLVL", "_"}
    assert variables.keys() - job.runner.environment.keys() <= added
    owners = {path.lstat().st_uid for path in job.workspace.rglob("*")}
    assert owners == {job.way.identity["user"]}


HOSTILE = """\
printf '%s\\n' "it's" '"quoted"' '$(touch injected)' '`touch injected`' '${{ github.token }}' 'a\\b' > said
printf x > '$(touch injected)'
printf x > '``` <img src=x onerror=alert(1)>'
printf x > $'## heading\\n::error::no\\n```'
printf x > '[link](javascript:alert(1)) **bold** <https:evil.example>'
cat > heredoc <<'END'
${{ secrets.TOKEN }} "$HOME" '
END
exit 9
"""


def test_a_hostile_command_runs_as_it_is_written_and_nothing_of_it_reaches_a_script_or_the_summary(job: Job) -> None:
    result = job.use(HOSTILE, exclude="heredoc\n", args="--mmap-interval '200ms'")
    assert (result.outputs["exit-code"], result.last.exit_code) == ("9", 9), result.log
    said = (job.workspace / "said").read_text().splitlines()
    assert said == ["it's", '"quoted"', "$(touch injected)", "`touch injected`", "${{ github.token }}", "a\\b"]
    assert (job.workspace / "heredoc").read_text() == '${{ secrets.TOKEN }} "$HOME" \'\n'
    assert "injected" not in os.listdir(job.workspace)
    tokens = MarkdownIt().parse(result.summary)
    kinds = [token.type for token in tokens]
    assert kinds.count("heading_open") == 1
    html = [token.content.strip() for token in tokens if token.type == "html_block"]
    assert all(re.fullmatch(r"</?(details|details open)>(<summary>[\w ]+</summary>)?", one) for one in html), html
    links = [child.attrGet("href") for token in tokens for child in token.children or () if child.type == "link_open"]
    assert links == [result.outputs["artifact-url"]]
    assert not [line for line in result.steps["report"].log.splitlines() if line.startswith("::")]
    assert "\n" not in result.outputs["last-change"]
    with Trace.open(job.trace) as trace:
        assert not [event for event in trace.timeline() if event.path == b"heredoc"]


@pytest.mark.parametrize(
    ("command", "signal"),
    [
        (": > begun; exec sleep 30", 2),
        ("trap '' INT; : > begun; exec sleep 30", 15),
        ("trap '' INT TERM; : > begun; while :; do echo beat >> beats; sleep 0.05; done", 9),
    ],
    ids=["SIGINT", "SIGTERM", "SIGKILL"],
)
def test_a_cancelled_job_keeps_a_readable_trace(job: Job, command: str, signal: int) -> None:
    result = job.use(command, cancel=lambda: wait_until((job.workspace / "begun").exists), exclude="secret")
    (job.workspace / "beats").unlink(missing_ok=True)
    assert result.steps["record"].outcome == "cancelled"
    assert result.outputs["kept"] == "true", result.log
    assert trace_state(job.trace) == "sealed"
    assert not (job.trace / "journal").exists()
    assert read_session(job.trace).wait_status == (None if signal == 9 else signal)
    (artifact,) = job.uploaded()
    with Trace.open(artifact) as trace:
        assert "begun" in {os.fsdecode(event.path) for event in trace.timeline()}
        assert trace.info().is_complete is (signal != 9)
    assert ("the recorder was killed" in result.summary) is (signal == 9)
    assert (result.outputs["exit-code"], result.last.exit_code) == (
        ("", 125) if signal == 9 else (str(128 + signal), 128 + signal)
    )


def test_jobs_of_a_matrix_and_uses_in_one_job_upload_under_names_of_their_own(way: Way, job: Job) -> None:
    other = Job(way, way.home / "other", way.home / "artifacts", strategy={"job-index": 1, "job-total": 2})
    try:
        for one in (job, job, other):
            assert one.use("exit 1").outputs["artifact-url"]
    finally:
        shutil.rmtree(other.place)
    names = [path.name for path in job.uploaded()]
    assert len(names) == 3
    assert all(re.fullmatch(r"diffkeeper-trace-test---matrix(-1)?-1-\w{6}", name) for name in names), names


def test_a_name_that_is_taken_costs_the_upload_and_nothing_else(job: Job) -> None:
    job.use("exit 1", artifact_name="mine")
    result = job.use("exit 4", artifact_name="mine")
    assert (result.steps["upload"].outcome, result.last.exit_code) == ("failure", 4)


def test_inputs_reach_the_recorder(job: Job) -> None:
    for folder in ("here", "there", "else"):
        (job.workspace / folder).mkdir()
        os.chown(job.workspace / folder, job.way.identity["user"], job.way.identity["group"])
    result = job.use(
        "for d in here there else; do echo x > $d/file; echo x > $d/left.out; done",
        watch="here\nthere\n",
        exclude="*.out\n",
        keep="always",
        state_dir="deep/trace",
        upload="false",
        summary="false",
        args="--baseline index --no-verify",
    )
    assert not result.has_failed, result.log
    assert (result.outputs["trace-path"], result.outputs["artifact-url"]) == (str(job.workspace / "deep/trace"), "")
    assert (result.summary, job.uploaded()) == ("", [])
    facts = read_session(job.workspace / "deep" / "trace")
    assert (facts.baseline, facts.verification, [root.label for root in facts.roots]) == (
        "index",
        "off",
        ["here", "there"],
    )
    with Trace.open(job.workspace / "deep" / "trace") as trace:
        assert {event.path for event in trace.timeline(ops="create")} == {b"here/file", b"there/file"}


@pytest.mark.parametrize(
    ("inputs", "command", "code"),
    [
        ({"timeout": "300ms"}, "sleep 20", 124),
        ({"strict": "true", "keep": "always"}, "echo x > f", 0),
        ({"shell": "sh"}, 'test -z "$BASH_VERSION" || exit 1; exit 5', 5),
        ({"shell": "python3 -I {0} 'a b'"}, "import sys; sys.exit(6 if sys.argv[1:] == ['a b'] else 1)", 6),
        ({}, "false; true", 1),
        ({}, "false | true", 1),
        ({"shell": "nonsense"}, "true", 125),
        ({"keep": "sometimes"}, "true", 125),
        ({"best-effort": "false", "watch": "missing"}, "touch began", 125),
        ({"working-directory": "sub"}, 'test "$(basename "$PWD")" = sub && exit 8', 8),
    ],
    ids=str,
)
def test_the_exit_code_is_the_commands_or_says_what_was_wrong(
    job: Job, inputs: dict[str, str], command: str, code: int
) -> None:
    (job.workspace / "sub").mkdir()
    os.chown(job.workspace / "sub", job.way.identity["user"], job.way.identity["group"])
    result = job.runner.use(job.action, {"command": command, **inputs})
    assert result.last.exit_code == code, result.log
    assert not (job.workspace / "began").exists()


def test_attempts_upload_both_traces(job: Job) -> None:
    script = 'n=$(cat n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > n; test "$n" != 3'
    result = job.use(script, args="--until-fail")
    assert (result.outputs["exit-code"], result.outputs["trace-path"]) == ("1", str(job.trace / "attempt-3"))
    (artifact,) = job.uploaded()
    assert sorted(path.name for path in artifact.iterdir()) == ["attempt-2", "attempt-3", "attempts.json"]


def test_a_former_trace_is_not_taken_for_this_one(job: Job) -> None:
    job.use("exit 1", upload="false")
    result = job.use("exit 0")
    assert (result.outputs["kept"], job.uploaded()) == ("false", [])


@pytest.mark.parametrize(("best_effort", "code", "is_run"), [("true", 7, True), ("false", 1, False)])
def test_a_job_is_not_lost_where_diffkeeper_cannot_be_installed(
    way: Way, best_effort: str, code: int, is_run: bool
) -> None:
    job = Job(way, way.home / "bare", way.home / "artifacts", installed=False)
    shutil.rmtree(job.action)
    copy_of_action(ROOT, job.action)  # nothing to install beside it
    job.runner.environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    try:
        result = job.use("touch ran; exit 7", best_effort=best_effort)
        assert result.has_failed
        assert (job.workspace / "ran").exists() is is_run
        assert result.last.exit_code == (code if is_run else 125), result.log
        assert ("::warning::diffkeeper could not be installed" in result.log) is is_run
        assert result.outputs["kept"] == "false" if is_run else True
    finally:
        shutil.rmtree(job.place)


def test_the_action_has_the_inputs_and_outputs_that_the_documents_name() -> None:
    assert list(ACTION["inputs"]) == [
        "command", "state-dir", "shell", "working-directory", "watch", "exclude", "keep", "timeout", "best-effort",
        "strict", "upload", "artifact-name", "retention-days", "summary", "version", "args",
    ]  # fmt: skip
    assert list(ACTION["outputs"]) == [
        "exit-code", "kept", "complete", "events", "lost-events", "trace-path", "artifact-url", "last-change",
    ]  # fmt: skip
    defaults = {name: one["default"] for name, one in ACTION["inputs"].items() if one.get("default")}
    assert defaults == {
        "state-dir": "diffkeeper-trace", "shell": "bash", "working-directory": ".", "keep": "on-failure",
        "best-effort": "true", "strict": "false", "upload": "true", "summary": "true",
    }  # fmt: skip


def test_no_input_stands_in_a_script_and_every_action_is_pinned_by_commit() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) if "uses" in step else True
    used = json.dumps(ACTION["runs"])
    assert [name for name in ACTION["inputs"] if f"inputs.{name}" not in used] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.a", "1"),
        ("always() && inputs.a != 'false'", True),
        ("inputs.a == '1' && inputs.b || 'it''s'", "it's"),
        ("(inputs.b || inputs.a) != '1'", False),
    ],
)
def test_the_simulated_runner_evaluates_what_the_action_uses(text: str, value: object) -> None:
    known = {"inputs.a": "1", "inputs.b": "", "always()": True}
    assert Expression(text, known.__getitem__).value() == value


def test_without_sudo_the_job_is_recorded_less_exactly_and_that_is_said(job: Job) -> None:
    with job.way.asked_for_password("nobody types it"):
        result = job.use("echo one > file; sleep 0.3; echo two > file; exit 6")
    assert (result.outputs["exit-code"], result.last.exit_code) == ("6", 6), result.log
    assert (result.outputs["kept"], result.outputs["complete"]) == ("true", "false")
    assert "sudo wants a password" in result.steps["record"].log
    assert read_session(job.trace).engine == "watch"
    assert "**The trace is not complete.** Recorded with `watch`" in result.summary
    assert {path.lstat().st_uid for path in job.workspace.rglob("*")} == {job.way.identity["user"]}


def test_without_sudo_and_without_best_effort_the_command_does_not_run(job: Job) -> None:
    with job.way.asked_for_password("nobody types it"):
        result = job.use("touch ran", best_effort="false")
    assert (result.outputs["kept"], result.last.exit_code) == ("false", 125)
    assert not (job.workspace / "ran").exists()
    assert "not recorded" in result.summary


def test_a_command_that_cannot_be_recorded_at_all_runs_and_its_exit_code_is_told(job: Job) -> None:
    result = job.use("touch ran; exit 5", watch="missing")
    assert (result.outputs["exit-code"], result.outputs["kept"], result.last.exit_code) == ("5", "false", 5), result.log
    assert (job.workspace / "ran").exists()
    assert result.summary == "## diffkeeper: exit 5\n\nIt was not recorded; the step's log says why.\n"
