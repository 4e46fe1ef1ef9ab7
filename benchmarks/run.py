"""Run a command in a fresh folder, plainly or recorded, and tell what that took."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src"
_LOST = ("lost_ring", "lost_table", "lost_recursion", "lost_queue", "lost_probe", "lost_decode")


class FailedError(Exception):
    """Report that a command did not run, and what it said."""


@dataclass(frozen=True)
class Run:
    """Hold what one run took; ``summary`` is what ``record --json`` says, empty for a plain one.

    ``largest_bytes`` is the memory of the largest of its processes, those that it waited for included.
    """

    wall_s: float
    cpu_s: float
    largest_bytes: int
    output: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    trace_bytes: int = 0

    @property
    def command_s(self) -> float:
        """Return the seconds of the command itself."""
        return self.summary["duration_ns"] / 1e9 if self.summary else self.wall_s

    @property
    def lost(self) -> int:
        """Return how many events were lost."""
        return sum(self.counted(name) for name in _LOST)

    def counted(self, name: str) -> int:
        """Return one of the recording's counters."""
        return int(self.summary["counters"].get(name, 0))

    def faults(self) -> str:
        """Return what is not as it should be, in few words."""
        counts = {"lost": self.lost} | {
            name: self.counted(name) for name in ("inexact", "unknown", "ambiguous", "unexplained", "resynced", "held")
        }
        said = [f"{count:,} {name}" for name, count in counts.items() if count]
        if not self.summary["complete"]:
            said += ["not complete", *map(str, [*self.summary["failures"], *self.summary["defects"]])]
        return ", ".join(said) or "none"


@dataclass
class Place:
    """Own a folder that has the root, the trace, and what must be outside of both."""

    home: Path

    @classmethod
    def make(cls, below: Path) -> Place:
        """Make one; close() removes it."""
        return cls(Path(tempfile.mkdtemp(prefix="diffkeeper-bench-", dir=below)))

    @property
    def root(self) -> Path:
        """Return the folder that is watched."""
        return self.home / "root"

    @property
    def trace(self) -> Path:
        """Return where traces go."""
        return self.home / "trace"

    @property
    def scratch(self) -> Path:
        """Return a folder outside of the root."""
        return self.home / "scratch"

    def clear(self) -> None:
        """Empty all; what is dirty is written first, or the next run would pay for it."""
        for folder in (self.root, self.trace, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        self.root.mkdir()
        self.scratch.mkdir()
        os.sync()

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.home, ignore_errors=True)


def diffkeeper(*arguments: str, source: Path = SOURCE) -> list[str]:
    """Return the command line of a diffkeeper command; ``source`` may be another checkout's, beside its .venv."""
    python = source.parent / ".venv/bin/python"
    return [str(python) if python.exists() else sys.executable, "-m", "diffkeeper", *arguments]


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end. Raises FailedError."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=errors)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)  # wait4 has taken it away from Popen
        output.seek(0)
        errors.seek(0)
        said, complaint = output.read().decode(errors="replace"), errors.read().decode(errors="replace")
    if child.returncode:
        raise FailedError(f"{' '.join(map(str, command))[:300]} ended with {child.returncode}: {complaint[-500:]}")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, said, _summary(complaint))


def _summary(errors: str) -> dict[str, Any]:
    """Return the summary of a recording that stands last in its standard error; empty if there is none."""
    last = errors.rstrip().rsplit("\n", 1)[-1]
    return json.loads(last) if last.startswith('{"v"') else {}


def record(
    command: Sequence[str], place: Place, environment: Mapping[str, str] | None = None, source: Path = SOURCE
) -> Run:
    """Record a command in the place's root. Raises FailedError."""
    options = ["--json", "--force", "--state-dir", str(place.trace), "--watch", "."]
    patient = {**(os.environ if environment is None else environment), "DIFFKEEPER_PROCESS": "now"}
    done = run([*diffkeeper("record", *options, "--", *command, source=source)], place.root, patient)
    size = sum(entry.stat().st_blocks * 512 for entry in place.trace.rglob("*") if entry.is_file())
    return Run(done.wall_s, done.cpu_s, done.largest_bytes, done.output, done.summary, size)
