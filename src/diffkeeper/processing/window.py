"""The window in which observations wait to be put in the order of time, since the ring's order is not it.

An observation is let go when the journal is a horizon ahead of it. What arrives behind that line is *late*: it is let go
at once and the reader is told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from diffkeeper.model.observation import Observation

HORIZON_NS = 2_000_000_000
MOST_WAITING = 200_000  # about 200 MB; beyond it the horizon gives way
_SORT_AT_LEAST = 4_096  # observations worth a sort of their own

_time = attrgetter("t_ns")
_order = attrgetter("t_ns", "sequence")


@dataclass(slots=True)
class Released:
    """Hold what may be resolved now: the late ones first, then the others, each in the order of time."""

    late: list[Observation] = field(default_factory=list)
    ordered: list[Observation] = field(default_factory=list)


class Window:
    """Sort observations of consecutive batches by (t_ns, sequence) behind a horizon."""

    def __init__(self, horizon_ns: int = HORIZON_NS, most_waiting: int = MOST_WAITING, released_to_ns: int = 0) -> None:
        self._horizon_ns = horizon_ns
        self._most_waiting = most_waiting
        self._newest_ns = 0
        self._waiting: list[Observation] = []  # sorted
        self._fresh: list[Observation] = []  # as they came
        self._late: list[Observation] = []
        self._batches: deque[tuple[int, int]] = deque()  # sequence, newest t_ns in it
        self.released_to_ns = released_to_ns  # everything up to here has been let go
        self.covered = 0  # the last batch of which, and of all before it, everything has been let go
        self.shortened = 0  # how often the horizon gave way to memory

    def add(self, batch_sequence: int, written_ns: int, observations: Sequence[Observation]) -> None:
        """Take the observations of the next batch, which was written at ``written_ns``."""
        self._newest_ns = max(self._newest_ns, written_ns)
        newest = max(map(_time, observations), default=0)
        self._batches.append((batch_sequence, newest))
        if observations and min(map(_time, observations)) <= self.released_to_ns:
            self._late += [one for one in observations if one.t_ns <= self.released_to_ns]
            observations = [one for one in observations if one.t_ns > self.released_to_ns]
        self._fresh += observations

    def release(self) -> Released:
        """Return what the horizon has passed; sorts only when enough has come to make it worth while."""
        if len(self._fresh) < max(_SORT_AT_LEAST, len(self._waiting) // 2):
            return self._let_go(self.released_to_ns)
        return self.release_all_due()

    def release_all_due(self) -> Released:
        """Return all that the horizon has passed."""
        self._sort()
        return self._let_go(self._limit())

    def drain(self) -> Released:
        """Return all that is left: the journal has ended."""
        self._sort()
        return self._let_go(self._waiting[-1].t_ns if self._waiting else self.released_to_ns)

    def _limit(self) -> int:
        limit = self._newest_ns - self._horizon_ns
        surplus = len(self._waiting) - self._most_waiting
        if surplus > 0 and self._waiting[surplus].t_ns > limit:
            self.shortened += 1
            limit = self._waiting[len(self._waiting) - self._most_waiting // 2].t_ns
        return limit

    def _sort(self) -> None:
        if self._fresh:
            self._waiting += self._fresh
            self._waiting.sort(key=_order)
            self._fresh = []

    def _let_go(self, limit: int) -> Released:
        released = Released(late=sorted(self._late, key=_order))
        self._late = []
        if limit > self.released_to_ns:
            cut = bisect_right(self._waiting, limit, key=_time)
            released.ordered = self._waiting[:cut]
            del self._waiting[:cut]
            self.released_to_ns = limit
        self._cover()
        return released

    def _cover(self) -> None:
        while self._batches and self._batches[0][1] <= self.released_to_ns:
            self.covered = self._batches.popleft()[0]
