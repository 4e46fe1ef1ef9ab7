"""Observation → wire record: the inverse of ``decoder``, for scripts and for tests of what lies behind the ring.

The layout is that of ``native/events.h``; every part that follows a fixed struct is padded to 8 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from diffkeeper.engines import look_record
from diffkeeper.model.observation import (
    AttributeChanged,
    Base,
    Closed,
    DataOp,
    DataWritten,
    EntryRead,
    EventsLost,
    Flag,
    Held,
    HoleFound,
    HoleReread,
    Inode,
    LateData,
    Looked,
    MappingChanged,
    MountChanged,
    NameChanged,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    RequestSeen,
    Sampled,
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
    MAPPED = 17
    HOLE = 18
    HELD = 19
    ASYNC = 20
    MOUNT = 21
    LOOK = 24


CHANNELS = ("ring", "table", "recursion", "queue", "probe", "decode")  # enum dk_lost_channel
_FLAG_MORE = 512
_SAMPLE, _MAP, _UNMAP, _SAMPLER = range(4)  # enum dk_mapped_op
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
        # A reading bears the number of what it belongs to; the decoder gives it one of its own.
        observation.of if isinstance(observation, LateData | EntryRead) else observation.sequence,
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


def _inside(payload: Pieces) -> bytes:
    """Return what the record itself carries: a payload that is in one part, from the offset on."""
    is_whole = len(payload) == 1 and payload[0][0] == 0 and len(payload[0][1]) <= _PIECE_MAX
    return payload[0][1] if is_whole else b""


def _with_pieces(type_: Type, observation: Observation, body: bytes, payload: Pieces, op: int = 0) -> bytes:
    """Return a record and, before it, the pieces of the payload that it does not carry itself."""
    pieces = () if _inside(payload) else payload
    record = _record(type_, observation, body + _padded(_inside(payload)), op, _FLAG_MORE if pieces else 0)
    return b"".join(_pieces(observation, pieces)) + record


def _pieces(observation: Observation, payload: Pieces) -> Iterator[bytes]:
    for start, data in payload:
        for at in range(0, len(data), _PIECE_MAX):
            part = data[at : at + _PIECE_MAX]
            size = _PIECE.size + len(_padded(part))
            yield _PIECE.pack(size, Type.PIECE, 0, 0, observation.sequence, start + at, len(part), 0) + _padded(part)


def _data(observation: DataWritten) -> bytes:
    if observation.flags & Flag.MAPPED:
        return _sample(observation)
    if observation.op in (DataOp.COPY_RANGE, DataOp.CLONE):
        return _copy(observation)
    numbers = struct.pack(
        "<QQII", observation.offset, observation.length, len(_inside(observation.payload)), observation.slack
    )
    body = _inode(observation.inode) + numbers
    return _with_pieces(Type.DATA, observation, body, observation.payload, observation.op)


def _copy(observation: DataWritten) -> bytes:
    assert not observation.payload, "the bytes of a copy follow as LateData"
    source = _NO_INODE if observation.source is None else _inode(observation.source)
    numbers = struct.pack("<QQQ", observation.offset, observation.length, observation.source_offset)
    return _record(Type.COPY, observation, _inode(observation.inode) + source + numbers, observation.op)


def _size(observation: SizeChanged) -> bytes:
    body = struct.pack("<QQII", observation.offset, observation.length, observation.mode, 0)
    return _record(Type.SIZE, observation, _inode(observation.inode) + body, observation.op)


def _name(observation: NameChanged) -> bytes:
    numbers = struct.pack(
        "<IHHII",
        observation.call_flags,
        len(observation.touched),
        observation.outside,
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
        len(observation.path),
    )
    body = _inode(observation.inode) + _inode(observation.parent) + _base(observation.base) + numbers
    body += b"".join(map(_inode, observation.touched)) + _padded(observation.name) + _padded(observation.path)
    return _record(Type.OPEN, observation, body)


def _attribute(observation: AttributeChanged) -> bytes:
    value = observation.xattr_value if observation.value_is_known else b""
    full = len(observation.xattr_value) if observation.value_is_known else len(observation.xattr_value) + 1
    numbers = struct.pack("<IIII", len(observation.xattr_name), len(value), full, 0)
    body = _inode(observation.inode) + numbers + _padded(observation.xattr_name) + _padded(value)
    return _record(Type.ATTR, observation, body, observation.op)


def _mounted(observation: MountChanged) -> bytes:
    nothing = Inode(0, 0, 0, 0, 0, 0, 0, 0, 0)
    seen = observation.is_recorded | observation.is_elsewhere << 1
    body = _inode(observation.point or nothing) + _inode(observation.shown or nothing) + _base(observation.base)
    body += struct.pack("<16sII", observation.kind, seen, len(observation.path))
    return _record(Type.MOUNT, observation, body + _padded(observation.path), 1 if observation.is_mounted else 2)


def _closed(observation: Closed) -> bytes:
    return _record(Type.CLOSE, observation, _inode(observation.inode))


def _output(observation: OutputWritten) -> bytes:
    body = struct.pack("<QII", observation.length, observation.stream, len(_inside(observation.payload)))
    return _with_pieces(Type.OUTPUT, observation, body, observation.payload)


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
    assert observation.failed == (observation.result < 0), "a failed read has its errno as result"
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
    file = observation.file or Base(0, 0, 0)
    body = struct.pack("<QQ", observation.count, observation.from_ns) + _base(file)
    body += struct.pack("<QQII", observation.offset, observation.length, observation.what, 0)
    return _record(Type.LOST, observation, body, CHANNELS.index(observation.channel))


def _sample(observation: DataWritten) -> bytes:
    data = b"".join(data for _, data in observation.payload)
    numbers = struct.pack("<QQII", observation.offset, 0, len(data), 0)
    return _record(Type.MAPPED, observation, _inode(observation.inode) + numbers + _padded(data), _SAMPLE)


def _mapping(observation: MappingChanged) -> bytes:
    body = _inode(observation.inode) + struct.pack("<QQII", 0, 0, 0, 0)
    return _record(Type.MAPPED, observation, body, _MAP if observation.is_mapped else _UNMAP)


def _sampled(observation: Sampled) -> bytes:
    numbers = (observation.interval_ns, observation.files, observation.rounds, observation.late_rounds)
    body = struct.pack(
        "<8Q", *numbers, observation.longest_ns, observation.missed, observation.pages, observation.spent_ns
    )
    return _record(Type.MAPPED, observation, body, _SAMPLER)


def _hole(observation: HoleFound) -> bytes:
    numbers = (observation.offset, observation.length, 0, observation.count, len(observation.name))
    body = _inode(observation.inode) + _base(observation.parent) + struct.pack("<QQQII", *numbers)
    return _record(Type.HOLE, observation, body + _padded(observation.name), 1 if observation.length else 2)


def _reread(observation: HoleReread) -> bytes:
    names = observation.xattr_names
    text = observation.name + b"/" + b"".join(name + b"\0" for name in sorted(names or ()))
    numbers = (observation.offset, observation.length, 0, int(names is not None), len(text))
    body = _inode(observation.inode) + _base(observation.parent) + struct.pack("<QQQII", *numbers)
    return _record(Type.HOLE, observation, body + _padded(text), 4 if observation.is_settling else 3)


def _held(observation: Held) -> bytes:
    return _record(Type.HELD, observation, struct.pack("<Q", observation.exit_ns))


def _request(observation: RequestSeen) -> bytes:
    body = _inode(observation.inode) + struct.pack("<QQQ", observation.offset, observation.length, observation.of)
    return _record(Type.ASYNC, observation, body, int(observation.is_over))


_ENCODERS: dict[type[Observation], Callable[[Any], bytes]] = {
    DataWritten: _data,
    SizeChanged: _size,
    NameChanged: _name,
    Opened: _open,
    AttributeChanged: _attribute,
    MountChanged: _mounted,
    Closed: _closed,
    OutputWritten: _output,
    ProcessSeen: _process,
    ProcessExecuted: _exec,
    ProcessExited: _exit,
    LateData: _late,
    EntryRead: _entry,
    EventsLost: _lost,
    MappingChanged: _mapping,
    Sampled: _sampled,
    HoleFound: _hole,
    HoleReread: _reread,
    Held: _held,
    RequestSeen: _request,
    Looked: look_record.encode,
}
