import hashlib
import os
import random
import sys
from pathlib import Path

import pytest

from diffkeeper.errors import DamagedTraceError
from diffkeeper.store import bsdiff, content, deltas, zstd
from diffkeeper.store.content import ContentReader, ContentWriter, chunk_key
from diffkeeper.store.deltas import CHUNK_BYTES
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore


@pytest.fixture
def rocks(tmp_path: Path) -> RocksStore:
    return RocksStore.create(tmp_path / "store")


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def values(rocks: RocksStore) -> dict[bytes, bytes]:
    return {key: value for key, value in rocks.scan(b"") if key.startswith(Key.CHUNK)}


def encodings(rocks: RocksStore) -> list[int]:
    return sorted(value[0] for value in values(rocks).values())


def stored(rocks: RocksStore, writer: ContentWriter, data: bytes, base: int = 0, is_executable: bool = False) -> int:
    blob, start = writer.append(1, data)
    assert start == 0
    writer.end(1, base, is_executable)
    writer.flush()
    assert ContentReader(rocks).read(blob, 0, len(data)) == data
    return blob


def test_bytes_come_back_from_where_they_were_appended(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    places = [
        (writer.append(node, data), data) for node, data in ((1, b"one"), (2, b"two"), (1, b"three"), (1, b"x" * 10))
    ]
    assert [place for place, _ in places] == [(1, 0), (2, 0), (1, 3), (1, 8)]
    writer.flush()
    reader = ContentReader(rocks)
    for (blob, start), data in places:
        assert reader.read(blob, start, len(data)) == data
    assert reader.length(1) == 18
    assert reader.read(1, 2, 4) == b"ethr"
    assert reader.read(1, 5, 0) == b""


def test_a_small_file_costs_one_chunk_and_one_entry_of_a_table(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    stored(rocks, writer, b"#!/bin/sh\n")
    items = list(rocks.scan(b""))
    assert [len(key) for key, _ in items] == [34, 19]
    assert sum(len(key) + len(value) for key, value in items) == 34 + 6 + 10 + 19 + 36


def test_a_large_blob_is_cut_into_chunks_and_read_in_pieces(rocks: RocksStore) -> None:
    data = noise(3 * CHUNK_BYTES + 5)
    writer = ContentWriter(rocks)
    for at in range(0, len(data), 300_000):
        writer.append(9, data[at : at + 300_000])
    writer.end(9)
    writer.flush()
    reader = ContentReader(rocks)
    assert reader.table(1).starts == [0, CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES, len(data)]
    assert reader.read(1, 0, len(data)) == data
    assert reader.read(1, CHUNK_BYTES - 2, CHUNK_BYTES + 4) == data[CHUNK_BYTES - 2 : 2 * CHUNK_BYTES + 2]
    assert [len(piece) for piece in reader.stream(1, CHUNK_BYTES - 1, 5)] == [1, 4]


def test_equal_bytes_are_stored_once(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    for node in range(1, 30):
        writer.append(node, b"the same" * 100)
        writer.end(node)
    writer.flush()
    assert len(values(rocks)) == 1
    assert writer.raw_bytes == 29 * 800


def test_a_tail_that_was_flushed_is_cut_there_and_goes_on(rocks: RocksStore) -> None:
    writer, reader = ContentWriter(rocks), ContentReader(rocks)
    assert writer.append(1, b"first line\n") == (1, 0)
    writer.flush()
    assert reader.read(1, 0, 11) == b"first line\n"
    assert writer.append(1, b"second line\n") == (1, 11)
    writer.flush()
    writer.flush()
    assert writer.append(1, b"third") == (1, 23)
    writer.end(1)
    writer.flush()
    assert reader.read(1, 0, 28) == b"first line\nsecond line\nthird"
    assert reader.table(1).starts == [0, 11, 23, 28]
    assert writer.append(1, b"new") == (2, 0)


def test_what_open_blobs_hold_in_memory_is_bounded(rocks: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "HELD_BYTES", 10_000)
    writer = ContentWriter(rocks)
    data = {node: b"".join(noise(70, node * 100 + turn) for turn in range(10)) for node in range(1, 50)}
    for turn in range(10):
        for node in data:
            writer.append(node, data[node][turn * 70 : turn * 70 + 70])
            assert writer._held <= 10_000
    writer.flush()
    assert writer._held == 0
    reader = ContentReader(rocks)
    assert all(reader.read(node, 0, 700) == expected for node, expected in data.items())


def test_one_blob_holds_no_more_than_its_window(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    piece = bytes(CHUNK_BYTES)
    for _ in range(40):
        writer.append(1, piece)
        assert writer._held <= content.WINDOW_BYTES
    writer.end(1)
    writer.flush()
    assert ContentReader(rocks).length(1) == 40 * CHUNK_BYTES


def test_numbers_of_blobs_go_on_after_reopening(rocks: RocksStore) -> None:
    assert stored(rocks, ContentWriter(rocks), b"one") == 1
    assert stored(rocks, ContentWriter(rocks), b"two") == 2


def test_a_new_version_costs_the_difference(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    old = noise(2 * CHUNK_BYTES + 1000)
    first = stored(rocks, writer, old)
    before = sum(map(len, values(rocks).values()))
    stored(rocks, writer, old[: CHUNK_BYTES - 500] + b"inserted" * 9 + old[CHUNK_BYTES - 500 :], base=first)
    assert sum(map(len, values(rocks).values())) - before < 5000
    assert encodings(rocks) == [0, 0, 0, 2, 2, 2]


def test_a_new_version_of_a_file_larger_than_the_window_costs_the_difference(
    rocks: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "WINDOW_BYTES", 2 * CHUNK_BYTES)
    writer = ContentWriter(rocks)
    old = noise(5 * CHUNK_BYTES)
    first = stored(rocks, writer, old)
    before = writer.stored_bytes
    stored(rocks, writer, b"inserted" + old, base=first)
    assert writer.stored_bytes - before < 10_000


def test_chains_of_bases_are_bounded(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    data, blob = noise(5000), 0
    for version in range(30):
        data = data[:200] + noise(10, version) + data[210:]
        blob = stored(rocks, writer, data, base=blob)
    depths = [value[1] for value in values(rocks).values()]
    assert max(depths) == deltas.MAX_DEPTH
    assert depths.count(0) == 4
    assert ContentReader(rocks).read(blob, 0, 5000) == data


def test_a_base_that_cannot_be_read_is_done_without(rocks: RocksStore) -> None:
    blob = stored(rocks, ContentWriter(rocks), noise(3000), base=77)
    assert encodings(rocks) == [0]
    assert blob == 1


def test_a_baseline_blob_is_made_of_chunks_that_were_encoded_elsewhere(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    chunks = [noise(CHUNK_BYTES, 1), b"tail" * 50]
    digests = [hashlib.sha256(chunk).digest() for chunk in chunks]
    for digest, chunk in zip(digests, chunks, strict=True):
        writer.put_chunk(digest, deltas.encode(chunk))
        assert writer.has_chunk(digest)
    blob = writer.new_blob_of_chunks(zip(digests, map(len, chunks), strict=True))
    assert writer.new_blob_of_chunks([]) == 0
    writer.flush()
    assert ContentReader(rocks).read(blob, 0, CHUNK_BYTES + 200) == b"".join(chunks)


def test_a_blob_of_very_many_chunks_has_a_table_in_parts(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    digest = hashlib.sha256(b"x").digest()
    writer.put_chunk(digest, deltas.encode(b"x"))
    blob = writer.new_blob_of_chunks([(digest, 1)] * 70_000)
    writer.flush()
    assert max(len(value) for _, value in rocks.scan(Key.BLOB)) <= CHUNK_BYTES
    assert len(list(rocks.scan(Key.BLOB))) == 3
    assert ContentReader(rocks).read(blob, 69_000, 1000) == b"x" * 1000


def test_executables_can_be_stored_smaller_when_there_is_time(rocks: RocksStore) -> None:
    writer = ContentWriter(rocks)
    code = Path(sys.executable).resolve().read_bytes()
    old = (b"\x7fELF" + code[:120_000]).ljust(124, b"x")
    moved = bytearray(old)
    for at in range(64, len(moved), 256):  # as if every address had moved
        moved[at] = (moved[at] + 16) % 256
    first = stored(rocks, writer, old)
    second = stored(rocks, writer, bytes(moved), base=first, is_executable=True)
    assert 2 in encodings(rocks)
    assert writer.improve(seconds=30) > 0
    assert encodings(rocks)[-1] == deltas.BSDIFF
    assert ContentReader(rocks).read(second, 0, len(moved)) == bytes(moved)
    assert list(rocks.scan(Key.IMPROVE)) == []
    assert writer.improve(seconds=30) == 0


def test_a_search_for_a_patch_ends_when_its_time_is_over() -> None:
    zeros = bytes(CHUNK_BYTES)
    assert bsdiff.make_patch(zeros, zeros[:-1] + b"x", seconds=0.3) is None


def test_a_patch_is_applied_as_it_was_made() -> None:
    base, raw = noise(3000), noise(500) + noise(3000)[700:] + b"end"
    patch = bsdiff.make_patch(base, raw, seconds=30)
    assert patch is not None
    assert bsdiff.apply_patch(base, patch, len(raw)) == raw


@pytest.mark.parametrize("size", [0, 1, 40, 5000, CHUNK_BYTES])
def test_every_size_and_kind_of_bytes_survives_encoding(size: int) -> None:
    for raw in (noise(size), bytes(size)):
        base = deltas.Base(hashlib.sha256(raw[:-1]).digest(), raw[:-1], 0)
        for given in (None, base):
            encoded = deltas.parse(deltas.encode(raw, given))
            assert deltas.decode(encoded, base.raw if encoded.base else b"") == raw


def test_a_base_of_a_few_bytes_is_neither_used_nor_believed() -> None:
    raw, base = noise(500), deltas.Base(hashlib.sha256(b"tiny").digest(), b"tiny", 0)
    assert deltas.parse(deltas.encode(raw, base)).base == b""
    with pytest.raises(DamagedTraceError):
        deltas.decode(deltas.Encoded(deltas.PREFIX, 1, 500, base.digest, zstd.compress(raw)), base.raw)


def test_a_chunk_that_is_damaged_is_named(rocks: RocksStore) -> None:
    data = b"some text that compresses, some text that compresses, some text"
    digest = hashlib.sha256(data).digest()
    blob = stored(rocks, ContentWriter(rocks), data)
    other = deltas.encode(data.replace(b"text", b"test"))
    for value in (other, b"", os.urandom(40), deltas.encode(data)[:-1], deltas.encode(data[:-1]), b"\x09" + bytes(60)):
        rocks.put_many([(chunk_key(digest), value)])
        with pytest.raises(DamagedTraceError, match=digest.hex()):
            ContentReader(rocks).read(blob, 0, 5)
    rocks.delete_many([chunk_key(digest)])
    with pytest.raises(DamagedTraceError, match=f"{digest.hex()}.*missing"):
        ContentReader(rocks).read(blob, 0, 5)


def test_a_chunk_that_is_its_own_base_is_an_error_and_not_a_hang(rocks: RocksStore) -> None:
    one, two = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
    frame = zstd.compress(b"x")
    rocks.put_many([(chunk_key(one), deltas.Encoded(2, 1, 1, two, frame).to_bytes())])
    rocks.put_many([(chunk_key(two), deltas.Encoded(2, 1, 1, one, frame).to_bytes())])
    with pytest.raises(DamagedTraceError, match="too long"):
        ContentReader(rocks).chunk(one)


def test_a_bomb_is_not_set_off(rocks: RocksStore) -> None:
    digest = hashlib.sha256(b"bomb").digest()
    bomb = zstd.compress(bytes(1 << 28))
    for length in (1, CHUNK_BYTES):
        rocks.put_many([(chunk_key(digest), deltas.Encoded(1, 0, length, b"", bomb).to_bytes())])
        with pytest.raises(DamagedTraceError):
            ContentReader(rocks).chunk(digest)
    with pytest.raises(DamagedTraceError):
        deltas.parse(deltas.Encoded(1, 0, CHUNK_BYTES + 1, b"", bomb).to_bytes())


@pytest.mark.parametrize(
    ("blob", "start", "length"), [(0, 0, 1), (-1, 0, 1), (2, 0, 1), (1, 0, 99), (1, -1, 2), (1, 3, -1), (1, 2**70, 1)]
)
def test_bytes_that_are_nowhere_are_a_damaged_trace(rocks: RocksStore, blob: int, start: int, length: int) -> None:
    stored(rocks, ContentWriter(rocks), b"hello")
    with pytest.raises(DamagedTraceError):
        ContentReader(rocks).read(blob, start, length)


def test_a_reader_forgets_chunks_beyond_its_cache(rocks: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "CACHED_BYTES", 3000)
    monkeypatch.setattr(content, "CACHED_ENTRIES", 4)
    writer = ContentWriter(rocks)
    blobs = [stored(rocks, writer, noise(1000, seed)) for seed in range(20)]
    reader = ContentReader(rocks)
    for _ in range(2):
        for seed, blob in enumerate(blobs):
            assert reader.read(blob, 0, 1000) == noise(1000, seed)
            assert reader._chunk_bytes <= 3000
            assert len(reader._tables) <= 2
