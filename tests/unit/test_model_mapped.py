"""Samples of mapped files: what of them is news, and what a call that was going on takes out of them."""

from __future__ import annotations

import pytest

from diffkeeper.model import mapped
from diffkeeper.model.event import Kind, Mark
from diffkeeper.model.extents import HOLE, ExtentMap
from diffkeeper.model.late import LateReadings
from diffkeeper.model.observation import (
    DataOp,
    DataWritten,
    Flag,
    Inode,
    LateData,
    MappingChanged,
    Observation,
    SizeChanged,
    SizeOp,
)

FILE = Inode(1, 5, 0, 0o100644, 1, 0, 0, 100, 0)
BYTES = b"0123456789" * 1000


def peek(blob: int, start: int, length: int) -> bytes | None:
    return BYTES[start : start + length] if blob == 1 else None


def sample(data: bytes, offset: int = 0, t_ns: int = 50, sequence: int = 9) -> DataWritten:
    return DataWritten(
        sequence, t_ns, t_ns - 10, t_ns + 10, 1, 1, Flag.MAPPED, 0, DataOp.WRITE, FILE, offset, len(data), ((0, data),)
    )


def write(t_ns: int, exit_ns: int, offset: int = 0, length: int = 10, flags: int = Flag.IN_LOCK) -> DataWritten:
    return DataWritten(
        t_ns, t_ns, t_ns - 5, exit_ns, 1, t_ns, Flag(flags), length, DataOp.WRITE, FILE, offset, length, ()
    )


def news(content: ExtentMap, data: bytes, offset: int = 0) -> list[tuple[int, bytes]]:
    return list(mapped.news(content, sample(data, offset), peek))


def test_bytes_that_are_held_already_are_no_news() -> None:
    assert news(ExtentMap(10_000, [(0, 10_000, 1, 0)]), BYTES) == []
    assert news(ExtentMap(100), bytes(100)) == []  # a hole reads as zeros


def test_only_what_differs_is_news_page_by_page() -> None:
    content = ExtentMap(10_000, [(0, 10_000, 1, 0)])
    changed = BYTES[:5] + b"xyz" + BYTES[8:5000] + b"abc" + BYTES[5003:]
    assert news(content, changed) == [(5, b"xyz"), (5000, b"abc")]


def test_neighbouring_changes_are_one() -> None:
    content = ExtentMap(10_000, [(0, 10_000, 1, 0)])
    assert news(content, bytes(8192)) == [(0, bytes(8192))]


def test_bytes_in_place_of_unknown_ones_are_news() -> None:
    assert news(ExtentMap.unknown(10), b"0123456789") == [(0, b"0123456789")]
    assert news(ExtentMap(10, [(0, 10, 7, 0)]), b"0123456789") == [(0, b"0123456789")]  # a blob that cannot be read


def test_a_sample_makes_no_file_longer() -> None:
    content = ExtentMap(5, [(0, 5, HOLE, 0)])
    assert news(content, b"0123456789") == [(0, b"01234")]


def settled(*observations: Observation) -> dict[int, Observation]:
    late = LateReadings()
    late.note(observations)
    return {one.sequence: one for one, _, _ in late.join(sorted(observations, key=lambda one: one.t_ns))}


@pytest.mark.parametrize(
    ("t_ns", "exit_ns", "is_cut"),
    [(40, 60, True), (50, 50, True), (40, 49, False), (51, 60, False)],
)
def test_what_a_write_in_progress_covers_is_cut_out(t_ns: int, exit_ns: int, is_cut: bool) -> None:
    found = settled(write(t_ns, exit_ns, offset=10), sample(BYTES[:30]))[9]
    assert isinstance(found, DataWritten)
    whole = ((0, BYTES[:30]),)
    assert found.payload == (((0, BYTES[:10]), (20, BYTES[20:30])) if is_cut else whole)


def test_a_truncation_in_progress_voids_a_sample() -> None:
    cut = SizeChanged(3, 45, 40, 60, 1, 2, Flag.IN_LOCK, 0, SizeOp.TRUNCATE, FILE, 0, 0, 500)
    found = settled(cut, sample(BYTES[:30]))[9]
    assert isinstance(found, DataWritten)
    assert found.payload == ()


def test_a_sample_disturbs_no_late_reading_but_a_mapping_does() -> None:
    def is_exact(*others: Observation) -> bool:
        cause = DataWritten(
            1, 20, 10, 20, 1, 1, Flag.BY_REFERENCE, 10, DataOp.WRITE, FILE, 0, 10, ()
        )  # fmt: skip
        reading = LateData(1001, 40, 0, 40, 0, 0, Flag(0), 0, 1, FILE, 0, b"x" * 10, 30, 40, False)
        late = LateReadings()
        observations = [*others, cause, reading]
        late.note(observations)
        joined = late.join(sorted(observations, key=lambda one: one.t_ns))
        return next(exact for one, late_data, exact in joined if one.sequence == 1 and late_data)

    def mapping(t_ns: int, is_mapped: bool) -> MappingChanged:
        return MappingChanged(t_ns, t_ns, 0, t_ns, 1, 1, Flag(0), 0, FILE, is_mapped)

    assert is_exact(sample(BYTES[:10], t_ns=35))
    assert is_exact(mapping(2, True), mapping(9, False))
    assert is_exact(mapping(41, True))
    assert not is_exact(mapping(2, True))
    assert not is_exact(mapping(2, True), mapping(15, False))
    assert not is_exact(mapping(35, True))
    assert not is_exact(mapping(2, True), mapping(3, True), mapping(15, False))


def test_marks_and_kinds_have_their_numbers() -> None:
    assert (Mark.MAPPED, Kind.WRITE) == (64, 2)
