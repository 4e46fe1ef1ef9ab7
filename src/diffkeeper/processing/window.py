"""The window in which observations wait to be put in the order of time, since the ring's order is not it.

An observation is let go when the journal is a horizon ahead of it. What arrives behind that line is *late*: it goes at
once, and the resolver marks it. What was read late on behalf of another is joined to it here. Plain writes wait as rows
(plain_rows.py) and leave in runs, as long as nothing else stands between them in time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from diffkeeper.model.late import LateReadings, Settled
from diffkeeper.model.observation import Observation
from diffkeeper.model.overlap import Overlaps
from diffkeeper.model.values import dataclass
from diffkeeper.processing.limits import MEMORY_BYTES
from diffkeeper.processing.plain_rows import PlainRun, Rows, Taken

HORIZON_NS = 2_000_000_000
# What may wait; beyond it the horizon gives way. Of 256 MiB: 105,000 observations or, of 96 MiB of batches, the rows.
_OBSERVATION_BYTES = 2560
_ROWS_PER_OBSERVATION = 8
_BATCHES_SHARE = 3 / 8
LEAST_RUN = 4  # writes; fewer go one by one
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

    def __init__(
        self,
        horizon_ns: int = HORIZON_NS,
        memory_bytes: int = MEMORY_BYTES,
        released_to_ns: int = 0,
        most_bytes: int | None = None,
    ) -> None:
        self._horizon_ns = horizon_ns
        self._most_waiting = memory_bytes // _OBSERVATION_BYTES
        self._most_bytes = int(memory_bytes * _BATCHES_SHARE)
        if most_bytes is not None:
            self._most_bytes = min(self._most_bytes, most_bytes)
        self._newest_ns = 0
        self._waiting: list[Observation] = []  # sorted
        self._fresh: list[Observation] = []  # as they came
        self._rows = Rows()
        self._bytes = 0
        self._overlaps = Overlaps()
        self._readings = LateReadings(self._overlaps)
        self._batches: deque[_Batch] = deque()
        self.released_to_ns = released_to_ns  # everything up to here has been let go
        self.covered = 0  # the last batch of which, and of all before it, everything has been let go
        self.shortened = 0  # how often the horizon gave way to memory

    def add(
        self,
        batch_sequence: int,
        written_ns: int,
        observations: Sequence[Observation],
        size: int = 0,
        taken: Taken | None = None,
    ) -> None:
        """Take the next batch, of ``size`` bytes: its observations, but for plain writes, which may be ``taken``.

        What is older than ``written_ns`` was before.
        """
        self._newest_ns = max(self._newest_ns, written_ns)
        newest_ns, count = max(map(_time, observations), default=0), len(observations)
        self._readings.note(observations)
        self._overlaps.note(observations)
        self._fresh += observations
        if taken is not None:
            newest_ns = max(newest_ns, taken.newest_ns)
            count += taken.count // _ROWS_PER_OBSERVATION
            self._readings.note_many(taken.sums(), taken.last_exits)
            self._rows.add(taken)
        self._batches.append(_Batch(batch_sequence, newest_ns, min(newest_ns, written_ns), count, size))
        self._bytes += size

    def release(self) -> Iterable[Settled | PlainRun]:
        """Return what the horizon has passed, or nothing while sorting is not worth its while."""
        fresh = len(self._fresh) + self._rows.fresh
        waiting = len(self._waiting) + len(self._rows) - self._rows.fresh
        if fresh < max(_SORT_AT_LEAST, waiting // 2) and self._bytes < self._most_bytes:
            return ()
        return self.release_all_due()

    def release_all_due(self) -> Iterable[Settled | PlainRun]:
        """Return all that the horizon has passed, in the order of time."""
        self._sort()
        return self._let_go(max(self._limit(), self.released_to_ns))

    def drain(self) -> Iterable[Settled | PlainRun]:
        """Return all that is left, in the order of time: the journal has ended."""
        self._sort()
        newest_ns = max(self._waiting[-1].t_ns if self._waiting else 0, self._rows.newest_ns)
        return self._let_go(max(newest_ns, self.released_to_ns))

    def _sort(self) -> None:
        """Put what came in its place: it is nearly in order, so most of what waits is before all of it."""
        self._rows.sort()
        if self._fresh:
            self._fresh.sort(key=_order)
            cut = bisect_left(self._waiting, _order(self._fresh[0]), key=_order)
            tail = self._waiting[cut:] + self._fresh
            tail.sort(key=_order)
            self._waiting[cut:] = tail
            self._fresh = []

    def _limit(self) -> int:
        limit = self._newest_ns - self._horizon_ns
        waiting = len(self._waiting) + len(self._rows) // _ROWS_PER_OBSERVATION
        if waiting <= self._most_waiting and self._bytes <= self._most_bytes:
            return limit
        count, size = waiting - self._most_waiting // 2, self._bytes - self._most_bytes // 2
        for batch in self._batches:
            count, size = count - batch.count, size - batch.size
            limit = max(limit, batch.reached_ns)
            if count <= 0 and size <= 0:
                break
        self.shortened += 1
        return limit

    def _let_go(self, limit: int) -> Iterable[Settled | PlainRun]:
        cut = bisect_right(self._waiting, limit, key=_time)
        ready, run = self._waiting[:cut], self._rows.take(limit)
        del self._waiting[:cut]
        self.released_to_ns = limit
        while self._batches and self._batches[0].newest_ns <= limit:
            batch = self._batches.popleft()
            self.covered = batch.sequence
            self._bytes -= batch.size
        if self._overlaps:
            ready = list(map(self._overlaps.judge, ready))
        return self._joined(ready, run, limit)

    def _joined(self, ready: Sequence[Observation], run: PlainRun, limit: int) -> Iterator[Settled | PlainRun]:
        join_one, now_ns = self._readings.join_one, run.last_ns if run.count else 0
        for item in _merged(ready, run):
            if isinstance(item, PlainRun):
                yield from self._run(item)
                continue
            now_ns = max(now_ns, item.t_ns)
            settled = join_one(item)
            if settled is not None:
                yield settled
        self._readings.prune(now_ns)
        self._readings.forget(limit)

    def _run(self, run: PlainRun) -> Iterator[Settled | PlainRun]:
        """Yield a run, or its writes if they are few or something was read late on behalf of one of them."""
        if run.count < LEAST_RUN or self._readings.has_late(run.sequences):
            yield from filter(None, map(self._readings.join_one, run.observations()))
        else:
            yield run


def _merged(observations: Sequence[Observation], run: PlainRun) -> Iterator[Observation | PlainRun]:
    """Yield observations and, between them, the parts of a run, all in the order of time."""
    begin = 0
    if run.count:
        for observation, end in zip(observations, run.cut_by(map(_order, observations)), strict=True):
            if end > begin:
                yield run.part(begin, end)
                begin = end
            yield observation
    else:
        yield from observations
    if begin < run.count:
        yield run.part(begin, run.count)
