"""The records of the baseline read back as written, and any bytes give a value or a clear error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffkeeper.baseline_format import (
    CHUNK_BYTES,
    HOLE,
    NO_PARENT,
    BaselineEntry,
    ContentState,
    decode_content,
    decode_entries,
    encode_content,
    encode_entry,
)
from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.observation import Inode

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63) + 1, 2**63 - 1)
inodes = st.builds(Inode, U64, U64, st.integers(-1, 2**32 - 1), U32, U32, U32, U32, U64, I64, U64)
digests = st.binary(min_size=32, max_size=32)


@st.composite
def entries(draw: st.DrawFn) -> BaselineEntry:
    index = draw(st.integers(0, 2**64 - 1))
    return BaselineEntry(
        index,
        draw(st.integers(NO_PARENT, min(index - 1, 2**63 - 1))),
        draw(st.binary(max_size=300)),
        draw(inodes),
        draw(st.binary(max_size=300)),
        tuple(draw(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=3))),
        draw(st.sampled_from(ContentState)),
        tuple(draw(st.lists(st.tuples(digests, U64), max_size=3))),
        draw(U64),
    )


def entry_of_chunks(*chunks: tuple[bytes, int]) -> BaselineEntry:
    return BaselineEntry(0, NO_PARENT, b"", Inode(1, 2, 3, 0o100644, 1, 0, 0, 0, 0), chunks=chunks)


@given(st.lists(entries(), max_size=4))
def test_entries_read_back_as_written(written: list[BaselineEntry]) -> None:
    assert list(decode_entries(b"".join(map(encode_entry, written)))) == written


@given(st.lists(st.tuples(digests, st.binary(max_size=100)), max_size=5))
def test_content_reads_back_as_written(written: list[tuple[bytes, bytes]]) -> None:
    assert list(decode_content(encode_content(written))) == written


@given(st.binary(max_size=400))
def test_any_bytes_give_entries_or_a_clear_error(payload: bytes) -> None:
    with contextlib.suppress(DamagedTraceError):
        list(decode_entries(payload))


@given(entries(), st.data())
def test_a_truncated_entry_is_a_clear_error(entry: BaselineEntry, data: st.DataObject) -> None:
    record = encode_entry(entry)
    with pytest.raises(DamagedTraceError):
        list(decode_entries(record[: data.draw(st.integers(1, len(record) - 1))]))


@given(st.binary(min_size=1, max_size=400))
def test_any_bytes_give_content_or_a_clear_error(payload: bytes) -> None:
    with contextlib.suppress(DamagedTraceError):
        list(decode_content(payload))


def test_times_beyond_64_bits_are_kept_as_the_nearest_that_fits() -> None:
    entry = BaselineEntry(0, NO_PARENT, b"", Inode(1, 2, 3, 0o100644, 1, 0, 0, 0, 2**70))
    (read,) = decode_entries(encode_entry(entry))
    assert read.inode.mtime_ns == 2**63 - 1


def test_extents_leave_holes_out_and_join_runs() -> None:
    a, b, c = (bytes([value]) * 32 for value in (1, 2, 3))
    entry = entry_of_chunks((a, CHUNK_BYTES), (b, CHUNK_BYTES), (HOLE, 3 * CHUNK_BYTES), (c, 10))
    assert entry.extents() == [(0, 2 * CHUNK_BYTES, 0), (5 * CHUNK_BYTES, 10, 2 * CHUNK_BYTES)]
    assert entry.data_chunks() == [(a, CHUNK_BYTES), (b, CHUNK_BYTES), (c, 10)]


def test_a_file_of_one_hole_has_no_extents() -> None:
    assert entry_of_chunks((HOLE, 10 * CHUNK_BYTES)).extents() == []
