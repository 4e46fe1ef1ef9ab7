"""Join to each observation what was read late on its behalf, and judge whether that reading is exact.

The rule: bytes read back over [r0, r1] for a change *e* are exact only if no other change of that extent or of the
file's size has begun by r1 and ended after *e* began, and if the file was not mapped shared and writable in between.
A change whose place is in doubt counts for the whole file. A request of io_uring or AIO counts from when it may write
to its completion, and for good where that is not told. Changes unfinished at r1 count, so observations are noted as
they arrive and joined only when the window that sorts them has let them go. What a call was writing when a mapped file
was sampled is cut out of the sample here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import TypeAlias

from diffkeeper.model import mapped, settling
from diffkeeper.model.changes import END, SUMMED_UP, Change, Changes, Source, merged
from diffkeeper.model.observation import (
    DataWritten,
    EntryRead,
    EventsLost,
    Flag,
    HoleFound,
    HoleReread,
    Inode,
    LateData,
    Lost,
    MappingChanged,
    Observation,
    Opened,
    RequestSeen,
    SizeChanged,
)
from diffkeeper.model.overlap import Overlaps

Late: TypeAlias = LateData | EntryRead
Settled: TypeAlias = tuple[Observation, tuple[Late, ...], bool]

Sum: TypeAlias = tuple[tuple[int, int, int], int, int, int, int, int, int, Source]
"""A file's identity; then moment, begin, end, enter_ns, exit_ns and locked_ns of its changes, and where they are."""

_KEPT_NS = 4_000_000_000  # how long single changes are kept before they are merged into one that disturbs as much
_TASKS = 10_000  # whose last calls are remembered however long ago they were
_FORGOTTEN_NS = 60_000_000_000  # no call is expected to last as long
_LOST = -2  # sequence of what has none
_IN_LOCK = int(Flag.IN_LOCK)
_BY_REFERENCE = int(Flag.BY_REFERENCE)
_FROM_DESCRIPTOR = int(Flag.FROM_DESCRIPTOR)
_MAPPED = int(Flag.MAPPED)


class LateReadings:
    """Remember late readings and recent changes between the arrival of observations and their turn."""

    def __init__(self, overlaps: Overlaps | None = None) -> None:
        """Ask ``overlaps`` whether the place of a write is certain."""
        self._overlaps = overlaps if overlaps is not None else Overlaps()
        self._late: dict[int, list[Late]] = {}
        self._taken: set[int] = set()
        self._changes: dict[tuple[int, int, int], Changes] = {}
        self._fresh: set[tuple[int, int, int]] = set()  # files that may have changes which are not summed up
        self._losses: list[Change] = []  # of which it is not known what they were about
        self._last_exit_ns: dict[int, int] = {}
        self._enter_ns: dict[int, int] = {}  # of changes that wait for late data
        self._mapped: dict[tuple[int, int, int], list[tuple[int, int]]] = {}  # (from, until) as mapped, in ns
        self._in_flight: dict[tuple[int, int, int], dict[int, Change]] = {}  # requests, by sequence
        self._rereads: set[int] = set()  # re-readings that have arrived: their readings stand before them
        self._pruned_ns = 0

    def note(self, observations: Iterable[Observation]) -> None:
        """Look at observations as they arrive, in the ring's order (each task's own are in order there)."""
        for observation in observations:
            if isinstance(observation, LateData | EntryRead):
                self._late.setdefault(observation.of, []).append(observation)
            elif isinstance(observation, EventsLost):
                self._note_loss(observation)
            elif isinstance(observation, HoleReread):
                self._rereads.add(observation.sequence)
            elif isinstance(observation, RequestSeen):
                self._note_request(observation)
            else:
                self._note(observation)

    def _note_loss(self, lost: EventsLost) -> None:
        """Take what was lost for a change that may have been anywhere in its window and, but for bytes, in the file."""
        begin, end = (lost.offset, lost.offset + lost.length) if lost.what == Lost.BYTES else (0, END)
        change = Change(begin, end, lost.from_ns, lost.exit_ns, _LOST, 0)
        if lost.file is not None:
            key = (lost.file.dev, lost.file.ino, lost.file.generation)
            self._changes_in(key).add(change)
        elif lost.what in (Lost.UNKNOWN, Lost.BYTES, Lost.SIZE, Lost.OPEN):
            self._losses.append(change)

    def _note_request(self, seen: RequestSeen) -> None:
        """Take a request for a change that goes on until its end is told."""
        key = seen.inode.identity
        in_flight = self._in_flight.setdefault(key, {})
        if not seen.is_over:
            begin, end = (seen.offset, seen.offset + seen.length) if seen.length else (0, END)
            in_flight[seen.of] = Change(begin, end, seen.t_ns, END, seen.of, 0)
            return
        request = in_flight.pop(seen.of, None)
        if request is not None:
            self._changes_in(key).add(request._replace(exit_ns=seen.t_ns))
        if not in_flight:
            del self._in_flight[key]

    def join(self, observations: Iterable[Observation]) -> Iterator[Settled]:
        """Yield each of the sorted observations with its late readings and whether all of them are exact.

        A late reading that was joined is not yielded again; one that came after its observation's turn goes alone.
        """
        now_ns = 0
        for observation in observations:
            now_ns = max(now_ns, observation.t_ns)
            settled = self.join_one(observation)
            if settled is not None:
                yield settled
        self.prune(now_ns)

    def join_one(self, observation: Observation) -> Settled | None:
        """Return the next observation with its late readings, None if it does not go alone."""
        if type(observation) is RequestSeen:
            return observation, (), True  # what was read on behalf of its sequence belongs to the write
        if isinstance(observation, LateData | EntryRead):
            if observation.sequence in self._taken:
                self._taken.discard(observation.sequence)
                return None
            if observation.of in self._rereads:
                return None
            self._late.pop(observation.of, None)
            return observation, (), False
        if observation.sequence in self._late:
            joined = self._joined(observation)
            self._rereads.discard(observation.sequence)
            return joined
        self._enter_ns.pop(observation.sequence, None)
        return self._settled_sample(observation), (), not self._has_unsettled_source(observation)

    def has_late(self, sequences: Callable[[], Iterable[int]]) -> bool:
        """Say whether something was read late for one of these observations."""
        return bool(self._late) and not self._late.keys().isdisjoint(sequences())

    def _joined(self, observation: Observation) -> Settled:
        late = tuple(sorted(self._late.pop(observation.sequence), key=attrgetter("t_ns")))
        order = (observation.t_ns, observation.sequence)
        self._taken.update(one.sequence for one in late if (one.t_ns, one.sequence) > order)
        enter_ns = self._enter_ns.pop(observation.sequence, observation.enter_ns)
        if isinstance(observation, DataWritten) and observation.slack:
            return self._overlaps.judge(settling.placed(observation, late)), (), True
        is_exact = not any(
            isinstance(reading, LateData) and not reading.failed and self._is_disturbed(observation, enter_ns, reading)
            for reading in late
        )
        return observation, late, is_exact

    def _has_unsettled_source(self, seen: Observation) -> bool:
        """Say whether a copy may have read its source before or after another change of it that went on meanwhile."""
        if type(seen) is not DataWritten or seen.source is None or seen.payload:
            return False
        begin, end = seen.source_offset, seen.source_offset + seen.length
        spans = self._mapped.get(seen.source.identity, ())
        if any(since <= seen.exit_ns and until >= seen.enter_ns for since, until in spans):
            return True
        for change in self._changes_of(seen.source, begin, end, seen.enter_ns, seen.exit_ns):
            if change.sequence == seen.sequence or change.end <= begin or change.begin >= end:
                continue
            if change.enter_ns <= seen.exit_ns and (change.locked_ns or change.exit_ns) >= seen.enter_ns:
                return True
        return False

    def _changes_of(self, inode: Inode, begin: int, end: int, from_ns: int, to_ns: int) -> Iterator[Change]:
        """Yield all that may have changed an extent of a file within a time: what is told, was lost, goes on."""
        changes = self._changes.get(inode.identity)
        if changes is not None:
            yield from changes.near(begin, end, from_ns, to_ns)
        yield from self._losses
        if self._in_flight:
            yield from self._in_flight.get(inode.identity, {}).values()

    def _settled_sample(self, observation: Observation) -> Observation:
        if not isinstance(observation, DataWritten) or not int(observation.flags) & _MAPPED:
            return observation
        inode, t_ns = observation.inode, observation.t_ns
        changes = self._changes.get((inode.dev, inode.ino, inode.generation))
        near = changes.near(0, END, t_ns, t_ns) if changes is not None else ()
        single = (one for one in near if one.sequence != SUMMED_UP)
        going_on = [(one.begin, one.end) for one in single if 0 < one.locked_ns <= t_ns <= one.exit_ns]
        return mapped.without(observation, going_on) if going_on else observation

    def _is_disturbed(self, observation: Observation, enter_ns: int, reading: LateData) -> bool:
        begin, end = reading.offset, reading.offset + len(reading.data)
        spans = self._mapped.get(reading.inode.identity, ())
        if any(since <= reading.read_to_ns and until >= enter_ns for since, until in spans):
            return True
        locked_ns = observation.t_ns if int(observation.flags) & _IN_LOCK else 0
        for change in self._changes_of(reading.inode, begin, end, enter_ns, reading.read_to_ns):
            if change.sequence == observation.sequence:
                continue
            if change.locked_ns and change.locked_ns < locked_ns:
                continue  # the inode's lock put it wholly before
            if change.enter_ns > reading.read_to_ns or change.exit_ns < enter_ns:
                continue
            if (change.begin < end and begin < change.end) or self._is_anywhere(reading.inode, change):
                return True
        return False

    def _is_anywhere(self, inode: Inode, change: Change) -> bool:
        return change.is_placeless and self._overlaps.is_doubtful(
            inode.identity, change.sequence, change.enter_ns, change.exit_ns
        )

    def _note(self, observation: Observation) -> None:
        if int(observation.flags) & _MAPPED:
            return  # no call: what it says of the file is said by the mapping
        # A task's calls do not overlap: where the entry was not seen, the call began after the task's last one ended.
        enter_ns = observation.enter_ns or self._last_exit_ns.get(observation.tid, 0)
        self._last_exit_ns[observation.tid] = observation.exit_ns
        if int(observation.flags) & _BY_REFERENCE:
            self._enter_ns[observation.sequence] = enter_ns
        if isinstance(observation, DataWritten):
            end = observation.offset + observation.length
            self._add(observation.inode, observation, observation.offset - observation.slack, end, enter_ns)
        elif isinstance(observation, HoleFound):
            end = observation.offset + observation.length if observation.length else END
            self._add(observation.inode, observation, observation.offset if observation.length else 0, end, enter_ns)
        elif isinstance(observation, SizeChanged) or (isinstance(observation, Opened) and observation.truncated):
            self._add(observation.inode, observation, 0, END, enter_ns)
        elif isinstance(observation, MappingChanged):
            self._note_mapping(observation)

    def _note_mapping(self, observation: MappingChanged) -> None:
        spans = self._mapped.setdefault(observation.inode.identity, [])
        is_open = bool(spans) and spans[-1][1] == END
        if observation.is_mapped and not is_open:
            spans.append((observation.t_ns, END))
        elif not observation.is_mapped and is_open:
            spans[-1] = (spans[-1][0], observation.t_ns)

    def _add(self, inode: Inode, observation: Observation, begin: int, end: int, enter_ns: int) -> None:
        locked_ns = observation.t_ns if int(observation.flags) & _IN_LOCK else 0
        has_slack = isinstance(observation, DataWritten) and observation.slack
        is_placeless = not (locked_ns or has_slack) and bool(int(observation.flags) & _FROM_DESCRIPTOR)
        change = Change(begin, end, enter_ns, observation.exit_ns, observation.sequence, locked_ns, is_placeless)
        self._changes_in((inode.dev, inode.ino, inode.generation)).add(change)

    def _changes_in(self, key: tuple[int, int, int]) -> Changes:
        """Return the changes of a file, to which some are about to be added."""
        self._fresh.add(key)
        changes = self._changes.get(key)
        if changes is None:
            changes = self._changes[key] = Changes()
        return changes

    def note_many(self, sums: Iterable[Sum], last_exits: Iterable[tuple[int, int]]) -> None:
        """Take plain writes of a batch, summed up, and when the last call of each task in it ended.

        The batch's other observations were noted; none of them asks when a call began whose entry was not seen.
        """
        for identity, moment, begin, end, enter_ns, exit_ns, locked_ns, source in sums:
            self._changes_in(identity).add_many(moment, begin, end, enter_ns, exit_ns, locked_ns, source)
        self._last_exit_ns.update(last_exits)

    def forget(self, before_ns: int) -> None:
        """Keep but sums of changes that ended before a time, up to which everything was joined."""
        self._fresh = {key for key in self._fresh if key in self._changes and self._changes[key].forget(before_ns)}

    def prune(self, now_ns: int) -> None:
        """Sum up what is long over by now."""
        if now_ns - self._pruned_ns < _KEPT_NS:
            return
        self._pruned_ns = now_ns
        long_ago_ns = now_ns - _FORGOTTEN_NS
        self._overlaps.forget(long_ago_ns)
        if len(self._last_exit_ns) > _TASKS:
            self._last_exit_ns = {tid: at_ns for tid, at_ns in self._last_exit_ns.items() if at_ns >= long_ago_ns}
        self._losses = merged(self._losses, now_ns - _KEPT_NS) if len(self._losses) > 1 else self._losses
        for key, changes in list(self._changes.items()):
            if changes.last_exit_ns < now_ns - _FORGOTTEN_NS:
                del self._changes[key]
            else:
                changes.merge(now_ns - _KEPT_NS)
        for key, spans in list(self._mapped.items()):
            if not spans or spans[-1][1] < now_ns - _FORGOTTEN_NS:
                del self._mapped[key]
