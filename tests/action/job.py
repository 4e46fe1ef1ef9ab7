"""A job of an ordinary user who has sudo: its workspace, its runner, and the artifacts of its run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from action.runner import Result, Runner, copy_of_action
from integration.ways import CannotRunError, Way, ways

ROOT = Path(__file__).resolve().parents[2]


def ordinary_user() -> Iterator[Way]:
    """Yield an ordinary user who has sudo, whose secure_path is not the user's PATH; skip where none can be made."""
    with ways() as make:
        try:
            yield make("user")
        except CannotRunError as reason:
            if os.environ.get("DIFFKEEPER_REQUIRE_EBPF") == "1":
                pytest.fail(str(reason))
            pytest.skip(str(reason))


class Job:
    """Hold a job: a workspace, a runner, and the artifacts of the run that it belongs to."""

    def __init__(self, way: Way, place: Path, artifacts: Path, installed: bool = True, **settings: Any) -> None:
        self.way = way
        self.place = place
        self.workspace, self.temp = place / "workspace", place / "temp"
        for folder in (place, self.workspace, self.temp, artifacts):
            folder.mkdir(exist_ok=True)
            os.chown(folder, way.identity["user"], way.identity["group"])
        environment = {
            "PATH": f"{way.home}/bin-of-mine:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(way.home),
            "GITHUB_JOB": "test / matrix",
            "GITHUB_RUN_ID": "77",
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_REPOSITORY": "someone/something",
            "MARK": "mine",
        }
        self.runner = Runner(
            self.workspace, self.temp, artifacts, environment=environment, identity=way.identity, **settings
        )
        self.action = copy_of_action(ROOT, place / "the action")
        if installed:
            self._install()

    def _install(self) -> None:
        """Put there what the step that installs would find from an earlier use in this job."""
        programs = self.temp / "diffkeeper" / "environment-checkout" / "bin"
        programs.mkdir(parents=True)
        shutil.copy(self.way.prefix[0], programs / "diffkeeper")
        interpreter = Path(self.way.prefix[0]).read_text().splitlines()[0].removeprefix("#!").split()[0]
        (programs / "python").symlink_to(interpreter)
        (programs.parent / "ready").touch()
        for path in (self.temp / "diffkeeper", *(self.temp / "diffkeeper").rglob("*")):
            os.chown(path, self.way.identity["user"], self.way.identity["group"], follow_symlinks=False)

    def use(self, command: str, cancel: Any = None, **inputs: str) -> Result:
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        return self.runner.use(self.action, {"command": command, **given}, cancel)

    @property
    def trace(self) -> Path:
        return self.workspace / "diffkeeper-trace"

    def uploaded(self) -> list[Path]:
        return sorted(self.runner.artifacts.iterdir())
