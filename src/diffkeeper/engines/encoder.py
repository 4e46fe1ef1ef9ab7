"""Observation → wire record: the inverse of ``decoder``, for scripts and for tests of what lies behind the ring.

The layout is that of ``native/events.h``; every part that follows a fixed struct is padded to 8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from diffkeeper.model.observation import (
    AttributeChanged,
    Base,
    Closed,
    DataOp,
    DataWritten,
    EntryRead,
    EventsLost,
    Inode,
    LateData,
    NameChanged,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    SizeChanged,
)


class Type(IntEnum):
    """Name the types of records (enum dk_type)."""

    DATA = 1
    PIECE = 2
    COPY = 3
    SIZE = 4
    NAME = 5
    OPEN = 6
    ATTR = 7
    CLOSE = 8
    OUTPUT = 9
    PROCESS = 10
    EXEC = 11
    EXIT = 12
    LATE = 14
    ENTRY = 15
    LOST = 16


CHANNELS = ("ring", "table", "recursion", "queue")  # enum dk_lost_channel
_FLAG_MORE = 512
_PIECE_MAX = 65_536
_HEADER = struct.Struct("<IBBHQQQQIIq")
_INODE = struct.Struct("<QIIIIIIQqII")
_BASE = struct.Struct("<QII")
_PIECE = struct.Struct("<IBBHQQII")
_NO_INODE = bytes(_INODE.size)

Pieces = tuple[tuple[int, bytes], ...]


def encode(observation: Observation) -> bytes:
    """Return the records of one observation, usually one."""
    encoder = _ENCODERS.get(type(observation))
    if encoder is None:
        raise TypeError(f"{type(observation).__name__} has no wire format")
    return encoder(observation)


def _record(type_: Type, observation: Observation, body: bytes, op: int = 0, flags: int = 0) -> bytes:
    size = _HEADER.size + len(body)
    assert size % 8 == 0, "every part is padded"
    header = _HEADER.pack(
        size,
        type_,
        op,
        int(observation.flags) | flags,
        observation.sequence,
        observation.t_ns,
        observation.enter_ns,
        observation.exit_ns,
        observation.pid,
        observation.tid,
        observation.result,
    )
    return header + body


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % 8)


def _inode(inode: Inode) -> bytes:
    seconds, nanoseconds = divmod(inode.mtime_ns, 1_000_000_000)
    return _INODE.pack(
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


def _base(base: Base) -> bytes:
    return _BASE.pack(base.ino, base.dev, base.generation)


def _split(payload: Pieces) -> tuple[bytes, Pieces]:
    """Return what the record itself carries, which starts at its offset, and the rest in pieces."""
    cut = [
        (start + at, data[at : at + _PIECE_MAX]) for start, data in payload for at in range(0, len(data), _PIECE_MAX)
    ]
    if cut and cut[0][0] == 0:
        return cut[0][1], tuple(cut[1:])
    return b"", tuple(cut)


def _pieces(observation: Observation, pieces: Pieces) -> bytes:
    records = []
    for index, (start, data) in enumerate(pieces):
        body = _padded(data)
        flags = _FLAG_MORE if index + 1 < len(pieces) else 0
        head = _PIECE.pack(_PIECE.size + len(body), Type.PIECE, 0, flags, observation.sequence, start, len(data), 0)
        records.append(head + body)
    return b"".join(records)


def _data(observation: DataWritten) -> bytes:
    if observation.op in (DataOp.COPY_RANGE, DataOp.CLONE):
        return _copy(observation)
    first, rest = _split(observation.payload)
    body = _inode(observation.inode) + struct.pack("<QQII", observation.offset, observation.length, len(first), 0)
    head = _record(Type.DATA, observation, body + _padded(first), observation.op, _FLAG_MORE if rest else 0)
    return head + _pieces(observation, rest)


def _copy(observation: DataWritten) -> bytes:
    source = _NO_INODE if observation.source is None else _inode(observation.source)
    numbers = struct.pack("<QQQ", observation.offset, observation.length, observation.source_offset)
    body = _inode(observation.inode) + source + numbers
    head = _record(Type.COPY, observation, body, observation.op, _FLAG_MORE if observation.payload else 0)
    return head + _pieces(observation, _all_pieces(observation.payload))


def _all_pieces(payload: Pieces) -> Pieces:
    first, rest = _split(payload)
    return ((0, first), *rest) if first else rest


def _size(observation: SizeChanged) -> bytes:
    body = struct.pack("<QQII", observation.offset, observation.length, observation.mode, 0)
    return _record(Type.SIZE, observation, _inode(observation.inode) + body, observation.op)


def _name(observation: NameChanged) -> bytes:
    numbers = struct.pack(
        "<IHHII",
        observation.call_flags,
        len(observation.touched),
        0,
        len(observation.path),
        len(observation.path2),
    )
    body = _base(observation.base) + _base(observation.base2) + numbers + b"".join(map(_inode, observation.touched))
    body += _padded(observation.path) + _padded(observation.path2)
    return _record(Type.NAME, observation, body, observation.op)


def _open(observation: Opened) -> bytes:
    numbers = struct.pack(
        "<IHBBII",
        observation.open_flags,
        len(observation.touched),
        observation.created,
        observation.truncated,
        len(observation.name),
        0,
    )
    body = _inode(observation.inode) + _inode(observation.parent) + numbers
    body += b"".join(map(_inode, observation.touched)) + _padded(observation.name)
    return _record(Type.OPEN, observation, body)


def _attribute(observation: AttributeChanged) -> bytes:
    value = observation.xattr_value if observation.value_is_known else b""
    full = len(observation.xattr_value) if observation.value_is_known else len(observation.xattr_value) + 1
    numbers = struct.pack("<IIII", len(observation.xattr_name), len(value), full, 0)
    body = _inode(observation.inode) + numbers + _padded(observation.xattr_name) + _padded(value)
    return _record(Type.ATTR, observation, body, observation.op)


def _closed(observation: Closed) -> bytes:
    return _record(Type.CLOSE, observation, _inode(observation.inode))


def _output(observation: OutputWritten) -> bytes:
    first, rest = _split(observation.payload)
    body = struct.pack("<QII", observation.length, observation.stream, len(first)) + _padded(first)
    head = _record(Type.OUTPUT, observation, body, 0, _FLAG_MORE if rest else 0)
    return head + _pieces(observation, rest)


def _process(observation: ProcessSeen) -> bytes:
    body = struct.pack("<II16s", observation.parent_pid, observation.is_fork, observation.comm)
    return _record(Type.PROCESS, observation, body)


def _exec(observation: ProcessExecuted) -> bytes:
    argv = b"".join(argument + b"\0" for argument in observation.argv)
    full = len(argv) + observation.argv_is_cut
    body = struct.pack("<16sIIII", observation.comm, len(argv), full, len(observation.exe), len(observation.cwd))
    body += _padded(argv) + _padded(observation.exe) + _padded(observation.cwd)
    return _record(Type.EXEC, observation, body)


def _exit(observation: ProcessExited) -> bytes:
    return _record(Type.EXIT, observation, struct.pack("<II", observation.status, 0))


def _late(observation: LateData) -> bytes:
    numbers = struct.pack(
        "<QQQII", observation.offset, observation.read_from_ns, observation.read_to_ns, len(observation.data), 0
    )
    body = _inode(observation.inode) + numbers + _padded(observation.data)
    return _record(Type.LATE, observation, body)


def _entry(observation: EntryRead) -> bytes:
    numbers = struct.pack(
        "<QQII",
        observation.read_from_ns,
        observation.read_to_ns,
        len(observation.name),
        len(observation.target),
    )
    body = _base(observation.parent) + _inode(observation.inode) + numbers
    return _record(Type.ENTRY, observation, body + _padded(observation.name) + _padded(observation.target))


def _lost(observation: EventsLost) -> bytes:
    body = struct.pack("<QQ", observation.count, observation.from_ns)
    return _record(Type.LOST, observation, body, CHANNELS.index(observation.channel))


_ENCODERS: dict[type[Observation], Callable[[Any], bytes]] = {
    DataWritten: _data,
    SizeChanged: _size,
    NameChanged: _name,
    Opened: _open,
    AttributeChanged: _attribute,
    Closed: _closed,
    OutputWritten: _output,
    ProcessSeen: _process,
    ProcessExecuted: _exec,
    ProcessExited: _exit,
    LateData: _late,
    EntryRead: _entry,
    EventsLost: _lost,
}
