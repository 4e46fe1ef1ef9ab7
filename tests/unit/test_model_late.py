"""The rule by which a late reading is exact."""

from __future__ import annotations

import pytest

from diffkeeper.model.late import LateReadings
from diffkeeper.model.observation import DataOp, DataWritten, Flag, Inode, LateData, Observation, SizeChanged, SizeOp

FILE = Inode(1, 5, 0, 0o100644, 1, 0, 0, 100, 0)
OTHER = Inode(1, 6, 0, 0o100644, 1, 0, 0, 100, 0)


def write(sequence: int, enter: int, exit_: int, offset: int = 0, length: int = 10, flags: int = 0) -> DataWritten:
    """Return a write in an interval; its task is its own."""
    return DataWritten(
        sequence, exit_, enter, exit_, 1, sequence, Flag(flags), length, DataOp.WRITE, FILE, offset, length, ()
    )


def reading(of: int, begin: int, end: int, length: int = 10) -> LateData:
    """Return a late reading of the first bytes."""
    return LateData(1000 + of, end, 0, end, 0, 0, Flag(0), 0, of, FILE, 0, b"x" * length, begin, end, False)


def judged(*observations: Observation) -> bool:
    """Return whether the late data of observation 1 is exact."""
    late = LateReadings()
    late.note(observations)
    settled = list(late.join(sorted(observations, key=lambda one: (one.t_ns, one.sequence))))
    assert not any(isinstance(one, LateData) for one, _, _ in settled), "joined readings are not given twice"
    return next(is_exact for one, readings, is_exact in settled if one.sequence == 1 and readings)


def test_a_reading_that_nobody_disturbed_is_exact() -> None:
    assert judged(write(1, 10, 20, flags=Flag.BY_REFERENCE), reading(1, 30, 40))


@pytest.mark.parametrize(
    ("enter", "exit_", "is_exact"),
    [(1, 9, True), (5, 10, False), (15, 25, False), (32, 90, False), (40, 90, False), (41, 90, True)],
)
def test_a_change_of_the_extent_disturbs_if_it_may_have_been_seen(enter: int, exit_: int, is_exact: bool) -> None:
    assert judged(write(1, 10, 20), write(2, enter, exit_), reading(1, 30, 40)) is is_exact


def test_a_change_elsewhere_in_the_file_does_not_disturb() -> None:
    assert judged(write(1, 10, 20), write(2, 15, 25, offset=10), reading(1, 30, 40))


def test_a_change_of_size_disturbs() -> None:
    cut = SizeChanged(2, 25, 22, 25, 1, 2, Flag(0), 0, SizeOp.TRUNCATE, FILE, 0, 0, 500)
    assert not judged(write(1, 10, 20), cut, reading(1, 30, 40))


def test_the_lock_puts_a_change_wholly_before() -> None:
    assert judged(write(1, 10, 20, flags=Flag.IN_LOCK), write(2, 8, 12, flags=Flag.IN_LOCK), reading(1, 30, 40))
    assert not judged(write(1, 10, 20, flags=Flag.IN_LOCK), write(2, 8, 25, flags=Flag.IN_LOCK), reading(1, 30, 40))


def test_an_entry_that_was_not_seen_is_after_the_tasks_last_exit() -> None:
    own, other = write(1, 10, 20), write(3, 0, 90)
    before = DataWritten(2, 60, 50, 60, 1, other.tid, Flag(0), 10, DataOp.WRITE, FILE, 50, 10, ())
    assert judged(own, before, other, reading(1, 30, 40))
    assert not judged(own, other, reading(1, 30, 40))


def copied(change: Observation, source: Inode = FILE) -> bool:
    """Return whether a copy of the source's first bytes, in [10, 20], is exact beside another change."""
    copy = DataWritten(
        1, 20, 10, 20, 1, 1, Flag(0), 10, DataOp.SENDFILE, OTHER, 0, 10, (), source=source, source_offset=0
    )
    late = LateReadings()
    late.note([copy, change])
    settled = late.join(sorted([copy, change], key=lambda one: one.t_ns))
    return next(is_exact for one, _, is_exact in settled if one is copy)


@pytest.mark.parametrize(
    ("enter", "exit_", "is_exact"), [(1, 9, True), (1, 10, False), (12, 15, False), (20, 90, False), (21, 90, True)]
)
def test_a_copy_is_exact_if_its_source_did_not_change_meanwhile(enter: int, exit_: int, is_exact: bool) -> None:
    assert copied(write(2, enter, exit_)) is is_exact
    assert copied(write(2, enter, exit_, offset=10))
    assert copied(write(2, enter, exit_), source=OTHER)


def test_a_change_of_the_source_ends_where_its_lock_says() -> None:
    change = DataWritten(2, 9, 5, 90, 1, 2, Flag.IN_LOCK, 10, DataOp.WRITE, FILE, 0, 10, ())
    assert copied(change)


def test_changes_disturb_also_after_they_were_merged() -> None:
    late = LateReadings()
    old = [write(one, 10 + one, 20 + one) for one in range(2, 6)]
    late.note(old)
    assert len(list(late.join([*old, write(9, 10**10, 10**10 + 1)]))) == 5
    both = (write(1, 10, 10**10), reading(1, 10**10 + 5, 10**10 + 6))
    late.note(both)
    assert [is_exact for *_, is_exact in late.join(both)] == [False]


def test_a_reading_that_comes_after_its_turn_goes_alone() -> None:
    late = LateReadings()
    late.note([write(1, 10, 20)])
    assert [readings for _, readings, _ in late.join([write(1, 10, 20)])] == [()]
    late.note([reading(1, 30, 40)])
    assert [type(one) for one, _, _ in late.join([reading(1, 30, 40)])] == [LateData]
