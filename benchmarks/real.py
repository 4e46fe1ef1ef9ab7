"""Real programs, recorded and not: the commands are those of tests/oracle/workloads.toml."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.micro import PROGRAMS
from benchmarks.pairs import Spread, interleaved, ratios, spread
from benchmarks.report import Limit, Section
from benchmarks.run import FailedError, Place, Run, record, run
from oracle.workloads import CACHE, Workload, environment, load_workloads

CHOSEN = {
    "suite": "a project's pytest suite",
    "pip": "venv and pip install from local wheels",
    "git": "git clone, checkout, commits, rebase, gc",
    "build": "make -j2 of a C library, twice",
    "tar": "tar x of 10,000 files",
    "sqlite": "SQLite without sync: 200 rounds of transactions, cuts and copies",
    "commits": "SQLite, 1,000 inserts with a commit each",
    "postgres": "PostgreSQL: initdb and pgbench",
    "npm": "npm install of 100 packages",
}
QUICK = ("suite", "git", "commits")
OWN = {"commits": Workload("commits", f'"$PYTHON" "{PROGRAMS}/commits.py" 1000')}
MOST_RATIO = 1.05
HEAD = (
    "what", "plain", "ratio of the command", "ratio from start to end", "ratio of CPU time", "changes", "bytes written",
    "trace", "lost, inexact, held",
)  # fmt: skip
TEXT = (
    "The command alone is what runs while it is recorded; from start to end has the start of the recorder, processing"
    " and the check at the end in it, which a short command does not make up for. CPU time is of all processes from"
    " start to end, the recorder's included."
)
_SEED = 1
_LIMIT_S = 900


def measure(place: Place, pairs: int, names: tuple[str, ...] = tuple(CHOSEN)) -> Section:
    """Measure the workloads; one that cannot run here has the reason in its row."""
    section = Section("real", HEAD, TEXT)
    workloads = load_workloads() | OWN
    for name in names:
        try:
            _measure_one(section, workloads[name], place, pairs)
        except FailedError as error:
            section.add(CHOSEN[name], f"skipped: {error}", *[""] * (len(HEAD) - 2))
    return section


def _measure_one(section: Section, workload: Workload, place: Place, pairs: int) -> None:
    """Measure one. Raises FailedError."""
    if obstacle := workload.obstacle():
        raise FailedError(obstacle)
    rounds = interleaved(pairs, lambda: _run(workload, place), lambda: _run(workload, place, is_recorded=True))
    command, all_of_it = ratios(rounds, _command), ratios(rounds, _wall)
    last = rounds[-1][1]
    section.add(
        CHOSEN[workload.name],
        f"{spread(rounds, _wall).median:.2f} s",
        command.text(),
        all_of_it.text(),
        ratios(rounds, _cpu).text(),
        f"{last.counted('changes'):,}",
        f"{last.counted('bytes') / 1e6:.1f} MB",
        f"{last.trace_bytes / 1e6:.1f} MB",
        "; ".join(sorted({each[1].faults() for each in rounds})),
    )
    section.limits.append(_limit(workload.name, command, all_of_it))


def _limit(name: str, command: Spread, all_of_it: Spread) -> Limit:
    said = f"{command.text()}×; from start to end {all_of_it.median:.2f}×"
    return Limit(CHOSEN[name], f"{MOST_RATIO}×", said, command.median <= MOST_RATIO)


def recorded(workload: Workload, place: Place) -> Run:
    """Record one. Raises FailedError."""
    return _run(workload, place, is_recorded=True)


def _run(workload: Workload, place: Place, *, is_recorded: bool = False) -> Run:
    """Prepare a fresh folder and run the command there. Raises FailedError."""
    place.clear()
    CACHE.mkdir(exist_ok=True, parents=True)
    surroundings = environment(place.root, place.scratch, _SEED)
    for script in (workload.fetch, workload.prepare):
        _shell(script, place.root, surroundings)
    _shell("sync", place.root, surroundings)
    command = ["sh", "-e", "-c", workload.command]
    return record(command, place, surroundings) if is_recorded else run(command, place.root, surroundings)


def _shell(script: str, folder: Path, surroundings: Mapping[str, str]) -> None:
    """Run what is not measured. Raises FailedError."""
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=folder, env=surroundings, capture_output=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise FailedError(f"its preparation ended with {done.returncode}")


def _command(done: Run) -> float:
    return done.command_s


def _wall(done: Run) -> float:
    return done.wall_s


def _cpu(done: Run) -> float:
    return done.cpu_s
