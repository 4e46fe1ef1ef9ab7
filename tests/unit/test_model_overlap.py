"""Writes that were not told from inside the lock are ambiguous exactly when another one's interval meets theirs."""

from diffkeeper.model.observation import DataOp, DataWritten, Flag, Inode
from diffkeeper.model.overlap import Overlaps


def write(
    sequence: int,
    enter_ns: int,
    exit_ns: int,
    *,
    offset: int = 0,
    length: int = 10,
    flags: Flag = Flag.FROM_DESCRIPTOR,
    ino: int = 5,
) -> DataWritten:
    inode = Inode(1, ino, 1, 0o100644, 1, 0, 0, 100, 0)
    return DataWritten(
        sequence, exit_ns, enter_ns, exit_ns, 1, 1, flags, length, DataOp.WRITE, inode, offset, length, ()
    )


def ambiguous(*writes: DataWritten) -> list[int]:
    overlaps = Overlaps()
    overlaps.note(writes)
    return [each.sequence for each in map(overlaps.judge, writes) if each.flags & Flag.AMBIGUOUS]


def test_writes_one_after_another_are_not_ambiguous() -> None:
    assert ambiguous(write(1, 10, 20), write(2, 21, 30), write(3, 31, 40)) == []


def test_overlapping_writes_through_a_descriptor_are_ambiguous_both() -> None:
    assert ambiguous(write(1, 10, 20), write(2, 15, 30, offset=500), write(3, 31, 40)) == [1, 2]


def test_a_long_write_meets_all_that_ended_within_it() -> None:
    assert ambiguous(write(1, 20, 30), write(2, 40, 50), write(3, 10, 60), write(4, 61, 70)) == [1, 2, 3]


def test_positioned_writes_to_other_places_are_not_ambiguous() -> None:
    apart = [write(1, 10, 20, flags=Flag(0)), write(2, 15, 30, offset=10, flags=Flag(0))]
    assert ambiguous(*apart) == []
    assert ambiguous(write(1, 10, 20, flags=Flag(0)), write(2, 15, 30, offset=9, flags=Flag(0))) == [1, 2]


def test_other_files_and_writes_told_in_the_lock_do_not_count() -> None:
    assert ambiguous(write(1, 10, 20), write(2, 10, 20, ino=6)) == []
    assert ambiguous(write(1, 10, 20, flags=Flag.IN_LOCK), write(2, 10, 20, flags=Flag.IN_LOCK)) == []


def test_the_order_of_arrival_does_not_matter() -> None:
    assert ambiguous(write(2, 15, 30), write(3, 31, 40), write(1, 10, 20)) == [2, 1]
