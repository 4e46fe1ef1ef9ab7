"""What people use today, beside diffkeeper, on the same work: what each costs, and how much of it each saw."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.micro import PROGRAMS, build
from benchmarks.pairs import interleaved, ratios, spread
from benchmarks.report import Section
from benchmarks.run import FailedError, Place, Run, record, run

HEAD = ("work", "with", "took", "ratio", "changes seen", "of changes made", "what it has of them")
TEXT = (
    "Each round runs the work once with each. `cp -a` is run before and after, and both are counted; the others run"
    " beside the work or around it, and their start is not counted. btrfs snapshots are not among them: they need a"
    " file system of their own."
)
SETTLE_S = 0.5  # for what comes after the event
CALLS = "trace=%file,write,pwrite64,writev,close,ftruncate,fchmod,fchown,mmap,fallocate,copy_file_range,sendfile"
STRACE_SEES = re.compile(r"openat\(.*O_CREAT|write\((?!1,)|rename\(|unlink\(")


@dataclass(frozen=True)
class Work:
    """Hold some work of programs/micro.c and the changes it makes, which are known."""

    what: str
    operation: str
    size: int
    count: int
    changes_each: int
    changes_more: int

    def command(self, program: Path, divisor: int) -> list[str]:
        """Return the command line, for ``divisor`` times less."""
        return [str(program), self.operation, str(self.size), str(self.count // divisor), "1"]

    def changes(self, divisor: int) -> int:
        """Return how many changes that makes."""
        return self.count // divisor * self.changes_each + self.changes_more


WORKS = (
    Work("files: create, write 100 B, close, rename, unlink", "churn", 100, 10_000, 4, 0),
    Work("one file: writes of 16 B", "write", 16, 100_000, 1, 1),
)


@dataclass(frozen=True)
class Seen:
    """Hold what the work took, and how many changes were seen; -1 where nothing counts them."""

    seconds: float
    changes: int


Runner = Callable[[Sequence[str], Place], Seen]


@dataclass(frozen=True)
class Peer:
    """Hold one way to watch; ``module`` and ``program`` are what it needs."""

    name: str
    has: str
    run: Runner
    program: str = ""
    module: str = ""

    def obstacle(self) -> str:
        """Return why it cannot be used here, empty if it can."""
        if self.program and not shutil.which(self.program):
            return f"{self.program} is not installed"
        if self.module and not importlib.util.find_spec(self.module):
            return f"the Python package {self.module} is not installed"
        return ""


def _loop_s(done: Run) -> float:
    return int(done.output.split()[1]) / 1e9


def _plain(command: Sequence[str], place: Place) -> Seen:
    return Seen(_loop_s(run(command, place.root)), 0)


def _diffkeeper(command: Sequence[str], place: Place) -> Seen:
    done = record(command, place)
    return Seen(_loop_s(done), done.counted("changes"))


def _strace(command: Sequence[str], place: Place) -> Seen:
    log = place.scratch / "strace"
    done = run(["strace", "-f", "-qq", "-o", str(log), "-e", CALLS, *command], place.root)
    with log.open() as lines:
        return Seen(_loop_s(done), sum(STRACE_SEES.search(line) is not None for line in lines))


def _inotifywait(command: Sequence[str], place: Place) -> Seen:
    log = place.scratch / "inotify"
    events = ["-e", "create,modify,moved_to,delete"]
    watcher = subprocess.Popen(
        ["inotifywait", "-mr", "--format", "%e", "-o", log, *events, "."],
        cwd=place.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert watcher.stderr, "it is a pipe"
    while b"established" not in (line := watcher.stderr.readline()) and line:
        pass
    done = run(command, place.root)
    time.sleep(SETTLE_S)
    watcher.terminate()
    watcher.communicate()
    return Seen(_loop_s(done), len(log.read_text().splitlines()))


def _watchdog(command: Sequence[str], place: Place) -> Seen:
    watcher = subprocess.Popen(
        [sys.executable, PROGRAMS / "watcher.py", "."],
        cwd=place.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdout, "it is a pipe"
    watcher.stdout.readline()
    done = run(command, place.root)
    time.sleep(SETTLE_S)
    said, _ = watcher.communicate()
    return Seen(_loop_s(done), int(said))


@contextmanager
def _mounted(source: Path, target: Path) -> Iterator[None]:
    source.mkdir()
    if subprocess.run(["bindfs", source, target], capture_output=True, check=False).returncode:
        raise FailedError("bindfs could not mount")
    try:
        yield
    finally:
        subprocess.run(["fusermount", "-u", target], check=False)


def _bindfs(command: Sequence[str], place: Place) -> Seen:
    with _mounted(place.scratch / "below", place.root):
        return Seen(_loop_s(run(command, place.root)), -1)


def _copies(command: Sequence[str], place: Place) -> Seen:
    """Copy the tree before and after; what differs between the copies is what was seen."""
    before, after = place.scratch / "before", place.scratch / "after"
    copying = [run(["cp", "-a", str(place.root), str(before)], place.root).wall_s]
    done = run(command, place.root)
    copying.append(run(["cp", "-a", str(place.root), str(after)], place.root).wall_s)
    differ = subprocess.run(["diff", "-rq", before, after], capture_output=True, text=True, check=False)
    return Seen(_loop_s(done) + sum(copying), len(differ.stdout.splitlines()))


PEERS = (
    Peer("nothing", "", _plain),
    Peer("diffkeeper", "bytes, names, metadata, process, order, any moment", _diffkeeper),
    Peer("strace -f", "the calls and 32 bytes of each, as text; order of return", _strace, program="strace"),
    Peer("inotifywait -mr", "that a name changed; no bytes, no process; same events merged", _inotifywait,
         program="inotifywait"),
    Peer("watchdog", "the same as inotify, in Python", _watchdog, module="watchdog"),
    Peer("bindfs (FUSE)", "all that goes through the mount; keeps nothing itself", _bindfs, program="bindfs"),
    Peer("cp -a before and after", "the last state; nothing in between", _copies, program="diff"),
)  # fmt: skip


def measure(place: Place, pairs: int, divisor: int) -> Section:
    """Measure all works with all that are here."""
    section = Section("peers", HEAD, TEXT)
    program = build(place.home)
    here = [peer for peer in PEERS if not peer.obstacle()]
    for work in WORKS:
        command = work.command(program, divisor)
        rounds = interleaved(pairs, *(_way(peer, command, place) for peer in here))
        for number, peer in enumerate(here):
            _tell(section, work, peer, rounds, number, divisor)
    for peer in PEERS:
        if peer.obstacle():
            section.add("all", peer.name, f"skipped: {peer.obstacle()}", "", "", "", peer.has)
    return section


def _way(peer: Peer, command: Sequence[str], place: Place) -> Callable[[], Seen]:
    def once() -> Seen:
        place.clear()
        return peer.run(command, place)

    return once


def _tell(section: Section, work: Work, peer: Peer, rounds: list[tuple[Seen, ...]], number: int, divisor: int) -> None:
    seen = int(spread(rounds, lambda each: each.changes, number).median)
    ratio = ratios(rounds, lambda each: each.seconds, number).text() if number else "1"
    section.add(
        work.what,
        peer.name,
        f"{spread(rounds, lambda each: each.seconds, number).median:.3f} s",
        ratio,
        f"{seen:,}" if seen >= 0 else "not counted",
        f"{work.changes(divisor):,}",
        peer.has,
    )
