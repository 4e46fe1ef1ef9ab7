"""Judge writes whose place was not told from inside the file system's lock.

There, the place is what the caller said, or, with FROM_DESCRIPTOR, what the descriptor or the size of the file said
when the call returned, and may be another's; the order is known to lie in [enter, exit] only. The rule: such a write is
ambiguous when the interval of another one to the same file overlaps its own, and its own place is not certain, or both
are and their extents meet. A write whose place is not certain is in doubt itself, and with it the file: it makes no
others ambiguous.

What changes the size, punches holes or sets a capability has its instant from inside the lock, as a rule. A write whose
interval it falls into, and whose extent it meets, may have come before it or after: that write is ambiguous as well,
and so is the whole file, since a size, or whether the write took the capability away, is no matter of an extent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from diffkeeper.model.attributes import CAPABILITY
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    DataWritten,
    Flag,
    Observation,
    Opened,
    SizeChanged,
    SizeOp,
)

_END = 1 << 64
_IN_LOCK = int(Flag.IN_LOCK)
_PUNCH_HOLE, _COLLAPSE, _ZERO, _INSERT = 2, 8, 16, 32  # FALLOC_FL_*
_CROSSING = frozenset({SizeChanged, Opened, AttributeChanged})
_KNOWN = int(Flag.IN_LOCK | Flag.MAPPED)  # the place is no question
_FROM_DESCRIPTOR = int(Flag.FROM_DESCRIPTOR)
_KEPT = 20_000  # writes of one file that are remembered before those of long ago are forgotten
_FORGOTTEN_NS = 10_000_000_000
_SWEPT_AFTER = 50_000  # additions, before files of long ago are forgotten
_SWEPT_NS = 60_000_000_000  # no call is expected to last as long

_Identity = tuple[int, int, int]


class _Write(NamedTuple):
    exit_ns: int
    enter_ns: int
    sequence: int
    begin: int
    end: int
    is_certain: bool  # as to the place
    crosses: bool = False  # no write: one that meets it comes to something else before it than after it


class Overlaps:
    """Remember recent writes without a lock's word, and what crosses writes, in the order in which they ended."""

    def __init__(self) -> None:
        """Start with none."""
        self._writes: dict[_Identity, list[_Write]] = {}
        self._longest_ns: dict[_Identity, int] = {}
        self._has_writes = False
        self._added = 0

    def __bool__(self) -> bool:
        """Say whether there was any such write: where there is none, nothing needs to be judged."""
        return self._has_writes

    def note(self, observations: Iterable[Observation]) -> None:
        """Look at observations as they arrive."""
        for seen in observations:
            if type(seen) is DataWritten and not int(seen.flags) & _KNOWN and seen.enter_ns:
                self._has_writes = True
                is_certain = not int(seen.flags) & _FROM_DESCRIPTOR
                begin, end = seen.offset - seen.slack, seen.offset + seen.length
                write = _Write(seen.exit_ns, seen.enter_ns, seen.sequence, begin, end, is_certain)
                self._add(seen.inode.identity, write)
            elif type(seen) in _CROSSING:
                assert isinstance(seen, SizeChanged | Opened | AttributeChanged), "the same in the checker's words"
                begin, end = _crossed(seen)
                if begin < end:
                    enter_ns, exit_ns = _interval(seen)
                    self._add(seen.inode.identity, _Write(exit_ns, enter_ns, seen.sequence, begin, end, True, True))

    def _add(self, key: _Identity, write: _Write) -> None:
        writes = self._writes.setdefault(key, [])
        # Records of one CPU are in order, those of two nearly: most go to the end.
        writes.insert(bisect_left(writes, write) if writes and write < writes[-1] else len(writes), write)
        self._longest_ns[key] = max(self._longest_ns.get(key, 0), write.exit_ns - write.enter_ns)
        if len(writes) > _KEPT:
            del writes[: bisect_left(writes, (write.exit_ns - _FORGOTTEN_NS,))]
        self._added += 1
        if self._added > _SWEPT_AFTER:
            self._sweep(write.exit_ns - _SWEPT_NS)

    def _sweep(self, before_ns: int) -> None:
        self._added = 0
        for key in [key for key, writes in self._writes.items() if not writes or writes[-1].exit_ns < before_ns]:
            del self._writes[key], self._longest_ns[key]

    def forget(self, before_ns: int) -> None:
        """Forget files that were not written to since a time."""
        for key in [key for key, writes in self._writes.items() if writes[-1].exit_ns < before_ns]:
            del self._writes[key], self._longest_ns[key]

    def judge(self, seen: Observation) -> Observation:
        """Return the observation, marked AMBIGUOUS, and CROSSED, where the rule says so."""
        if type(seen) is not DataWritten or int(seen.flags) & _KNOWN:
            return seen
        doubts = self._doubts_of(seen)
        if not doubts:
            return seen
        return replace(seen, flags=seen.flags | doubts)

    def is_doubtful(self, identity: _Identity, sequence: int, enter_ns: int, exit_ns: int) -> bool:
        """Say whether it is not certain where a write went, whose place the descriptor told."""
        return next(self._met(identity, sequence, enter_ns, exit_ns), None) is not None

    def _doubts_of(self, seen: DataWritten) -> Flag:
        if not seen.enter_ns:
            return Flag(0)
        doubts = Flag.AMBIGUOUS if seen.slack else Flag(0)
        begin, end = seen.offset - seen.slack, seen.offset + seen.length
        is_certain = not int(seen.flags) & _FROM_DESCRIPTOR
        for other in self._met(seen.inode.identity, seen.sequence, seen.enter_ns, seen.exit_ns):
            meets = other.begin < end and begin < other.end
            if other.crosses and (meets or not (is_certain or seen.slack)):
                return Flag.AMBIGUOUS | Flag.CROSSED
            if not other.crosses and (not is_certain or (other.is_certain and meets)):
                doubts = Flag.AMBIGUOUS
        return doubts

    def _met(self, key: _Identity, sequence: int, enter_ns: int, exit_ns: int) -> Iterator[_Write]:
        """Yield the others on the file whose intervals overlap the given one."""
        writes = self._writes.get(key)
        if not writes:
            return
        last_ns = exit_ns + self._longest_ns[key]
        for index in range(bisect_left(writes, (enter_ns,)), len(writes)):
            other = writes[index]
            if other.exit_ns > last_ns:
                return
            if other.sequence != sequence and other.enter_ns <= exit_ns:
                yield other


def _interval(seen: Observation) -> tuple[int, int]:
    """Return when something was changed: at an instant in the lock, or some time in the call."""
    return (seen.t_ns, seen.t_ns) if int(seen.flags) & _IN_LOCK else (seen.enter_ns or seen.t_ns, seen.exit_ns)


def _crossed(seen: SizeChanged | Opened | AttributeChanged) -> tuple[int, int]:
    """Return where a write does not come to the same before a change as after it; nowhere if the two are equal."""
    if isinstance(seen, SizeChanged):
        return _resized(seen)
    if isinstance(seen, Opened):
        return (0, _END) if seen.truncated and not seen.created else (0, 0)
    sets = seen.op == AttributeOp.SETXATTR and seen.xattr_name == CAPABILITY and not seen.flags & Flag.HOLE
    return (0, _END) if sets else (0, 0)


def _resized(seen: SizeChanged) -> tuple[int, int]:
    if seen.op == SizeOp.TRUNCATE:
        return max(0, seen.length), _END
    if seen.mode & (_COLLAPSE | _INSERT):
        return seen.offset, _END
    if seen.mode & (_PUNCH_HOLE | _ZERO):
        return seen.offset, seen.offset + seen.length
    return 0, 0  # it allocates, and a size that it sets is the larger one, before or after
