"""Where bytes went that others' writes pushed along: told by the file, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffkeeper.model.observation import DataOp, DataWritten, Flag, Inode, LateData, Observation
from diffkeeper.model.overlap import Overlaps
from diffkeeper.model.settling import placed
from diffkeeper.processing.window import Window

FILE = Inode(1, 5, 0, 0o100644, 1, 0, 0, 100, 0)
DOUBT = Flag.FROM_DESCRIPTOR | Flag.AMBIGUOUS


def write(data: bytes, offset: int, slack: int, sequence: int = 1, flags: Flag = DOUBT) -> DataWritten:
    """Return a write that ended at ``offset`` or up to ``slack`` bytes before it."""
    common = (sequence, 20, 10, 20, 1, sequence, flags, len(data))
    return DataWritten(*common, DataOp.WRITE, FILE, offset, len(data), ((0, data),), None, 0, slack)


def read(text: bytes, offset: int, failed: bool = False, t_ns: int = 25) -> LateData:
    """Return what stood in the file from an offset on."""
    return LateData(-t_ns, t_ns, t_ns - 1, t_ns, 0, 0, Flag(0), 0, 1, FILE, offset, text, t_ns - 1, t_ns, failed)


def test_bytes_that_stand_once_in_the_range_are_placed_there() -> None:
    one = placed(write(b"mine\n", 115, 15), [read(b"theirs\nmine\ntheirs2\n", 100)])
    assert (one.offset, one.slack, one.flags) == (107, 0, Flag(0))


@pytest.mark.parametrize(
    "readings",
    [
        [],
        [read(b"mine\nand mine\n......", 100)],  # twice
        [read(b"nothing of it........", 100)],
        [read(b"mine\n", 100)],  # not all of the range
        [read(b"mine\n", 100), read(b"...............", 106)],  # with a gap
        [read(b"mine\n...............", 100, failed=True)],
    ],
)
def test_otherwise_the_doubt_stays(readings: list[LateData]) -> None:
    seen = write(b"mine\n", 115, 15)
    assert placed(seen, readings) is seen


def test_pages_are_joined() -> None:
    one = placed(write(b"mine\n", 115, 15), [read(b"e\n...............", 103), read(b"min", 100)])
    assert one.offset == 100


def test_a_write_without_all_its_bytes_is_not_searched_for() -> None:
    whole = write(b"mine\n", 115, 15)
    part = replace(whole, payload=((0, b"mi"),))
    assert placed(part, [read(b"mine\n...............", 100)]) is part


def settled(*observations: Observation) -> list[DataWritten]:
    window = Window()
    window.add(1, 100, observations)
    return [one for one, _, _ in window.drain() if isinstance(one, DataWritten)]


def test_the_window_places_what_it_lets_go() -> None:
    certain = write(b"theirs\n", 100, 0, 2, Flag(0))
    mine = write(b"mine\n", 115, 15, flags=Flag.FROM_DESCRIPTOR)
    one, two = settled(mine, read(b"theirs\nmine\n........", 100), certain)
    assert [(each.offset, each.flags) for each in (one, two)] == [(107, Flag(0)), (100, Flag(0))]


def test_without_its_reading_it_is_ambiguous() -> None:
    (one,) = settled(write(b"mine\n", 115, 15, flags=Flag.FROM_DESCRIPTOR))
    assert one.flags & Flag.AMBIGUOUS


def test_a_place_that_another_write_of_that_time_had_too_leaves_the_order_in_doubt() -> None:
    same = write(b"x", 107, 0, 2, Flag(0))
    one, _ = settled(write(b"mine\n", 115, 15, flags=Flag.FROM_DESCRIPTOR), read(b"theirs\nmine\n........", 100), same)
    assert one.flags & Flag.AMBIGUOUS


def test_who_is_certain_is_not_made_ambiguous_by_who_is_not() -> None:
    overlaps = Overlaps()
    certain, other = write(b"sure", 100, 0, 2, Flag(0)), write(b"mine", 104, 0, 3, Flag.FROM_DESCRIPTOR)
    overlaps.note([certain, other])
    assert overlaps.judge(certain) is certain
    assert overlaps.judge(other).flags & Flag.AMBIGUOUS
