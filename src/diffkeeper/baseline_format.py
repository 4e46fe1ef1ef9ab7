"""The records of the baseline in the journal: entries (batch kind 2), content (3), packs (5) and supplies (6).

    entries payload    record, record, …          one record an entry, a parent before its children
    entry record       head | name | target | xattrs | chunks
      xattr            u16 name length | u32 value length | name | value
      chunk            32 bytes sha256 | u64 length          all zero bytes for sha256: a hole of that length
    content payload    chunk, chunk, …            before the first entry that names them
    content chunk      32 bytes sha256 | u32 value length | value in the value format of ``store/content.py``

    pack payload       u64 number | u32 length | 32 bytes sha256 | value
    supply payload     u64 index | u8 content state | chunk, chunk, …     the bytes of an entry that was promised

A small file may be in a pack instead: then its only chunk has, in the place of the sha256, its position (u64) in the
stream of all packs, each of which has PACK_BYTES but for gaps at its end; no file is in two.

All numbers are little endian. Every chunk of a file but its last and its holes is ``CHUNK_BYTES`` long, and every hole
begins and, unless it ends the file, ends at a multiple of ``CHUNK_BYTES``; so the data chunks put one after another
form one stream cut at multiples of ``CHUNK_BYTES``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.observation import Inode
from diffkeeper.model.values import dataclass

KIND_ENTRIES = 2
KIND_CONTENT = 3
KIND_PACK = 5
KIND_SUPPLY = 6
PACK_BYTES = 256 << 10
CHUNK_BYTES = 1 << 20
NO_PARENT = -1
HOLE = bytes(32)

_HEAD = struct.Struct("<QqQQqIIIIQqQQBHHHI")
_XATTR = struct.Struct("<HI")
_CHUNK = struct.Struct("<32sQ")
_CONTENT = struct.Struct("<32sI")
_TIME_LIMIT = 2**63 - 1


class ContentState(IntEnum):
    """Say what the baseline holds of the bytes of a regular file. The numbers are part of the trace format."""

    NOT_KEPT = 0  # not a regular file, or excluded
    KEPT = 1
    CHANGED = 2  # kept, but the file changed each time it was read: the bytes may be of two states
    UNREADABLE = 3  # permission or input/output error
    VANISHED = 4  # gone, or another file under that name, before it was opened
    TOO_LARGE = 5  # its list of chunks does not fit into a record
    PROMISED = 6  # not here: a before-image follows if the file is about to change; else the file itself has them
    PACKED = 7  # kept, in a pack
    PACKED_CHANGED = 8  # in a pack, and as with CHANGED


@dataclass(frozen=True, slots=True)
class BaselineEntry:
    """Hold one entry of the tree before the command.

    Entries are numbered from 0; the first ones are the roots, with ``parent`` NO_PARENT and an empty name. Entries with
    the same identity are hard links of one file. ``chunks`` are (sha256, length), HOLE for sha256 where the file has a
    hole; ``seen_ns`` is CLOCK_MONOTONIC just before the metadata was read.
    """

    index: int
    parent: int
    name: bytes
    inode: Inode
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    content: ContentState = ContentState.NOT_KEPT
    chunks: tuple[tuple[bytes, int], ...] = ()
    seen_ns: int = 0

    def data_chunks(self) -> list[tuple[bytes, int]]:
        """Return the chunks that are not holes: one after another they are the stream that ``extents`` points into."""
        return [chunk for chunk in self.chunks if chunk[0] != HOLE]

    def extents(self) -> list[tuple[int, int, int]]:
        """Return (offset in the file, length, start in the stream of data chunks) of each run between holes."""
        extents: list[tuple[int, int, int]] = []
        offset = start = 0
        for digest, length in self.chunks:
            if digest != HOLE:
                _extend(extents, offset, length, start)
                start += length
            offset += length
        return extents


def _extend(extents: list[tuple[int, int, int]], offset: int, length: int, start: int) -> None:
    """Add a run, joined to the last one where it continues it."""
    if extents and extents[-1][0] + extents[-1][1] == offset:
        first_offset, first_length, first_start = extents[-1]
        extents[-1] = (first_offset, first_length + length, first_start)
    else:
        extents.append((offset, length, start))


def encode_entry(entry: BaselineEntry) -> bytes:
    """Return the record of an entry."""
    inode = entry.inode
    head = _HEAD.pack(
        entry.index, entry.parent, inode.dev, inode.ino, inode.generation, inode.mode, inode.nlink,
        inode.uid, inode.gid, inode.size, _clamped(inode.mtime_ns), inode.rdev, entry.seen_ns, entry.content,
        len(entry.name), len(entry.target), len(entry.xattrs), len(entry.chunks),
    )  # fmt: skip
    if not entry.xattrs and not entry.chunks:
        return head + entry.name + entry.target
    parts = [head, entry.name, entry.target]
    for name, value in entry.xattrs:
        parts += (_XATTR.pack(len(name), len(value)), name, value)
    parts += (_CHUNK.pack(digest, length) for digest, length in entry.chunks)
    return b"".join(parts)


def _clamped(time_ns: int) -> int:
    """Keep a time in 64 bits: some file systems store times after the year 2262."""
    return max(-_TIME_LIMIT, min(time_ns, _TIME_LIMIT))


def decode_entries(payload: bytes) -> Iterator[BaselineEntry]:
    """Yield the entries of an entries payload; raise DamagedTraceError where it does not follow the format."""
    position = 0
    try:
        while position < len(payload):
            entry, position = _decode_entry(payload, position)
            yield entry
    except (struct.error, ValueError) as error:
        raise DamagedTraceError(f"baseline entry at byte {position} of its batch cannot be read: {error}") from error


def _decode_entry(payload: bytes, position: int) -> tuple[BaselineEntry, int]:
    """Return the entry at a position, and where the next one begins."""
    (
        index, parent, dev, ino, generation, mode, nlink, uid, gid, size, mtime_ns, rdev, seen_ns, content,
        name_length, target_length, xattr_count, chunk_count,
    ) = _HEAD.unpack_from(payload, position)  # fmt: skip
    position += _HEAD.size
    name, position = _take(payload, position, name_length)
    target, position = _take(payload, position, target_length)
    xattrs, position = _decode_xattrs(payload, position, xattr_count)
    chunks, position = _decode_chunks(payload, position, chunk_count)
    if not NO_PARENT <= parent < index:
        raise ValueError(f"entry {index} names {parent} as its parent")
    inode = Inode(dev, ino, generation, mode, nlink, uid, gid, size, mtime_ns, rdev)
    return BaselineEntry(index, parent, name, inode, target, xattrs, ContentState(content), chunks, seen_ns), position


_PACK = struct.Struct("<QI32s")
_SUPPLY = struct.Struct("<QB")


def encode_pack(number: int, length: int, digest: bytes, value: bytes) -> bytes:
    """Return the payload of a pack: sha256 of its ``length`` bytes, and these in the value format of content."""
    return _PACK.pack(number, length, digest) + value


def decode_pack(payload: bytes) -> tuple[int, int, bytes, bytes]:
    """Return number, length, sha256 and value of a pack; raise DamagedTraceError where it breaks off."""
    try:
        number, length, digest = _PACK.unpack_from(payload)
    except struct.error as error:
        raise DamagedTraceError(f"a pack of the baseline cannot be read: {error}") from error
    if number >= 1 << 40 or not 0 < length <= PACK_BYTES:
        raise DamagedTraceError("a pack of the baseline is invalid")
    return number, length, digest, payload[_PACK.size :]


def encode_supply(index: int, state: ContentState, chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the payload that supplies the bytes of an entry."""
    return _SUPPLY.pack(index, state) + b"".join(_CHUNK.pack(digest, length) for digest, length in chunks)


def decode_supply(payload: bytes) -> tuple[int, ContentState, tuple[tuple[bytes, int], ...]]:
    """Return index, state and chunks of a supply; raise DamagedTraceError where it does not follow the format."""
    try:
        index, state = _SUPPLY.unpack_from(payload)
        chunks = tuple(_CHUNK.iter_unpack(payload[_SUPPLY.size :]))
        return index, ContentState(state), chunks
    except (struct.error, ValueError) as error:
        raise DamagedTraceError(f"supplied content of the baseline cannot be read: {error}") from error


def _take(payload: bytes, position: int, length: int) -> tuple[bytes, int]:
    """Return ``length`` bytes from a position, and the position after them."""
    end = position + length
    if end > len(payload):
        raise ValueError(f"{length} bytes wanted at byte {position} of {len(payload)}")
    return payload[position:end], end


def _decode_xattrs(payload: bytes, position: int, count: int) -> tuple[tuple[tuple[bytes, bytes], ...], int]:
    """Return the extended attributes at a position, and the position after them."""
    xattrs = []
    for _ in range(count):
        name_length, value_length = _XATTR.unpack_from(payload, position)
        name, position = _take(payload, position + _XATTR.size, name_length)
        value, position = _take(payload, position, value_length)
        xattrs.append((name, value))
    return tuple(xattrs), position


def _decode_chunks(payload: bytes, position: int, count: int) -> tuple[tuple[tuple[bytes, int], ...], int]:
    """Return the chunk list at a position, and the position after it."""
    taken, end = _take(payload, position, count * _CHUNK.size)
    return tuple(_CHUNK.iter_unpack(taken)), end


def encode_content(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the content payload of (sha256, encoded value) pairs."""
    return b"".join(part for digest, value in chunks for part in (_CONTENT.pack(digest, len(value)), value))


def decode_content(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (sha256, encoded value) pairs of a content payload; raise DamagedTraceError where it breaks off."""
    position = 0
    try:
        while position < len(payload):
            digest, length = _CONTENT.unpack_from(payload, position)
            value, position = _take(payload, position + _CONTENT.size, length)
            yield digest, value
    except (struct.error, ValueError) as error:
        raise DamagedTraceError(f"baseline content at byte {position} of its batch cannot be read: {error}") from error
