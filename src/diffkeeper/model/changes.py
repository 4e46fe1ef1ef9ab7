"""The changes of one file that may disturb a reading of it, each for as long as it matters, then summed up.

A change is kept as it was until all that may ask for it alone has gone by (``forget``), and then in a sum with the
others that ended in the same moment, 262 µs long: a sum disturbs at least as much as each of them. What ended long ago
is one change for the whole file (``merge``). What order they came in makes no difference, nor whether they came as
values or are still where they were read (``Source``).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

END = (1 << 64) - 1
MOMENT_SHIFT = 18  # of ns
_LONG_NS = 100_000_000  # what takes longer is kept aside: with it, all that follows would have to be looked at
SUMMED_UP = -1  # sequence of what is not a single change


class Change(NamedTuple):
    """Say what was changed, and when: it began no earlier than ``enter_ns`` and had ended by ``exit_ns``."""

    begin: int
    end: int
    enter_ns: int
    exit_ns: int
    sequence: int
    locked_ns: int  # 0: the time is not from inside the lock
    is_placeless: bool = False  # the place is what the descriptor said: with others at work it may be another


Source: TypeAlias = Callable[[], Iterable[Change]]  # the changes of one file and moment, read when they are asked for


class _Moment:
    """Hold the changes that ended in one moment."""

    __slots__ = ("begin", "end", "enter_ns", "exit_ns", "is_locked", "is_placeless", "locked_ns", "single", "sources")

    def __init__(self) -> None:
        self.begin, self.end = END, 0
        self.enter_ns, self.exit_ns = END, 0
        self.locked_ns = 0
        self.is_locked = True
        self.is_placeless = False
        self.single: list[Change] | None = []
        self.sources: list[Source] = []

    def widen(self, begin: int, end: int, enter_ns: int, exit_ns: int, locked_ns: int) -> None:
        """Take what lies within these bounds, ``locked_ns`` being the greatest (0: one is not from inside)."""
        self.begin, self.end = min(self.begin, begin), max(self.end, end)
        self.enter_ns, self.exit_ns = min(self.enter_ns, enter_ns), max(self.exit_ns, exit_ns)
        self.locked_ns = max(self.locked_ns, locked_ns)
        self.is_locked = self.is_locked and locked_ns > 0

    def each(self) -> Iterable[Change]:
        """Return the changes, or their sum where they are not known any more."""
        if self.single is None:
            return (self.sum,)
        while self.sources:
            self.single += self.sources.pop()()
        return self.single

    @property
    def sum(self) -> Change:
        """Return a change that disturbs at least as much as all of them."""
        begin, end = (0, END) if self.is_placeless else (self.begin, self.end)
        locked_ns = self.locked_ns if self.is_locked else 0
        return Change(begin, end, self.enter_ns, self.exit_ns, SUMMED_UP, locked_ns, self.is_placeless)


class Changes:
    """Hold the changes of one file."""

    def __init__(self) -> None:
        """Start with none."""
        self._moments: dict[int, _Moment] = {}
        self._numbers: list[int] = []  # of the moments, in order
        self._exact_from = 0  # the first moment that may hold single changes
        self._longest_ns = 0  # that one of them took
        self._long: list[Change] = []  # sums of the past, and what went on for long

    def add(self, change: Change) -> None:
        """Note a change."""
        if change.exit_ns - change.enter_ns > _LONG_NS:
            self._long.append(change)
            return
        moment = self._moment(change.exit_ns >> MOMENT_SHIFT)
        moment.widen(change.begin, change.end, change.enter_ns, change.exit_ns, change.locked_ns)
        moment.is_placeless = moment.is_placeless or change.is_placeless
        self._longest_ns = max(self._longest_ns, change.exit_ns - change.enter_ns)
        if moment.single is not None:
            moment.single.append(change)

    def add_many(
        self, number: int, begin: int, end: int, enter_ns: int, exit_ns: int, locked_ns: int, source: Source
    ) -> None:
        """Note changes of moment ``number``, with certain places, which ``source`` can tell one by one."""
        moment = self._moment(number)
        moment.widen(begin, end, enter_ns, exit_ns, locked_ns)
        self._longest_ns = max(self._longest_ns, exit_ns - enter_ns)
        if moment.single is not None:
            moment.sources.append(source)

    def _moment(self, number: int) -> _Moment:
        moment = self._moments.get(number)
        if moment is None:
            moment = self._moments[number] = _Moment()
            if number < self._exact_from:
                moment.single = None
            insort(self._numbers, number)
        return moment

    def near(self, begin: int, end: int, from_ns: int, to_ns: int) -> Iterator[Change]:
        """Yield at least those that went on within the time and touch the extent, or have no certain place."""
        yield from self._long
        last = to_ns + self._longest_ns >> MOMENT_SHIFT
        for place in range(bisect_left(self._numbers, from_ns >> MOMENT_SHIFT), len(self._numbers)):
            if self._numbers[place] > last:
                return
            moment = self._moments[self._numbers[place]]
            if moment.enter_ns > to_ns or moment.exit_ns < from_ns:
                continue
            if moment.is_placeless or (moment.begin < end and begin < moment.end):
                yield from moment.each()

    def forget(self, before_ns: int) -> bool:
        """Keep but a sum of those that ended before a time; return whether single ones are left."""
        number = before_ns >> MOMENT_SHIFT
        first, last = bisect_left(self._numbers, self._exact_from), bisect_left(self._numbers, number)
        for each in self._numbers[first:last]:
            self._moments[each].single = None
            self._moments[each].sources = []
        self._exact_from = max(self._exact_from, number)
        return last < len(self._numbers)

    @property
    def last_exit_ns(self) -> int:
        """Return when the last of them ended."""
        last = self._moments[self._numbers[-1]].exit_ns if self._numbers else 0
        return max([last, *(change.exit_ns for change in self._long)])

    def merge(self, before_ns: int) -> None:
        """Join what ended in moments before a time into one change."""
        last = bisect_left(self._numbers, before_ns >> MOMENT_SHIFT)
        sums = [self._moments.pop(number).sum for number in self._numbers[:last]]
        del self._numbers[:last]
        self._long = merged([*self._long, *sums], before_ns)


def merged(changes: list[Change], before_ns: int) -> list[Change]:
    """Join what ended before a time into one change that disturbs at least as much."""
    old = [change for change in changes if change.exit_ns < before_ns]
    if len(old) < 2:
        return changes
    is_anywhere = any(change.is_placeless for change in old)
    joined = Change(
        0 if is_anywhere else min(change.begin for change in old),
        END if is_anywhere else max(change.end for change in old),
        min(change.enter_ns for change in old),
        max(change.exit_ns for change in old),
        SUMMED_UP,
        0,
    )
    return [joined, *(change for change in changes if change.exit_ns >= before_ns)]
