"""Single calls in a loop of C, recorded and not: what is added to each, inside and outside of the recorded tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.pairs import Spread, differences, interleaved, ratios, spread
from benchmarks.report import Limit, Section
from benchmarks.run import SOURCE, FailedError, Place, Run, diffkeeper, record, run

PROGRAMS = Path(__file__).parent / "programs"
HEAD = ("what", "times", "plain", "recorded", "ratio", "ratio of CPU time", "lost, inexact, held")
TEXT = (
    "Nanoseconds of wall time each, as the loop itself measures them: the start and end of the recording are not in"
    " it. A ratio is the median over pairs, least and greatest in brackets; CPU time is that of the process in the"
    " loop, so it does not show what the recorder takes on the other processor."
)


@dataclass(frozen=True)
class Case:
    """Hold one loop: the arguments of programs/micro.c; ``most_ratio`` and ``most_ns`` are the limits it has."""

    what: str
    operation: str
    size: int
    count: int
    processes: int = 1
    most_ratio: float = 0
    most_ns: float = 0
    is_outside: bool = False

    def arguments(self, divisor: int) -> list[str]:
        """Return the words of the command line, ``divisor`` times less often."""
        return [self.operation, str(self.size), str(max(self.count // divisor, 64)), str(self.processes)]


CASES = (
    Case("write 16 B", "write", 16, 500_000, most_ratio=2.0),
    Case("write 512 B", "write", 512, 200_000),
    Case("write 4 KiB", "write", 4096, 50_000, most_ratio=1.6),
    Case("write 64 KiB", "write", 1 << 16, 4_000, most_ratio=1.5),
    Case("write 1 MiB", "write", 1 << 20, 300, most_ratio=2.0),
    Case("create, write 100 B, close, rename, unlink", "churn", 100, 20_000),
    Case("1,000,000 appends of 16 B, 1 process", "append", 16, 1_000_000),
    Case("1,000,000 appends of 16 B, 4 processes", "append", 16, 1_000_000, 4),
    Case("getppid, in the command", "getppid", 0, 5_000_000, most_ns=100),
    Case("getppid, beside the command", "getppid", 0, 5_000_000, most_ns=100, is_outside=True),
    Case("read 16 B of /dev/zero, in the command", "zero", 16, 5_000_000, most_ns=100),
    Case("read 16 B of /dev/zero, beside the command", "zero", 16, 5_000_000, most_ns=100, is_outside=True),
    Case("store into a shared mapping of 16 MiB", "store", 8, 50_000_000),
)


@dataclass(frozen=True)
class Loop:
    """Hold what one loop took."""

    each_ns: float
    cpu_ns: float
    run: Run

    @classmethod
    def of(cls, done: Run) -> Loop:
        """Read what micro.c printed."""
        count, wall, cpu = map(int, done.output.split())
        return cls(wall / count, cpu / count, done)


def build(folder: Path) -> Path:
    """Compile micro.c. Raises FailedError where there is no compiler."""
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    compiler = [found] if found else [sys.executable, "-m", "ziglang", "cc"]
    done = subprocess.run(
        [*compiler, "-O2", "-o", folder / "micro", PROGRAMS / "micro.c"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FailedError(f"micro.c was not compiled: {done.stderr}")
    return folder / "micro"


@contextmanager
def recorder(place: Place, source: Path = SOURCE) -> Iterator[None]:
    """Record a command that does nothing, until the block ends."""
    command = diffkeeper(
        "record", "-q", "--force", "-s", str(place.trace), "--", "sh", "-c", "echo; cat", source=source
    )
    child = subprocess.Popen(command, cwd=place.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin, "it is a pipe"
    assert child.stdout, "it is a pipe"
    child.stdout.readline()  # now it records
    try:
        yield
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


def plain(program: Path, arguments: list[str], place: Place) -> Loop:
    """Run a loop unrecorded."""
    place.clear()
    return Loop.of(run([str(program), *arguments], place.root))


def recorded(program: Path, arguments: list[str], place: Place, *, is_outside: bool, source: Path = SOURCE) -> Loop:
    """Run a loop under a recorder, or beside one."""
    place.clear()
    if not is_outside:
        return Loop.of(record([str(program), *arguments], place, source=source))
    with recorder(place, source):
        return Loop.of(run([str(program), *arguments], place.scratch))


def measure(place: Place, pairs: int, divisor: int) -> Section:
    """Measure all cases."""
    section = Section("micro", HEAD, TEXT)
    program = build(place.home)
    for case in CASES:
        rounds = interleaved(pairs, *_ways(case, program, place, divisor))
        _tell(section, case, rounds, divisor)
    return section


def _ways(
    case: Case, program: Path, place: Place, divisor: int, sources: tuple[Path, ...] = (SOURCE,)
) -> list[Callable[[], Loop]]:
    arguments = case.arguments(divisor)
    loop = partial(recorded, program, arguments, place, is_outside=case.is_outside)
    return [partial(plain, program, arguments, place), *(partial(loop, source=source) for source in sources)]


def _tell(section: Section, case: Case, rounds: list[tuple[Loop, ...]], divisor: int) -> None:
    ratio, cpu = (ratios(rounds, value) for value in (_each, _cpu))
    before, after = (spread(rounds, _each, way).median for way in (0, 1))
    faults = "" if case.is_outside else "; ".join(sorted({each[1].run.faults() for each in rounds}))
    times = max(case.count // divisor, 64)
    form = "{:,.1f} ns" if before < 1000 else "{:,.0f} ns"
    section.add(
        case.what, f"{times:,}", form.format(before), form.format(after), ratio.text(), cpu.text(), faults or "-"
    )
    section.limits.extend(_limits(case, ratio, cpu, differences(rounds, _each)))


def _limits(case: Case, ratio: Spread, cpu: Spread, more: Spread) -> Iterator[Limit]:
    if case.most_ratio:
        said = f"{ratio.text()}×; CPU time {cpu.median:.2f}×"
        yield Limit(case.what, f"{case.most_ratio}×", said, ratio.median <= case.most_ratio)
    if case.most_ns:
        yield Limit(case.what, f"{case.most_ns:.0f} ns more", f"{more.text(0)} ns", more.median <= case.most_ns)


def compare(place: Place, pairs: int, divisor: int, other: Path) -> None:
    """Print what another checkout's recorder takes, as multiples of this one's, in the same rounds."""
    program = build(place.home)
    for case in CASES:
        rounds = interleaved(pairs, *_ways(case, program, place, divisor, (SOURCE, other / "src")))
        this, former = (spread(rounds, _each, way).median for way in (1, 2))
        said = ratios(rounds, _each, 1, 2).text(), ratios(rounds, _cpu, 1, 2).text()
        print(f"{case.what:44} this {this:9.1f} ns, other {former:9.1f} ns, this/other {said[0]}, CPU {said[1]}")
        sys.stdout.flush()


def _each(loop: Loop) -> float:
    return loop.each_ns


def _cpu(loop: Loop) -> float:
    return max(loop.cpu_ns, 1e-3)
