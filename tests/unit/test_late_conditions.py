"""Each condition of the interval rule keeps some late reading from being believed: without it that one would be.

The rule (``model/late.py``) is dropped piece by piece, and what the whole of it refuses must then be called exact. A
condition that could go without this suite noticing would be one that nothing holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from diffkeeper.model.changes import Change, Changes
from diffkeeper.model.late import LateReadings
from diffkeeper.model.observation import (
    Base,
    DataOp,
    DataWritten,
    EventsLost,
    Flag,
    HoleFound,
    Inode,
    LateData,
    Lost,
    MappingChanged,
    Observation,
    Opened,
    RequestSeen,
    SizeChanged,
    SizeOp,
)
from diffkeeper.model.overlap import Overlaps
from diffkeeper.processing.window import Window

FILE = Inode(1, 5, 0, 0o100644, 1, 0, 0, 100, 0)
SOURCE = Inode(1, 6, 0, 0o100644, 1, 0, 0, 100, 0)
BY_REFERENCE = Flag.BY_REFERENCE
_WITHIN, _UNFINISHED = (32, 38), (35, 90)


def write(
    sequence: int, enter: int, exit_: int, offset: int = 0, flags: int = 0, inode: Inode = FILE, **more: Any
) -> DataWritten:
    """Return a write of ten bytes in an interval; its task is its own."""
    common = (sequence, exit_, enter, exit_, 1, sequence, Flag(flags), 10)
    return DataWritten(*common, DataOp.WRITE, inode, offset, 10, more.pop("payload", ()), **more)


def size(kind: type[SizeChanged] | type[Opened], enter: int, exit_: int) -> Observation:
    """Return a truncation, by a call of its own or by an open."""
    common = (2, exit_, enter, exit_, 1, 2, Flag(0), 0)
    if kind is SizeChanged:
        return SizeChanged(*common, SizeOp.TRUNCATE, FILE, 0, 0, 500)
    return Opened(*common, FILE, SOURCE, b"f", False, True, 0o1000, ())


def mapping(t_ns: int, is_mapped: bool) -> MappingChanged:
    """Return the begin, or the end, of a shared writable mapping."""
    return MappingChanged(t_ns, t_ns, t_ns, t_ns, 1, 1, Flag(0), 0, FILE, is_mapped)


def request(sequence: int, t_ns: int, of: int, is_over: bool, offset: int = 0, length: int = 10) -> RequestSeen:
    """Return what announces a request, or tells its end."""
    return RequestSeen(sequence, t_ns, t_ns, t_ns, 1, 2, Flag.ASYNC, 0, FILE, offset, length, of, is_over)


CHANGED = write(1, 10, 20, flags=BY_REFERENCE)
READING = LateData(-40, 40, 30, 40, 0, 0, Flag(0), 0, 1, FILE, 0, b"x" * 10, 30, 40, False)


def judged(*others: Observation) -> bool:
    """Return whether the reading is called exact though the others happened."""
    observations = [CHANGED, READING, *others]
    overlaps = Overlaps()
    late = LateReadings(overlaps)
    overlaps.note(observations)
    late.note(observations)
    settled = list(late.join(sorted(observations, key=lambda one: (one.t_ns, one.sequence))))
    return next(is_exact for one, readings, is_exact in settled if one.sequence == 1 and readings)


def without(monkeypatch: pytest.MonkeyPatch, is_dropped: Callable[[Any, LateData], bool]) -> None:
    """Let changes that are so not count."""
    whole = LateReadings._is_disturbed

    def judge(self: LateReadings, observation: Observation, enter_ns: int, reading: LateData) -> bool:
        near = Changes.near

        def left(changes: Changes, *place: int) -> Iterator[Change]:
            return (one for one in near(changes, *place) if not is_dropped(one, reading))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Changes, "near", left)
            return whole(self, observation, enter_ns, reading)

    monkeypatch.setattr(LateReadings, "_is_disturbed", judge)


def unnoted(monkeypatch: pytest.MonkeyPatch, kind: type[Observation]) -> None:
    """Let observations of a kind go by unnoticed."""
    whole = LateReadings.note

    def note(self: LateReadings, observations: Sequence[Observation]) -> None:
        whole(self, [one for one in observations if not isinstance(one, kind)])

    monkeypatch.setattr(LateReadings, "note", note)


def test_nothing_else_is_exact() -> None:
    assert judged()
    assert judged(request(2, 1, 2, False), request(3, 9, 2, True), request(4, 41, 4, False))
    assert judged(request(1, 5, 1, False), request(5, 10, 5, False, 50))
    assert judged(write(2, 1, 9), write(3, 41, 90), write(4, *_WITHIN, offset=50), mapping(5, True), mapping(6, False))


TIMES = {
    "a write that is unfinished when the reading ends": (
        write(2, *_UNFINISHED),
        lambda one, r: one.exit_ns > r.read_to_ns,
    ),
    "a write between the change and the reading": (write(2, 22, 28), lambda one, r: one.exit_ns < r.read_from_ns),
    "a write during the reading": (write(2, *_WITHIN), lambda one, r: one.enter_ns >= r.read_from_ns),
    "a write that had begun before the change did": (write(2, 5, 25), lambda one, r: one.enter_ns < 10),
    "a write that began as the reading ended": (write(2, 40, 90), lambda one, r: one.enter_ns >= r.read_to_ns),
    "a write that ended as the change began": (write(2, 5, 10), lambda one, r: one.exit_ns <= 10),
}


@pytest.mark.parametrize("name", TIMES)
def test_another_change_in_time_disturbs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other, is_dropped = TIMES[name]
    assert not judged(other)
    without(monkeypatch, is_dropped)
    assert judged(other)


KINDS = {
    "a change of size": (SizeChanged, [size(SizeChanged, *_WITHIN)]),
    "an open that truncates": (Opened, [size(Opened, *_WITHIN)]),
    "a shared writable mapping": (MappingChanged, [mapping(5, True)]),
    "a mapping that ended in between": (MappingChanged, [mapping(5, True), mapping(25, False)]),
    "a request that never ends": (RequestSeen, [request(2, 5, 2, False)]),
    "a request whose place is not known": (RequestSeen, [request(2, 5, 2, False, 500, 0)]),
    "a request that ended in between": (RequestSeen, [request(2, 5, 2, False), request(3, 25, 2, True)]),
    "a change that no call explains": (
        HoleFound,
        [HoleFound(2, 33, 33, 34, 0, 0, Flag.HOLE, 0, FILE, Base(1, 1, 0), b"f", 0, 0, 1)],
    ),
    "a lost change of the file": (
        EventsLost,
        [EventsLost(2, 32, 32, 38, 0, 0, Flag(0), 0, "ring", 1, 32, Lost.BYTES, Base(1, 5, 0), 0, 5)],
    ),
    "a lost change of whatever file": (EventsLost, [EventsLost(2, 32, 32, 38, 0, 0, Flag(0), 0, "ring", 1, 32)]),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_change_disturbs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, others = KINDS[name]
    assert not judged(*others)
    unnoted(monkeypatch, kind)
    assert judged(*others)


def test_a_write_whose_entry_was_not_seen_began_with_its_tasks_last_end(monkeypatch: pytest.MonkeyPatch) -> None:
    unseen = write(2, 0, 90, flags=Flag.IN_LOCK)
    assert not judged(unseen)
    without(monkeypatch, lambda one, reading: one.enter_ns == 0)
    assert judged(unseen)


def test_a_write_whose_place_is_in_doubt_may_have_been_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    doubtful = [write(each, *_WITHIN, offset=50 * each, flags=Flag.FROM_DESCRIPTOR) for each in (2, 3)]
    assert judged(doubtful[0])
    assert not judged(*doubtful)
    monkeypatch.setattr(Overlaps, "is_doubtful", lambda *_: False)
    assert judged(*doubtful)


def test_the_verdict_waits_for_changes_that_are_not_there_yet() -> None:
    def verdict(horizon_ns: int) -> bool:
        window = Window(horizon_ns=horizon_ns)
        window.add(1, 100, [CHANGED, READING])
        settled = list(window.release_all_due())
        window.add(2, 200, [write(2, *_UNFINISHED)])
        settled += window.drain()
        return next(is_exact for one, readings, is_exact in settled if one.sequence == 1)

    assert not verdict(2_000)
    assert verdict(0)


def copy(sequence: int, enter: int, exit_: int) -> DataWritten:
    """Return a copy of ten bytes from SOURCE, stored as that: no bytes come with it."""
    return write(sequence, enter, exit_, source=SOURCE, source_offset=20)


def test_a_copy_whose_source_was_written_meanwhile_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    def verdict(*others: DataWritten) -> bool:
        observations = [copy(1, 10, 20), *others]
        late = LateReadings()
        late.note(observations)
        return next(is_exact for one, _, is_exact in late.join(observations) if one.sequence == 1)

    assert verdict(write(2, 1, 9, 20, inode=SOURCE), write(3, 21, 30, 20, inode=SOURCE))
    assert verdict(write(2, 12, 18, 30, inode=SOURCE))
    assert verdict(write(2, 5, 15, 20, inode=FILE))
    during = write(2, 15, 25, 20, inode=SOURCE)
    assert not verdict(during)
    monkeypatch.setattr(LateReadings, "_has_unsettled_source", lambda *_: False)
    assert verdict(during)
