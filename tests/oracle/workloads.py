"""The workloads as data: what ``workloads.toml`` says, checked and ready to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("DIFFKEEPER_ORACLE_CACHE", "/tmp/diffkeeper-oracle-cache"))


@dataclass(frozen=True)
class Workload:
    """Hold one workload: shell commands that run in the watch root.

    ``prepare`` runs before recording, ``command`` is recorded. ``needs`` are programs that must exist, ``packages`` is
    what brings them; ``check`` is a command that fails where the workload cannot run; ``fetch`` fills the cache (by
    network). ``marked`` is why some of it may be marked as not exact: the marks are no fault then, being wrong where
    nothing is marked is one all the same. ``states`` is a file in its scratch folder in which the workload writes down
    itself what is true after each of its steps (stepwise.py).
    """

    name: str
    command: str
    prepare: str = ""
    fetch: str = ""
    needs: tuple[str, ...] = ()
    packages: str = ""
    check: str = ""
    marked: str = ""
    states: str = ""
    quick: bool = False
    why: str = ""

    def obstacle(self) -> str | None:
        """Return why it cannot be run here, or None."""
        missing = [program for program in self.needs if shutil.which(program) is None]
        if missing:
            return f"{', '.join(missing)} is not installed" + (f" ({self.packages})" if self.packages else "")
        if self.check and subprocess.run(["sh", "-c", self.check], capture_output=True, check=False).returncode != 0:
            return f"this fails here: {self.check}"
        return None


def load_workloads(path: Path = HERE / "workloads.toml") -> dict[str, Workload]:
    """Return all workloads by name."""
    with path.open("rb") as file:
        tables = tomllib.load(file)
    return {name: Workload(name, **{**table, "needs": tuple(table.get("needs", ()))}) for name, table in tables.items()}


def environment(root: Path, scratch: Path, seed: int) -> dict[str, str]:
    """Return the environment of a workload's commands: the same on every machine, and its home outside the root."""
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    person = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _PERSON.items()}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    return kept | person | {
        "HOME": str(home),
        "ROOT": str(root),
        "SCRATCH": str(scratch),
        "SEED": str(seed),
        "CACHE": str(CACHE),
        "PROGRAMS": str(HERE / "programs"),
        "PYTHON": sys.executable,
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip


_FOREIGN = ("GIT_", "PYTEST_", "SUDO_", "DIFFKEEPER_")
_PERSON = {"NAME": "Oracle", "EMAIL": "oracle@example.org"}
