"""How large the traces of real programs are, against the bytes that these wrote, with and without deltas.

One recording of each; what it would take without deltas is worked out from it: each chunk that is a difference from
another is encoded alone. Deltas change nothing else, so that both figures are of the very same run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.real import CHOSEN, OWN, recorded
from benchmarks.report import Section
from benchmarks.run import FailedError, Place
from diffkeeper.store import deltas
from diffkeeper.store.content import ContentReader
from diffkeeper.store.format import STORE_NAME, Key
from diffkeeper.store.rocks import RocksStore
from oracle.workloads import load_workloads

HEAD = ("what", "changes", "bytes written", "trace", "of bytes written", "without deltas", "deltas save")
TEXT = (
    "Bytes written are those of writes and copies below the root, each as often as it was written. The trace has with"
    " them the tree before the command (small files with their content), names, metadata, times and processes. Content"
    " that comes again is kept once, with deltas or without."
)


def measure(place: Place, names: tuple[str, ...] = tuple(CHOSEN)) -> Section:
    """Record the workloads; one that cannot run here has the reason in its row."""
    section = Section("sizes", HEAD, TEXT)
    workloads = load_workloads() | OWN
    for name in names:
        try:
            if obstacle := workloads[name].obstacle():
                raise FailedError(obstacle)
            run = recorded(workloads[name], place)
            spared = sum(spared_bytes(place.trace))
        except FailedError as error:
            section.add(CHOSEN[name], f"skipped: {error}", *[""] * (len(HEAD) - 2))
            continue
        written, size = run.counted("bytes"), run.trace_bytes
        section.add(
            CHOSEN[name],
            f"{run.counted('changes'):,}",
            f"{written / 1e6:.1f} MB",
            f"{size / 1e6:.1f} MB",
            f"{size / max(written, 1):.2f}×",
            f"{(size + spared) / 1e6:.1f} MB",
            f"{spared / (size + spared):.0%}",
        )
    return section


def spared_bytes(trace: Path) -> Iterator[int]:
    """Yield of each chunk that is a difference from another how many bytes that saves."""
    rocks = RocksStore.open_readonly(trace / STORE_NAME)
    try:
        reader = ContentReader(rocks)
        for key, value in rocks.scan(Key.CHUNK):
            if deltas.parse(value).base:
                yield len(deltas.encode(reader.chunk(key[len(Key.CHUNK) :]))) - len(value)
    finally:
        rocks.close()
