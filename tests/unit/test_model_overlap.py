"""Writes that were not told from inside the lock are ambiguous exactly when another one's interval meets theirs."""

import pytest

from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    DataOp,
    DataWritten,
    Flag,
    Inode,
    Observation,
    Opened,
    SizeChanged,
    SizeOp,
)
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


def judged(*seen: Observation) -> list[Observation]:
    overlaps = Overlaps()
    overlaps.note(seen)
    return list(map(overlaps.judge, seen))


def ambiguous(*seen: Observation) -> list[int]:
    return [each.sequence for each in judged(*seen) if each.flags & Flag.AMBIGUOUS]


def sized(op: SizeOp, t_ns: int, length: int, *, mode: int = 0, offset: int = 0) -> SizeChanged:
    inode = Inode(1, 5, 1, 0o100644, 1, 0, 0, 100, 0)
    return SizeChanged(9, t_ns, t_ns - 5, t_ns + 50, 2, 2, Flag.IN_LOCK, 0, op, inode, mode, offset, length)


def cut_by_open(t_ns: int, *, created: bool = False) -> Opened:
    inode = Inode(1, 5, 1, 0o100644, 1, 0, 0, 0, 0)
    base, times = Base(1, 2, 1), (t_ns, t_ns - 5, t_ns + 50)
    return Opened(9, *times, 2, 2, Flag.IN_LOCK, 3, inode, inode, b"f", created, True, 0, (), base, b"f")


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


def given(name: bytes, t_ns: int) -> AttributeChanged:
    inode = Inode(1, 5, 1, 0o100644, 1, 0, 0, 100, 0)
    times = t_ns, t_ns - 5, t_ns + 50
    return AttributeChanged(9, *times, 2, 2, Flag.IN_LOCK, 0, AttributeOp.SETXATTR, inode, name, b"value")


CUTS = {
    "truncate": sized(SizeOp.TRUNCATE, 15, 0),
    "open": cut_by_open(15),
    "collapse": sized(SizeOp.FALLOCATE, 15, 4, mode=8),
    "punch": sized(SizeOp.FALLOCATE, 15, 4, mode=3, offset=8),
    "zero": sized(SizeOp.FALLOCATE, 15, 4, mode=16, offset=8),
    "capability": given(b"security.capability", 15),  # which a write takes away
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_write_may_have_come_before_a_cut_that_falls_into_its_call(cut: str) -> None:
    found = judged(write(1, 10, 20, flags=Flag(0)), CUTS[cut])
    assert found[0].flags == Flag.AMBIGUOUS | Flag.CROSSED
    assert found[1] is CUTS[cut]


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_before_or_after_a_write_leaves_it_certain(cut: str) -> None:
    assert ambiguous(CUTS[cut], write(1, 16, 20, flags=Flag(0))) == []
    assert ambiguous(write(1, 5, 14, flags=Flag(0)), CUTS[cut]) == []


@pytest.mark.parametrize(
    "change",
    [
        sized(SizeOp.TRUNCATE, 15, 10),
        sized(SizeOp.FALLOCATE, 15, 500),
        sized(SizeOp.FALLOCATE, 15, 4, mode=3, offset=10),
        cut_by_open(15, created=True),
        given(b"user.a", 15),
    ],
)
def test_what_comes_to_the_same_before_a_write_as_after_it_leaves_it_certain(change: Observation) -> None:
    assert ambiguous(write(1, 10, 20, flags=Flag(0)), change) == []


def test_files_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffkeeper.model.overlap._SWEPT_AFTER", 3)
    overlaps = Overlaps()
    overlaps.note(write(number, number, number, ino=number) for number in range(1, 4))
    overlaps.note([write(4, 10**12, 10**12, ino=4)])
    assert list(overlaps._writes) == [(1, 4, 1)]
