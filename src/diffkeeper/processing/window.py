"""The window in which observations wait to be put in the order of time, since the ring's order is not it.

An observation is let go when the journal is a horizon ahead of it. What arrives behind that line is *late*: it is let go
first thing and the reader is told. Sorting, and joining what was read late, is ``model/late.py``'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from diffkeeper.model.late import LateWindow, Settled
from diffkeeper.model.observation import Observation

HORIZON_NS = 2_000_000_000
MOST_WAITING = 200_000  # about 200 MB; beyond it the horizon gives way
_SORT_AT_LEAST = 4_096  # observations worth a sort of their own

_time = attrgetter("t_ns")


@dataclass(slots=True)
class Released:
    """Hold what may be resolved now in the order of time; the first ``late`` of it came behind the line."""

    settled: list[Settled] = field(default_factory=list)
    late: int = 0


@dataclass(slots=True)
class _Batch:
    sequence: int
    newest_ns: int  # of its observations
    count: int


class Window:
    """Sort observations of consecutive batches by (t_ns, sequence) behind a horizon."""

    def __init__(self, horizon_ns: int = HORIZON_NS, most_waiting: int = MOST_WAITING, released_to_ns: int = 0) -> None:
        self._horizon_ns = horizon_ns
        self._most_waiting = most_waiting
        self._newest_ns = 0
        self._waiting = LateWindow()
        self._fresh = 0  # how many came since the last release
        self._batches: deque[_Batch] = deque()
        self.released_to_ns = released_to_ns  # everything up to here has been let go
        self.covered = 0  # the last batch of which, and of all before it, everything has been let go
        self.shortened = 0  # how often the horizon gave way to memory

    def add(self, batch_sequence: int, written_ns: int, observations: Sequence[Observation]) -> None:
        """Take the observations of the next batch, which was written at ``written_ns``."""
        self._newest_ns = max(self._newest_ns, written_ns)
        newest_ns = max(map(_time, observations), default=0)
        self._batches.append(_Batch(batch_sequence, newest_ns, len(observations)))
        self._waiting.push(observations)
        self._fresh += len(observations)

    def release(self) -> Released:
        """Return what the horizon has passed, or nothing while sorting is not worth its while."""
        if self._fresh < max(_SORT_AT_LEAST, len(self._waiting) // 3):
            return Released()
        return self.release_all_due()

    def release_all_due(self) -> Released:
        """Return all that the horizon has passed."""
        return self._let_go(max(self._limit(), self.released_to_ns))

    def drain(self) -> Released:
        """Return all that is left: the journal has ended."""
        newest_ns = max((batch.newest_ns for batch in self._batches), default=0)
        return self._let_go(max(newest_ns, self.released_to_ns))

    def _limit(self) -> int:
        limit = self._newest_ns - self._horizon_ns
        if len(self._waiting) <= self._most_waiting:
            return limit
        surplus = len(self._waiting) - self._most_waiting // 2
        for batch in self._batches:
            surplus -= batch.count
            if surplus <= 0:
                break
            limit = max(limit, batch.newest_ns)
        self.shortened += 1
        return limit

    def _let_go(self, limit: int) -> Released:
        settled = self._waiting.pop(limit)
        late = next((at for at, one in enumerate(settled) if one[0].t_ns > self.released_to_ns), len(settled))
        self.released_to_ns = limit
        self._fresh = 0
        while self._batches and self._batches[0].newest_ns <= limit:
            self.covered = self._batches.popleft().sequence
        return Released(settled, late)
