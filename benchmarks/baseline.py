"""Measure the baseline: sudo python benchmarks/baseline.py [files] [runs].

First a tree of small files, then one whose files are leased, each taken with index, touched and full; then what a lease
costs whoever opens a file for writing for the first time. Medians, and the least of all runs in brackets.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from diffkeeper import native
from diffkeeper.baseline import SMALL_BYTES, BaselineRoot, Selection, take_baseline
from diffkeeper.baseline_native import LargeFile
from diffkeeper.recording_leases import Leases
from diffkeeper.recording_settings import BUDGET_BYTES
from diffkeeper.rules import Rules
from diffkeeper.store import deltas
from diffkeeper.store.journal import JournalWriter

FILES_A_FOLDER = 100
SMALL, LARGE = 2_000, 70_000
OPENS = 2_000


class Engine:
    """Fork holders as the helper does."""

    def __init__(self) -> None:
        self.holders: list[native.Holder] = []

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        """Start one."""
        self.holders.append(native.Holder(socket, images, trace_id, most))
        return True

    def wait(self) -> None:
        """Wait until all have ended."""
        while not all(one.has_ended(10**10) for one in self.holders):
            time.sleep(0.01)


def make_tree(root: Path, files: int, size: int) -> None:
    """Write files with different bytes."""
    noise = os.urandom(1 << 20)
    for number in range(files):
        folder = root / f"d{number // FILES_A_FOLDER:05}"
        if number % FILES_A_FOLDER == 0:
            folder.mkdir(parents=True)
        at = number * 37 % ((1 << 20) - size)
        (folder / f"f{number}").write_bytes(b"%d" % number + noise[at : at + size])


@contextmanager
def leases(trace: Path, root: Path) -> Iterator[Leases]:
    """Yield leases that end with the block."""
    engine = Engine()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Leases(trace, 1, engine, [fd]) as held:  # type: ignore[arg-type]  # all of an engine that is needed
            yield held
    finally:
        os.close(fd)
        engine.wait()


def take(trace: Path, root: Path, kind: str) -> float:
    """Take a baseline and return how long that took; the holders are waited for, and their end is not counted."""
    with leases(trace, root) as held:
        small = SMALL_BYTES if kind == "touched" else 1 << 62
        selection = Selection(small, BUDGET_BYTES, held.cover) if kind == "touched" else None
        began = time.perf_counter()
        writer = JournalWriter(trace, 1)
        take_baseline(
            [BaselineRoot(os.fsencode(root))], writer, encode=None if kind == "index" else deltas.encode,
            rules=Rules.from_patterns([]), selection=selection,
        )  # fmt: skip
        writer.close()
        if kind == "touched":
            held.settle()
        return time.perf_counter() - began


def opened_first(paths: list[Path]) -> list[float]:
    """Open files for writing and return how long each open took, in µs."""
    taken = []
    for path in paths:
        began = time.perf_counter_ns()
        fd = os.open(path, os.O_WRONLY)
        taken.append((time.perf_counter_ns() - began) / 1000)
        os.close(fd)
    return taken


def measured(runs: int, once: Callable[[Path], float]) -> list[float]:
    """Return what some runs took, each with a folder of its own."""
    taken = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as trace:
            taken.append(once(Path(trace)))
    return taken


def tell(what: str, taken: list[float], unit: str = "s") -> None:
    """Print a median."""
    print(f"  {what:<34} {statistics.median(taken):9.2f} {unit}   [{min(taken):.2f}]", flush=True)


def main() -> None:
    """Print all."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as home:
        for title, size, count in (("2 kB", SMALL, files), ("70 kB, leased", LARGE, min(files, 30_000))):
            root = Path(home, title.split()[0])
            make_tree(root, count, size)
            print(f"{count:,} files of {title}")
            for kind in ("index", "touched", "full"):
                few = runs if kind != "full" else 1
                tell(kind, measured(few, lambda trace, kind=kind, root=root: take(trace, root, kind)))  # type: ignore[misc]
        root = Path(home, "70")
        paths = sorted(root.rglob("f*"))[:OPENS]
        print(f"opening {len(paths):,} files of 70 kB for writing")
        tell("without a lease", opened_first(paths), "µs")
        with tempfile.TemporaryDirectory() as trace, leases(Path(trace), root) as held:
            opened = []
            for index, path in enumerate(paths):
                status = path.stat()
                opened.append(LargeFile(os.open(path, os.O_RDONLY), index, status.st_size, status.st_mtime_ns, 1))
            held.cover(opened)
            for file in opened:
                os.close(file.fd)
            tell("with one, the copy included", opened_first(paths), "µs")
            tell("the second time", opened_first(paths), "µs")
            held.finish()


if __name__ == "__main__":
    main()
