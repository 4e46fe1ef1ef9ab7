"""Judge writes whose place was not told from inside the file system's lock.

There, the place is what the caller said, or, with FROM_DESCRIPTOR, what the descriptor or the size of the file said
when the call returned, and may be another's; the order is known to lie in [enter, exit] only. The rule: such a write is
ambiguous when the interval of another one to the same file overlaps its own, and its own place is not certain, or both
are and their extents meet. A write whose place is not certain is in doubt itself, and with it the file: it makes no
others ambiguous.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from diffkeeper.model.observation import DataWritten, Flag, Observation

_KNOWN = int(Flag.IN_LOCK | Flag.MAPPED)  # the place is no question
_FROM_DESCRIPTOR = int(Flag.FROM_DESCRIPTOR)
_KEPT = 20_000  # writes of one file that are remembered before those of long ago are forgotten
_FORGOTTEN_NS = 10_000_000_000

_Identity = tuple[int, int, int]


class _Write(NamedTuple):
    exit_ns: int
    enter_ns: int
    sequence: int
    begin: int
    end: int
    is_certain: bool  # as to the place


class Overlaps:
    """Remember recent writes without a lock's word, in the order in which they ended."""

    def __init__(self) -> None:
        """Start with none."""
        self._writes: dict[_Identity, list[_Write]] = {}
        self._longest_ns: dict[_Identity, int] = {}

    def __bool__(self) -> bool:
        """Say whether there was any such write: where there is none, nothing needs to be judged."""
        return bool(self._writes)

    def note(self, observations: Iterable[Observation]) -> None:
        """Look at observations as they arrive."""
        for seen in observations:
            if type(seen) is DataWritten and not int(seen.flags) & _KNOWN and seen.enter_ns:
                self._add(seen)

    def _add(self, seen: DataWritten) -> None:
        key = seen.inode.identity
        writes = self._writes.setdefault(key, [])
        write = _Write(
            seen.exit_ns,
            seen.enter_ns,
            seen.sequence,
            seen.offset - seen.slack,
            seen.offset + seen.length,
            not int(seen.flags) & _FROM_DESCRIPTOR,
        )
        # Records of one CPU are in order, those of two nearly: most go to the end.
        writes.insert(bisect_left(writes, write) if writes and write < writes[-1] else len(writes), write)
        self._longest_ns[key] = max(self._longest_ns.get(key, 0), seen.exit_ns - seen.enter_ns)
        if len(writes) > _KEPT:
            del writes[: bisect_left(writes, (seen.exit_ns - _FORGOTTEN_NS,))]

    def judge(self, seen: Observation) -> Observation:
        """Return the observation, marked AMBIGUOUS where the rule says so."""
        if type(seen) is not DataWritten or int(seen.flags) & _KNOWN or not self._is_ambiguous(seen):
            return seen
        return replace(seen, flags=seen.flags | Flag.AMBIGUOUS)

    def is_doubtful(self, identity: _Identity, sequence: int, enter_ns: int, exit_ns: int) -> bool:
        """Say whether it is not certain where a write went, whose place the descriptor told."""
        return self._is_met(identity, sequence, enter_ns, exit_ns, lambda other: True)

    def _is_ambiguous(self, seen: DataWritten) -> bool:
        if not seen.enter_ns:
            return False
        if seen.slack:
            return True
        begin, end = seen.offset, seen.offset + seen.length
        is_certain = not int(seen.flags) & _FROM_DESCRIPTOR
        return self._is_met(
            seen.inode.identity,
            seen.sequence,
            seen.enter_ns,
            seen.exit_ns,
            lambda other: not is_certain or (other.is_certain and other.begin < end and begin < other.end),
        )

    def _is_met(
        self, key: _Identity, sequence: int, enter_ns: int, exit_ns: int, counts: Callable[[_Write], bool]
    ) -> bool:
        """Say whether the interval of another write to the file that counts overlaps the given one."""
        writes = self._writes.get(key)
        if not writes:
            return False
        last_ns = exit_ns + self._longest_ns[key]
        for index in range(bisect_left(writes, (enter_ns,)), len(writes)):
            other = writes[index]
            if other.exit_ns > last_ns:
                return False
            if other.sequence != sequence and other.enter_ns <= exit_ns and counts(other):
                return True
        return False
