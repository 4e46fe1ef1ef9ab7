"""Random histories of a few files, for tests that hold one trace against another."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from diffkeeper import Trace
from diffkeeper.model.tree import Tree
from diffkeeper.processing import process
from diffkeeper.processing.bounded import free_segments
from diffkeeper.processing.output import Output
from diffkeeper.processing.processor import Processor
from diffkeeper.store.format import DROP_OLDEST
from diffkeeper.store.journal import BatchKind, JournalWriter
from scripts import TRACE_ID, Script, batches, begin_trace, seal, write_ring

LENGTH = 60  # operations of a history
State = dict[bytes, tuple[object, bytes]]


class Chance:
    """Do random operations on a few files, whose versions resemble one another."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.script = Script()
        self._text = self._random.randbytes(3000)
        for number in range(3):
            self.script.put(f"old{number}", self._version()[:1000])

    def _version(self) -> bytes:
        """Return bytes of which most are those of other versions: deltas and equal chunks."""
        text = bytearray(self._text[: self._random.choice([0, 200, 1500, 3000])])
        for _ in range(self._random.randint(0, 3)):
            at = self._random.randrange(len(text) + 1)
            text[at : at + 4] = self._random.randbytes(self._random.randint(0, 40))
        return bytes(text)

    def run(self, count: int) -> Script:
        for _ in range(count):
            self._one()
        return self.script

    def _one(self) -> None:
        script, chance = self.script, self._random
        files = [name for name, file in script.files.items() if file.mode & 0o100000]
        name = chance.choice(files) if files else ""
        other = f"file{chance.randrange(6)}"
        if "long" not in script.files:
            script.create("long")
        free: list[Callable[[], None]] = [lambda: script.save(other, self._version())]
        used: list[Callable[[], None]] = [
            lambda: script.write(name, self._version(), chance.randrange(4000)),
            lambda: script.write("long", self._version()[:700], chance.randrange(900)),
            lambda: script.write("long", self._version()[:700], chance.randrange(900)),
            lambda: script.close("long"),
            lambda: script.truncate(name, chance.randrange(3000)),
            lambda: script.save(name, self._version()),
            lambda: script.unlink(name),
            lambda: script.rename(name, other) if other != name else None,
            lambda: script.link(name, other) if other not in script.files else None,
            lambda: script.close(name),
        ]
        chance.choice(free + used * bool(name))()


def states(trace: Path, first: int) -> list[State]:
    """Return what the tree was after each event from ``first`` on: metadata and bytes."""
    with Trace.open(trace) as opened:
        assert opened.damage == []
        return [_state(opened, number) for number in range(first, opened.extent.count + 1)]


def _state(trace: Trace, number: int) -> State:
    view = trace.at(number)
    return {entry.path: (entry.meta, view.read(entry.path) if entry.kind == "f" else b"") for entry in view.entries()}


SETTINGS = {
    "diffkeeper.processing.processor.EVENTS_PER_CHECKPOINT": 6,
    "diffkeeper.processing.processor.SETTLED_AT_ONCE": 3,
    "diffkeeper.processing.output._SPLIT_BYTES": 4000,
    "diffkeeper.store.content.CHUNK_BYTES": 1 << 10,
}
"""What makes many trees, blobs and chunks of a short history."""

HUGE = 1 << 50  # a size that no trace has


def process_dropping(place: Path, seed: int, drops: Callable[[int], bool]) -> list[int]:
    """Process a random history while its journal grows, and drop history at random; return where it began each time.

    ``drops`` says whether to drop at the commit of that number. Journal segments that are safe are used up at once.
    """
    chance, begun = random.Random(seed), [0]
    commits = itertools.count(1)
    begin_trace(place, Chance(seed).script, max_bytes=HUGE, on_full=DROP_OLDEST)
    ring = JournalWriter(place, TRACE_ID, "r", 1 << 10)
    with Processor.of_trace(place) as worker:
        bound = worker._bound
        assert bound is not None

        def look(output: Output, trees: Sequence[Tree], recycle: Callable[[], None]) -> None:
            recycle()
            saved = [number for number, _ in bound._trees if number > begun[-1]]
            if saved and drops(next(commits)):
                begun.append(chance.choice(saved))
                output.drop_before(begun[-1], HUGE, trees)

        bound.look = look  # type: ignore[method-assign]
        worker.on_safe = lambda numbers: free_segments(place, numbers)
        worker._window._horizon_ns = 0
        for payload in batches(Chance(seed).run(LENGTH).observations, 400):
            ring.append(BatchKind.RECORDS, payload)
            worker.advance()
        ring.append(BatchKind.END, b"{}")
        worker.finish()
    return begun


def process_whole(place: Path, seed: int) -> Path:
    """Process the same history, dropping nothing."""
    facts = begin_trace(place, Chance(seed).script)
    write_ring(place, Chance(seed).run(LENGTH).observations, size=400)
    process(place)
    seal(place, facts)
    return place
