"""Wire records become observations; nothing else becomes anything but a clear error."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffkeeper.engines import decoder
from diffkeeper.engines.decoder import Decoder, decode
from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.observation import DataWritten, Flag, Inode, NameChanged, NameOp

INODE = Inode(8 << 20 | 1, 42, 7, 0o100644, 1, 1000, 1000, 11, 5_000_000_123)


def inode_bytes(inode: Inode) -> bytes:
    seconds, nanoseconds = divmod(inode.mtime_ns, 10**9)
    return decoder.INODE.pack(
        inode.ino,
        inode.dev,
        inode.generation,
        inode.mode,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.size,
        seconds,
        nanoseconds,
        inode.rdev,
    )


def record(kind: int, body: bytes, *, op: int = 1, flags: int = 0, sequence: int = 9) -> bytes:
    body += b"\0" * (-len(body) % 8)
    head = decoder.HEADER.pack(decoder.HEADER.size + len(body), kind, op, flags, sequence, 50, 40, 60, 100, 101, 5)
    return head + body


def written(payload: bytes, *, flags: int = 0, sequence: int = 9, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    body = inode_bytes(INODE) + struct.pack("<QQII", 3, size, len(payload), 0) + payload
    return record(decoder.DATA, body, flags=flags, sequence=sequence)


def piece(sequence: int, start: int, payload: bytes) -> bytes:
    size = 32 + (len(payload) + 7 & ~7)
    head = struct.pack("<IBBHQQII", size, decoder.PIECE, 0, 0, sequence, start, len(payload), 0)
    return head + payload + b"\0" * (-len(payload) % 8)


def test_a_write_carries_its_bytes_place_and_inode() -> None:
    (observation,) = decode(written(b"hello", flags=Flag.IN_LOCK | Flag.OUTSIDER))
    assert isinstance(observation, DataWritten)
    assert observation.payload == ((0, b"hello"),)
    assert (observation.offset, observation.length, observation.inode) == (3, 5, INODE)
    assert (observation.t_ns, observation.enter_ns, observation.exit_ns) == (50, 40, 60)
    assert observation.flags == Flag.IN_LOCK | Flag.OUTSIDER


def test_pieces_of_an_earlier_batch_belong_to_the_record_that_follows() -> None:
    stream = Decoder()
    assert stream.decode(piece(9, 0, b"abc") + piece(9, 3, b"de")) == []
    (observation,) = stream.decode(written(b"", flags=512, length=5))
    assert isinstance(observation, DataWritten)
    assert observation.payload == ((0, b"abc"), (3, b"de"))


def test_a_rename_carries_both_names_and_the_touched_inodes() -> None:
    base = decoder.BASE.pack(2, INODE.dev, 0)
    names = b"old/name".ljust(8, b"\0") + b"n".ljust(8, b"\0")
    body = base + base + struct.pack("<IHHII", 1, 1, 0, 8, 1) + inode_bytes(INODE) + names
    (observation,) = decode(record(decoder.NAME, body, op=NameOp.RENAME))
    assert isinstance(observation, NameChanged)
    assert (observation.path, observation.path2, observation.call_flags) == (b"old/name", b"n", 1)
    assert observation.touched == (INODE,)


@pytest.mark.parametrize("cut", [1, 8, 60])
def test_a_cut_batch_is_damage(cut: int) -> None:
    with pytest.raises(DamagedTraceError):
        decode(written(b"hello")[:-cut])


def test_a_length_beyond_its_record_is_damage() -> None:
    whole = bytearray(written(b"hello"))
    struct.pack_into("<I", whole, 128, 4000)
    with pytest.raises(DamagedTraceError):
        decode(bytes(whole))


@given(st.binary(max_size=400))
def test_any_bytes_give_observations_or_damage(payload: bytes) -> None:
    with suppress(DamagedTraceError):
        decode(payload)


@given(st.integers(1, 20), st.integers(0, 9), st.integers(0, 1023), st.binary(max_size=400))
def test_any_body_gives_observations_or_damage(kind: int, op: int, flags: int, body: bytes) -> None:
    with suppress(DamagedTraceError):
        decode(record(kind, body, op=op, flags=flags))
