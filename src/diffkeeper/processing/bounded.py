"""Keep a trace below a size while it is processed, by dropping its oldest history (docs/decisions/0025)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from diffkeeper.model.tree import Tree
from diffkeeper.processing.output import Output
from diffkeeper.store.format import DROP_OLDEST, STORE_NAME, SessionFacts, disk_bytes, folder_bytes
from diffkeeper.store.journal import segment_path

_MOST_BETWEEN_COMMITS = 128 << 20  # bytes of the journal
_LEAST_BETWEEN_COMMITS = 4 << 20


class Bound:
    """Drop the oldest history of one trace when it takes more room than it may, if that is what was asked for.

    ``is_hopeless`` says that its store does so although nothing is left in it but the present state.
    """

    def __init__(self, trace: Path, max_bytes: int, *, drops: bool) -> None:
        """Keep the trace at ``trace`` below ``max_bytes``, some of them for what comes before the next look."""
        self._trace = trace
        self.drops = drops
        self.max_bytes = max_bytes
        self._high = max_bytes - max_bytes // 8
        self._low = max_bytes - max_bytes // 4
        self._most_in_store = max_bytes // 2
        self.bytes_per_commit = min(max(max_bytes // 16, _LEAST_BETWEEN_COMMITS), _MOST_BETWEEN_COMMITS)
        # What waits to be sorted keeps its segments: it must leave most of them to be used again.
        self.most_waiting_bytes = max_bytes // 8
        self._trees: list[tuple[int, int]] = [(0, 0)]  # number of each tree, bytes of the journal up to it
        self.is_hopeless = False
        self.times = 0

    @classmethod
    def of(cls, trace: Path, facts: SessionFacts) -> Bound | None:
        """Return the bound of a recording, None if it has none."""
        return cls(trace, facts.max_bytes, drops=facts.on_full == DROP_OLDEST) if facts.max_bytes else None

    def finishing(self) -> None:
        """Note that the journal does not grow any more: what is processed leaves it, so that little is added in all."""
        self._high = self.max_bytes - self.max_bytes // 32
        self._low = self._high - self.max_bytes // 8

    def saved(self, number: int, journal_bytes: int) -> None:
        """Note that a tree was saved after an event, and how much of the journal had been read by then."""
        if self._trees[-1][0] != number:
            self._trees.append((number, journal_bytes))

    def look(self, output: Output, trees: Sequence[Tree], recycle: Callable[[], None]) -> None:
        """Drop what must go; all must have been committed. ``recycle`` frees what it can of the journal."""
        recycle()
        if not self.drops or self.is_hopeless or disk_bytes(self._trace) <= self._high:
            return
        while (used := disk_bytes(self._trace)) > self._low and len(self._trees) > 1:
            number = self._choose(used)
            output.drop_before(number, self.max_bytes, trees)
            self._trees = [one for one in self._trees if one[0] >= number]
            self.times += 1
        self.is_hopeless = folder_bytes(self._trace / STORE_NAME) > self._most_in_store

    def _choose(self, used: int) -> int:
        """Return the first tree that is likely to leave little enough."""
        first, last = self._trees[0][1], self._trees[-1][1]
        wanted = first + (last - first) * (used - self._low) / used
        return next((number for number, at in self._trees[1:] if at >= wanted), self._trees[-1][0])


def free_segments(trace: Path, numbers: Sequence[int]) -> None:
    """Give back the room of segments that are safe in the store, when nobody writes to them any more."""
    for number in numbers:
        path = segment_path(trace, "r", number)
        if path.exists():
            os.truncate(path, 0)
