"""How long it takes to ask a long trace: the timeline, filters, the state at a moment, and exports beside cp -a.

The traces are made up (traces.py): nothing is recorded, so that this needs no rights and no kernel of a kind.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.pairs import Spread, interleaved, ratios
from benchmarks.report import Limit, Section
from benchmarks.run import FailedError, Place, Run, diffkeeper, run
from benchmarks.traces import make_trace, make_tree_trace
from diffkeeper.trace import Trace

HEAD = ("what", "measured", "of what")
TEXT = (
    "Medians, least and greatest in brackets; each is a whole command, from its start. The traces are made by"
    " `python -m benchmarks.traces`: a build of 3,000 files that goes on and on. A state is the mean over moments"
    " spread over the trace, each time with the trace opened anew in the same process."
)
LENGTHS = (10_000, 100_000, 1_000_000, 10_000_000)
TIMED = 1_000_000  # the length that the limits are about
MOMENTS = 8
SMALL_FILES = 50_000
LARGE_FILES, LARGE_BYTES = 10, 500_000_000
MIB = 1 << 20
ONE = "module_3/unit_103.o"


def measure(place: Place, pairs: int, divisor: int) -> Section:
    """Measure all; one that fails says so in its row."""
    section = Section("queries", HEAD, TEXT)
    place.clear()
    timed = place.scratch / "timed"
    make_trace(timed, TIMED // divisor)
    _attempt(section, "timeline", lambda: _timeline(section, timed, pairs, TIMED // divisor))
    _attempt(section, "state at a moment", lambda: _states(section, place, pairs, divisor))
    small = [size for number in range(SMALL_FILES // divisor) for size in (_small_size(number),)]
    large = [LARGE_BYTES // divisor] * LARGE_FILES
    for what, sizes in ((f"{len(small):,} small files", small), (f"{sum(large) / 1e9:.2g} GB in large files", large)):
        _attempt(section, f"export of {what}", partial(_export, section, place, pairs, what, sizes))
    return section


def _attempt(section: Section, what: str, measurement: Callable[[], None]) -> None:
    try:
        measurement()
    except FailedError as error:
        section.add(what, f"failed: {error}", "")


def _put(section: Section, what: str, aim: str, measured: str, of_what: str, is_met: bool) -> None:
    section.add(what, measured, of_what)
    section.limits.append(Limit(what, aim, measured, is_met))


def first_and_all(command: list[str]) -> tuple[float, float]:
    """Return after how many seconds the first line came, and all of them."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout, "it is a pipe"
    os.read(child.stdout.fileno(), 1)
    first = time.perf_counter() - began
    while os.read(child.stdout.fileno(), MIB):
        pass
    child.wait()
    return first, time.perf_counter() - began


def _timeline(section: Section, trace: Path, pairs: int, count: int) -> None:
    taken = [first_and_all(diffkeeper("timeline", "-s", str(trace))) for _ in range(pairs)]
    for what, limit, values in (("first line", 0.3, [a for a, _ in taken]), ("all", 3.0, [b for _, b in taken])):
        shown = Spread(tuple(values))
        name = f"timeline of 1,000,000 events, {what}"
        _put(section, name, f"{limit} s", f"{shown.text()} s", f"{count:,} events", shown.median <= limit)
    middle = count // 2
    asked = {
        "of a path": (["timeline", "--path", ONE], 0.5),
        "of a tenth of a second": (["timeline", "--since", f"@{middle}", "--until", f"@{middle + 3_000}"], 0.5),
        "of a glob that matches nothing": (["timeline", "--path", "no/such/*.file"], 0.5),
        "the last 20": (["timeline", "--last", "20"], 0.5),
    }
    for what, (words, limit) in asked.items():
        shown = _seconds(words, trace, pairs)
        name = f"timeline of 1,000,000 events, {what}"
        _put(section, name, f"{limit} s", f"{shown.text()} s", f"{count:,} events", shown.median <= limit)
    shown = _seconds(["info"], trace, pairs)
    section.add("info", f"{shown.text()} s", f"{count:,} events")


def _seconds(words: list[str], trace: Path, pairs: int) -> Spread:
    def once() -> float:
        began = time.perf_counter()
        command = diffkeeper(words[0], "-q", "-s", str(trace), *words[1:])
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        if done.returncode > 1:  # 1: nothing matches
            raise FailedError(done.stderr.decode(errors="replace")[-300:])
        return time.perf_counter() - began

    return Spread(tuple(once() for _ in range(pairs)))


def _states(section: Section, place: Place, pairs: int, divisor: int) -> None:
    means: dict[int, float] = {}
    for length in LENGTHS:
        trace = place.scratch / f"trace{length}"
        make_trace(trace, length // divisor)
        taken = Spread(tuple(mean_of_states(trace) for _ in range(pairs)))
        means[length] = taken.median
        section.add(
            "state at a moment", f"{taken.text(3)} s of CPU time", f"{length // divisor:,} events, {MOMENTS} moments"
        )
        shutil.rmtree(trace)
    # The shortest trace is shorter than the stretch between two saved trees.
    growth = means[LENGTHS[-1]] / means[LENGTHS[1]]
    what = f"state at a moment, {LENGTHS[-1]:,} events beside {LENGTHS[1]:,}"
    _put(section, what, "1.5×", f"{growth:.2f}×", "CPU time", growth <= 1.5)


def mean_of_states(trace: Path) -> float:
    """Return the seconds of CPU time that the state at a moment takes, the opening of the trace included."""
    with Trace.open(trace, base="") as opened:
        count = opened.extent.count
    began = time.process_time()
    for moment in range(MOMENTS):
        with Trace.open(trace, base="") as opened:
            opened.at(f"@{1 + count * (2 * moment + 1) // (2 * MOMENTS)}")
    return (time.process_time() - began) / MOMENTS


def _small_size(number: int) -> int:
    chance = random.Random(number)
    return chance.choice((0, 1, 100, 3000, 4096, 10_000)) if number % 100 else 300_000


def _export(section: Section, place: Place, pairs: int, what: str, sizes: list[int]) -> None:
    """Hold an export against a copy of the same tree: both read what is in memory, and take turns."""
    trace, source, out = place.scratch / "tree", place.scratch / "source", place.scratch / "out"
    for folder in (trace, source):
        shutil.rmtree(folder, ignore_errors=True)
    make_tree_trace(trace, sizes)
    command = diffkeeper("export", "-q", "-s", str(trace), "--out")
    run([*command, str(source)], place.scratch)

    def once(words: list[str]) -> Run:
        shutil.rmtree(out, ignore_errors=True)
        os.sync()
        return run(words, place.scratch)

    copy = ["cp", "-a", str(source), str(out)]
    rounds = interleaved(pairs, lambda: once(copy), lambda: once([*command, str(out)]))
    wall, cpu = ratios(rounds, lambda each: each.wall_s), ratios(rounds, lambda each: each.cpu_s)
    name = f"export, {what}"
    _put(section, name, "1.5×", f"{wall.text()}×", f"`cp -a`; {cpu.text()}× its CPU time", wall.median <= 1.5)
    for folder in (trace, source, out):
        shutil.rmtree(folder, ignore_errors=True)
