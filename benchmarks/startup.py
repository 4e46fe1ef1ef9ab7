"""Measure the start and end of a recording: sudo python benchmarks/startup.py [runs].

First `record -- true` in an empty folder against plain `true`, wall and CPU of all processes; then its stages as the
recorder meets them, and what the helper does meanwhile. Medians, and the least of all runs in brackets.
"""

from __future__ import annotations

import compileall
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
STAGES = (
    "start the helper",
    "import the command line",
    "ask for the capture",
    "import the rest",
    "open the store",
    "await the helper",
    "baseline and adopt",
    "start the command",
    "command",
    "drain",
    "processing",
    "seal",
    "tell",
)
STAGED = """
import sys, time; sys.path.insert(0, sys.argv.pop(1)); began = time.perf_counter()
from diffkeeper import helper_start
helper_start.ahead(sys.argv[1:])
marks = [("start the helper", time.perf_counter() - began)]
def mark(name): marks.append((name, time.perf_counter() - began))
def marked(owner, function, name):
    plain = getattr(owner, function)
    def wrapper(*args, **keywords):
        try: return plain(*args, **keywords)
        finally: mark(name)
    setattr(owner, function, wrapper)
from diffkeeper import cli
from diffkeeper.cli import record_cmd
from diffkeeper import recording_session as session, recording_journal as journal, supervise
from diffkeeper.engines.ebpf import EbpfEngine
mark("import the command line")
marked(EbpfEngine, "begin", "ask for the capture")
marked(session, "_import_what_comes_next", "import the rest")
marked(journal.RingJournal, "open_store", "open the store")
marked(EbpfEngine, "wait_until_started", "await the helper")
marked(EbpfEngine, "adopt", "baseline and adopt")
marked(session.Session, "_release", "start the command")
marked(supervise.Supervision, "wait", "command")
marked(journal.RingJournal, "stop", "drain")
marked(journal.RingJournal, "process", "processing")
marked(session.Session, "_seal", "seal")
code = cli.run(sys.argv[1:])
mark("tell")
import json; print(json.dumps(marks)); sys.exit(code)
"""
RECORD = ["record", "-q", "--", "true"]
MAIN = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from diffkeeper.__main__ import main; main()"


def run(command: Sequence[str]) -> tuple[float, float, str]:
    """Run a command in an empty folder; return wall and CPU milliseconds and its output."""
    with tempfile.TemporaryDirectory() as folder:
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1e3, cpu * 1e3, done.stdout


def stages() -> Iterator[tuple[str, float]]:
    """Yield the stages of one recording and their milliseconds."""
    _, _, output = run([sys.executable, "-c", STAGED, str(SOURCE), *RECORD])
    former = 0.0
    for name, at in json.loads(output.splitlines()[-1]):
        yield name, (at - former) * 1e3
        former = at


def show(name: str, values: Sequence[float], unit: str = "ms") -> None:
    """Print a median and a least value."""
    print(f"{name:36} {statistics.median(values):7.1f} {unit}   ({min(values):.1f})")


def main(runs: int) -> None:
    """Print everything."""
    compileall.compile_dir(SOURCE, quiet=2)
    for name, command in (
        ("true", ["true"]),
        ("python -c pass", [sys.executable, "-c", "pass"]),
        ("diffkeeper --help", [sys.executable, "-c", MAIN, "--help"]),
        ("diffkeeper record -- true", [sys.executable, "-c", MAIN, *RECORD]),
    ):
        measured = [run(command) for _ in range(runs)]
        show(f"{name}, wall", [wall for wall, _, _ in measured])
        show(f"{name}, CPU", [cpu for _, cpu, _ in measured])
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(runs):
        for name, taken in stages():
            spent[name].append(taken)
    print()
    for name in STAGES:
        show(name, spent[name])


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
