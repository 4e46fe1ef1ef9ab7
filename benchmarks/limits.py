"""The limits that are not ratios of calls: start-up, rates held, processing, baseline, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import baseline
from benchmarks.micro import Loop, build
from benchmarks.pairs import Spread, differences, interleaved, spread
from benchmarks.report import Limit, Section
from benchmarks.run import FailedError, Place, Run, diffkeeper, record, run

HEAD = ("what", "measured", "of what")
TEXT = (
    "Medians, least and greatest in brackets. After the command means from the command's exit to that of `record`,"
    " less what a recording of nothing takes altogether."
)
MIB = 1 << 20


@dataclass(frozen=True)
class Rate:
    """Hold a rate of writes to hold for some seconds; ``text`` is how the limits name it."""

    text: str
    size: int
    per_second: int
    seconds: int


RATES = (
    Rate("1,000,000 writes of 16 B a second for 10 s, nothing lost", 16, 1_000_000, 10),
    Rate("200 MB/s of 4 KiB writes for 30 s, nothing lost", 4096, 200_000_000 // 4096, 30),
)


def measure(place: Place, pairs: int, divisor: int) -> Section:
    """Measure all; one that fails says so in its row."""
    section = Section("rest", HEAD, TEXT)
    program = build(place.home)
    idle = _start_up(section, place, pairs)
    for rate in RATES:
        _attempt(section, rate.text, partial(_sustain, section, rate, program, place, divisor, idle))
    _attempt(section, "baseline", lambda: _baseline(section, place, pairs, divisor))
    return section


def _attempt(section: Section, what: str, measurement: Callable[[], None]) -> None:
    try:
        measurement()
    except FailedError as error:
        section.add(what, f"failed: {error}", "")


def _put(section: Section, what: str, aim: str, measured: str, of_what: str, is_met: bool) -> None:
    section.add(what, measured, of_what)
    section.limits.append(Limit(what, aim, measured, is_met))


def _start_up(section: Section, place: Place, pairs: int) -> float:
    """Measure a recording of nothing and --help; return the seconds of the first."""

    def once(*command: str) -> Run:
        place.clear()
        return run(command, place.root)

    nothing = diffkeeper("record", "-q", "-s", str(place.trace), "--", "true")
    rounds = interleaved(pairs * 2, lambda: once("true"), lambda: once(*nothing), lambda: once(*diffkeeper("--help")))
    for way, what, limit in ((1, "record -- true", 250), (2, "--help", 120)):
        more = differences(rounds, lambda each: each.wall_s * 1e3, way)
        _put(section, what, f"{limit} ms more", f"{more.text(0)} ms", "more than `true`", more.median <= limit)
    return spread(rounds, lambda each: each.wall_s, 1).median


def _sustain(section: Section, rate: Rate, program: Path, place: Place, divisor: int, idle: float) -> None:
    """Write at a rate once, and tell what was held, what was lost, and how long the rest took."""
    place.clear()
    count = rate.per_second * rate.seconds // divisor
    words = ["pace", str(rate.size), str(count), "1", str(rate.per_second)]
    plain = Loop.of(run([str(program), *words], place.root))
    place.clear()
    done = record([str(program), *words], place)
    reached, possible = 1e9 / Loop.of(done).each_ns, 1e9 / plain.each_ns
    held = done.counted("held_us") / 1e6 / done.command_s
    said = (
        f"{count:,} at {reached:,.0f}/s ({possible:,.0f}/s unrecorded), {done.lost:,} lost, held {held:.1%} of the time"
    )
    is_met = reached >= 0.95 * min(rate.per_second, possible) and not done.lost and held <= 0.05
    _put(section, rate.text, "held ≤ 5 %", said, f"{count:,} writes", is_met and possible >= 0.95 * rate.per_second)
    _put_rest(section, rate, done, idle)


def _put_rest(section: Section, rate: Rate, done: Run, idle: float) -> None:
    """Tell what processing after the command came to, and the memory."""
    after = max(done.wall_s - done.command_s - idle, 1e-3)
    if rate.size < 4096:
        speed, limit, unit = done.counted("events") / after, 200_000, "events/s"
    else:
        speed, limit, unit = done.counted("bytes") / after / 1e6, 200, "MB/s"
    what = f"processing, {rate.size} B writes"
    _put(section, what, f"{limit:,} {unit}", f"{speed:,.0f} {unit}", _spent(after, done), speed >= limit)
    memory = done.largest_bytes / MIB
    what = f"memory of the largest process, {rate.size} B writes"
    _put(section, what, "256 MiB", f"{memory:,.0f} MiB", "the ring and mapped files counted", memory <= 256)


def _spent(after: float, done: Run) -> str:
    return f"{after:.1f} s after the command; {done.cpu_s:.1f} s of CPU time for all of it"


def _rates(place: Place, pairs: int, files: int, size: int) -> Iterator[float]:
    root = place.scratch / "tree"
    baseline.make_tree(root, files, size)
    for number in range(pairs + 1):
        trace = place.scratch / f"baseline{number}"
        trace.mkdir()
        taken = baseline.take(trace, root, "touched")
        if number:  # the first warms the cache
            yield files / taken


def _baseline(section: Section, place: Place, pairs: int, divisor: int) -> None:
    for what, size in (("small, copied", baseline.SMALL), ("large, leased", baseline.LARGE)):
        place.clear()
        files = (100_000 if size == baseline.SMALL else 20_000) // divisor
        speed = Spread(tuple(_rates(place, pairs, files, size)))
        name = f"index and before-images, files {what}"
        said = f"{speed.text(0)} files/s"
        _put(section, name, "100,000 files/s", said, f"{files:,} files of {size:,} B", speed.median >= 100_000)
