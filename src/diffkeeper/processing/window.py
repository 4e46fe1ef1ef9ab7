"""The window in which observations wait to be put in the order of time, since the ring's order is not it.

An observation is let go when the journal is a horizon ahead of it. What arrives behind that line is *late*: it goes at
once, and the resolver marks it. What was read late on behalf of another is joined to it here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter

from diffkeeper.model.late import LateReadings, Settled
from diffkeeper.model.observation import Observation
from diffkeeper.model.overlap import Overlaps
from diffkeeper.model.values import dataclass

HORIZON_NS = 2_000_000_000
MOST_WAITING = 200_000  # observations, about 150 MB; beyond it the horizon gives way
MOST_BYTES = 96 << 20  # of batches, which their payload dominates
_SORT_AT_LEAST = 4_096  # observations worth a sort of their own

_time = attrgetter("t_ns")
_order = attrgetter("t_ns", "sequence")


@dataclass(slots=True)
class _Batch:
    sequence: int
    newest_ns: int  # of its observations
    reached_ns: int  # what is older does not come any more
    count: int
    size: int  # in bytes


class Window:
    """Sort observations of consecutive batches by (t_ns, sequence) behind a horizon."""

    def __init__(self, horizon_ns: int = HORIZON_NS, most_waiting: int = MOST_WAITING, released_to_ns: int = 0) -> None:
        self._horizon_ns = horizon_ns
        self._most_waiting = most_waiting
        self._newest_ns = 0
        self._waiting: list[Observation] = []  # sorted
        self._fresh: list[Observation] = []  # as they came
        self._bytes = 0
        self._overlaps = Overlaps()
        self._readings = LateReadings(self._overlaps)
        self._batches: deque[_Batch] = deque()
        self.released_to_ns = released_to_ns  # everything up to here has been let go
        self.covered = 0  # the last batch of which, and of all before it, everything has been let go
        self.shortened = 0  # how often the horizon gave way to memory

    def add(self, batch_sequence: int, written_ns: int, observations: Sequence[Observation], size: int = 0) -> None:
        """Take the observations of the next batch, of ``size`` bytes; what is older than ``written_ns`` was before."""
        self._newest_ns = max(self._newest_ns, written_ns)
        newest_ns = max(map(_time, observations), default=0)
        self._batches.append(_Batch(batch_sequence, newest_ns, min(newest_ns, written_ns), len(observations), size))
        self._readings.note(observations)
        self._overlaps.note(observations)
        self._fresh += observations
        self._bytes += size

    def release(self) -> Iterable[Settled]:
        """Return what the horizon has passed, or nothing while sorting is not worth its while."""
        if len(self._fresh) < max(_SORT_AT_LEAST, len(self._waiting) // 2) and self._bytes < MOST_BYTES:
            return ()
        return self.release_all_due()

    def release_all_due(self) -> Iterable[Settled]:
        """Return all that the horizon has passed, in the order of time."""
        self._sort()
        return self._let_go(max(self._limit(), self.released_to_ns))

    def drain(self) -> Iterable[Settled]:
        """Return all that is left, in the order of time: the journal has ended."""
        self._sort()
        newest_ns = self._waiting[-1].t_ns if self._waiting else 0
        return self._let_go(max(newest_ns, self.released_to_ns))

    def _sort(self) -> None:
        """Put what came in its place: it is nearly in order, so most of what waits is before all of it."""
        if self._fresh:
            self._fresh.sort(key=_order)
            cut = bisect_left(self._waiting, _order(self._fresh[0]), key=_order)
            tail = self._waiting[cut:] + self._fresh
            tail.sort(key=_order)
            self._waiting[cut:] = tail
            self._fresh = []

    def _limit(self) -> int:
        limit = self._newest_ns - self._horizon_ns
        if len(self._waiting) <= self._most_waiting and self._bytes <= MOST_BYTES:
            return limit
        count, size = len(self._waiting) - self._most_waiting // 2, self._bytes - MOST_BYTES // 2
        for batch in self._batches:
            count, size = count - batch.count, size - batch.size
            limit = max(limit, batch.reached_ns)
            if count <= 0 and size <= 0:
                break
        self.shortened += 1
        return limit

    def _let_go(self, limit: int) -> Iterable[Settled]:
        cut = bisect_right(self._waiting, limit, key=_time)
        ready = self._waiting[:cut]
        del self._waiting[:cut]
        self.released_to_ns = limit
        while self._batches and self._batches[0].newest_ns <= limit:
            batch = self._batches.popleft()
            self.covered = batch.sequence
            self._bytes -= batch.size
        if self._overlaps:
            ready = list(map(self._overlaps.judge, ready))
        return self._readings.join(ready)
