"""The snippets for CI in the documents: they are run, in the simulated runner or as GitLab's runner would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from action.job import Job, ordinary_user
from diffkeeper.store.format import read_session
from diffkeeper.trace import Trace
from docs.documents import blocks
from integration.ways import Way

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
pytestmark = pytest.mark.ebpf


def _snippets() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DOCUMENTS:
        for number, block in enumerate(block for block in blocks(path.read_text()) if block.language == "yaml"):
            yield f"{path.relative_to(ROOT)}-{number}", yaml.safe_load(block.text)


def _uses() -> Iterator[tuple[str, dict[str, str]]]:
    for name, document in _snippets():
        for job in document.get("jobs", {}).values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("OWNER/diffkeeper@"):
                    yield name, step["with"]


GITLAB = [(name, document) for name, document in _snippets() if "include" in document]


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    yield from ordinary_user()


def _with_demo(way: Way, place: Path) -> Job:
    job = Job(way, place, way.home / "artifacts")
    shutil.copytree(ROOT / "demo", job.workspace / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    python = way.home / "bin-of-mine" / "python"
    python.parent.mkdir(exist_ok=True)
    if not python.is_symlink():
        python.symlink_to("/usr/bin/python3")
    for path in (job.workspace, *job.workspace.rglob("*"), python.parent):
        os.chown(path, way.identity["user"], way.identity["group"])
    return job


@pytest.mark.parametrize(("name", "inputs"), list(_uses()), ids=lambda one: one if isinstance(one, str) else "")
def test_a_snippet_for_github_records_the_flaky_test_and_uploads_its_trace(
    way: Way, name: str, inputs: dict[str, Any]
) -> None:
    job = _with_demo(way, way.home / "job")
    try:
        given = {key: re.sub(r"\$\{\{ matrix\.\w+ \}\}", "3.12", str(value)) for key, value in inputs.items()}
        result = job.runner.use(job.action, given)
        assert (result.outputs["exit-code"], result.last.exit_code) == ("1", 1), result.log
        assert result.outputs["complete"] == "true"
        assert "WRITE    status.log (22B)" in result.outputs["last-change"]
        (artifact,) = job.uploaded()
        with Trace.open(artifact) as trace:
            assert trace.info().exit_code == 1
    finally:
        shutil.rmtree(job.place)
        shutil.rmtree(way.home / "artifacts")


def test_the_snippets_are_found() -> None:
    assert len(list(_uses())) >= 3
    assert len(GITLAB) == 1


@pytest.mark.parametrize(
    ("command", "code"), [(None, 1), ("true", 0), ("echo \"a  'b'\" > f; grep -q \"^a  'b'\" f; exit 3", 3)], ids=str
)
def test_the_template_for_gitlab_records_a_job_as_the_snippet_says(way: Way, command: str | None, code: int) -> None:
    template = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".diffkeeper"]
    ((_, document),) = GITLAB
    snippet = next(job for name, job in document.items() if name != "include")
    assert snippet["extends"] == ".diffkeeper"
    variables = {**template["variables"], **{key: one["value"] for key, one in snippet["variables"].items()}}
    if command is not None:
        variables["RECORDED_COMMAND"] = command
    job = _with_demo(way, way.home / "job")
    variables |= {"DIFFKEEPER_HOME": str(job.temp / "diffkeeper" / "environment-checkout"), "CI_JOB_ID": "1"}
    environment = {**job.runner.environment, **variables}

    def shell(lines: list[str]) -> int:  # one shell, which ends with the first line that fails
        script = "set -e\n" + "\n".join(lines)
        return subprocess.run(
            ["sh", "-c", script], cwd=job.workspace, env=environment, check=False, **job.way.identity
        ).returncode

    try:
        assert shell([*template["before_script"], *template["script"]]) == code
        assert shell(template["after_script"]) == 0
        assert template["artifacts"]["when"] == "always"
        kept = [path for pattern in template["artifacts"]["paths"] for path in job.workspace.glob(pattern)]
        assert len(kept) == (1 if code else 0)
        if kept:
            assert read_session(kept[0]).exit_code == code
    finally:
        shutil.rmtree(job.place)
