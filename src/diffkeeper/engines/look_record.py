"""The wire record of a look: reader and writer side by side, since both ends are Python and the kernel makes none.

header as of every record (native/events.h), type 24 | u64 parent ino, u64 dev, i32 generation |
the same of the second parent | inode | u64 mtimes of both | u64 offset | u32 read | lengths of name, name2, data,
xattrs; then those four, each padded to 8 bytes; the extended attributes as u32 lengths of name and value before each
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from diffkeeper.model.observation import Base, Flag, Inode, Looked, LookOp, Read

LOOK = 24
MOST_DATA_BYTES = 1 << 20

_HEADER = Struct("<IBBHQQQQIIq")
_BODY = Struct("<QQi QQi QQiIIIIQqQ qqQI IIII")
_LENGTHS = Struct("<II")
_NOT_LOOKED_AT = 0xFFFFFFFF

Head = tuple[int, int, int, int, int, int, int, int, int, int, int]


def encode(seen: Looked) -> bytes:
    """Return the record of a look."""
    inode, parent, parent2 = seen.inode, seen.parent, seen.parent2
    listed = b"" if seen.xattrs is None else b"".join(map(_xattr, seen.xattrs))
    body = _BODY.pack(
        parent.ino, parent.dev, parent.generation,
        parent2.ino, parent2.dev, parent2.generation,
        inode.ino, inode.dev, inode.generation, inode.mode, inode.nlink, inode.uid, inode.gid, inode.size,
        inode.mtime_ns, inode.rdev,
        seen.parent_mtime_ns, seen.parent2_mtime_ns, seen.offset, seen.read,
        len(seen.name), len(seen.name2), len(seen.data), _NOT_LOOKED_AT if seen.xattrs is None else len(listed),
    )  # fmt: skip
    text = _padded(seen.name) + _padded(seen.name2) + _padded(seen.data) + _padded(listed)
    size = _HEADER.size + len(body) + len(text)
    times = (seen.sequence, seen.t_ns, seen.enter_ns, seen.exit_ns)
    return _HEADER.pack(size, LOOK, seen.op, int(seen.flags), *times, 0, 0, seen.result) + body + text


def decode(payload: bytes, at: int, end: int, head: Head) -> Looked:
    """Return the look whose record stands at a place; raises ValueError or struct.error."""
    fields = _BODY.unpack_from(payload, at + _HEADER.size)
    parent, parent2, inode, rest = fields[:3], fields[3:6], fields[6:16], fields[16:]
    mtime_ns, mtime2_ns, offset, read, name_length, name2_length, length, xattrs_length = rest
    reader = _Reader(payload, at + _HEADER.size + _BODY.size, end)
    name, name2, data = reader.take(name_length), reader.take(name2_length), reader.take(length)
    xattrs = None if xattrs_length == _NOT_LOOKED_AT else tuple(_xattrs(reader.take(xattrs_length)))
    return Looked(
        *head[4:10], Flag(0), head[10], LookOp(head[2]),
        Inode(inode[1], inode[0], inode[2], inode[3], inode[4], inode[5], inode[6], inode[7], inode[8], inode[9]),
        _base(parent), name, mtime_ns, _base(parent2), name2, mtime2_ns, Read(read), offset, data, xattrs,
    )  # fmt: skip


class _Reader:
    """Take one string after the other."""

    def __init__(self, payload: bytes, at: int, end: int) -> None:
        self._payload, self._at, self._end = payload, at, end

    def take(self, length: int) -> bytes:
        begin = self._at
        if begin + length > self._end:
            raise ValueError(f"{length} bytes at {begin} reach over the end of their record")
        self._at = begin + (length + 7 & ~7)
        return self._payload[begin : begin + length]


def _base(fields: tuple[int, int, int]) -> Base:
    return Base(fields[1], fields[0], fields[2])


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 8)


def _xattr(pair: tuple[bytes, bytes]) -> bytes:
    return _LENGTHS.pack(len(pair[0]), len(pair[1])) + pair[0] + pair[1]


def _xattrs(listed: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(listed):
        name, value = _LENGTHS.unpack_from(listed, at)
        at += _LENGTHS.size
        if at + name + value > len(listed):
            raise ValueError("an extended attribute reaches over the end of its record")
        yield listed[at : at + name], listed[at + name : at + name + value]
        at += name + value
