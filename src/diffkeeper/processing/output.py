"""The store that processing writes: opened where a former worker stopped, committed as a whole, flushed at times."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Event
from diffkeeper.model.process import Process
from diffkeeper.model.tree import Tree
from diffkeeper.processing.limits import HELD_SHARE, MEMORY_BYTES
from diffkeeper.processing.progress import Progress, read_resumable
from diffkeeper.store.beginning import Beginning, read_beginning
from diffkeeper.store.checkpoint import Checkpoints
from diffkeeper.store.content import ContentWriter
from diffkeeper.store.dropping import drop_before
from diffkeeper.store.eventblock import EventColumns
from diffkeeper.store.eventlog import EventReader, EventWriter
from diffkeeper.store.format import Key
from diffkeeper.store.journal import JournalReader
from diffkeeper.store.rocks import RocksStore, remove_logs

FLUSH_SECONDS = 2.0
_SPLIT_BYTES = 4 << 20  # stored of a blob, in a bounded store, before what follows comes in a new one


class Output:
    """Hold the parts of the store that processing writes."""

    def __init__(
        self,
        path: Path,
        opened: RocksStore | None = None,
        memory_bytes: int = MEMORY_BYTES,
        *,
        is_bounded: bool = False,
        flushes: bool = False,
    ) -> None:
        """Open the store at ``path``, or take ``opened``; one in which nothing usable was committed is made anew.

        In a bounded one history may be dropped up to any tree that was saved. With ``flushes`` every commit is flushed.
        """
        self._flushes = flushes
        self.path = path
        self._is_bounded = is_bounded
        self._rocks = opened or RocksStore.create(path, is_bounded=is_bounded)
        self.progress = _usable_progress(self._rocks)
        if not self.progress.baseline_is_whole and not self._rocks.is_new:
            self._rocks.close()
            shutil.rmtree(path)
            self._rocks = RocksStore.create(path, is_bounded=is_bounded)
        self.content = ContentWriter(self._rocks, memory_bytes // HELD_SHARE, is_bounded=is_bounded)
        self._events = EventWriter(self._rocks)
        self._checkpoints = Checkpoints(self._rocks)
        self._forget_after(self.progress.number)
        self._processes: dict[int, Process] = {}  # as they were put
        self._flushed_at = time.monotonic()
        self._safe = self.progress.covered  # the last batch that a flushed commit covers
        self._told: set[int] = set()

    def tree(self) -> Tree:
        """Return the tree as of the last commit, an empty one if there is none."""
        if not self.progress.baseline_is_whole:
            return Tree()
        return self._checkpoints.get(self.progress.number)

    def baseline(self) -> Tree:
        """Return the tree before the first event."""
        return self._checkpoints.get(0)

    def processes(self) -> list[Process]:
        """Return the processes as of the last commit."""
        known = list(EventReader(self._rocks).processes())
        self._processes = {process.key: replace(process) for process in known}
        return known

    @property
    def count(self) -> int:
        """Return the number of the last event."""
        return self._events.count

    def append(self, events: Iterable[Event | EventColumns]) -> None:
        """Append events."""
        self._events.append(events)

    def checkpoint(self, tree: Tree) -> None:
        """Keep the tree as it is after the last event."""
        self.content.flush()
        if self._is_bounded:
            self.content.split(_SPLIT_BYTES)
            self._events.cut()
        self._checkpoints.put(self._events.count, tree)

    def commit(self, processes: Iterable[Process]) -> bool:
        """Put events, processes and progress at once; return whether they were flushed, as they are now and then."""
        for process in processes:
            if self._processes.get(process.key) != process:
                self._processes[process.key] = replace(process)
                self._events.put_process(process)
        self.content.flush()
        self._events.flush(also=self.progress.to_items())
        is_due = self._flushes or time.monotonic() - self._flushed_at > FLUSH_SECONDS
        if is_due or self.progress.is_finished:
            self._rocks.flush()
            self._safe = self.progress.covered
            self._flushed_at = time.monotonic()
            return True
        return False

    def drop_before(self, number: int, limit_bytes: int, trees: Sequence[Tree]) -> None:
        """Let the history begin after event ``number``, where a tree was saved, and give back the room.

        All must have been committed; ``trees`` are those that are gone on with.
        """
        drop_before(self._rocks, number, limit_bytes, self.content.open_blobs, trees)
        self._rocks.flush()
        self._rocks.compact()

    def beginning(self) -> Beginning:
        """Return where the history begins."""
        return read_beginning(self._rocks)

    def first_tree(self) -> Tree:
        """Return the tree that the history begins with."""
        return self._checkpoints.get(self.beginning().number)

    def recyclable(self, journal: JournalReader) -> list[int]:
        """Return the ring segments that a flushed commit covers, each once until it was written anew."""
        covered = set(journal.segments_up_to("r", self._safe))
        fresh, self._told = covered - self._told, covered
        return sorted(fresh)

    def _forget_after(self, number: int) -> None:
        """Remove checkpoints that were put and never committed: their events may come out otherwise the next time."""
        for prefix in (Key.CHECKPOINT, Key.NAMELESS):
            start = prefix + (number + 1).to_bytes(8, "big")
            self._rocks.delete_many([key for key, _ in self._rocks.scan(prefix, start)])

    def close(self) -> None:
        """Close the store."""
        self._rocks.close()
        if self.progress.is_finished:
            remove_logs(self.path)


def _usable_progress(rocks: RocksStore) -> Progress:
    try:
        return read_resumable(rocks) or Progress()
    except DamagedTraceError:
        return Progress()
