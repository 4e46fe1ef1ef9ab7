"""Wire records, as native/events.h lays them out, to observations.

Pieces of a payload stand before the record that they belong to, sometimes in an earlier batch: a Decoder keeps them
until it comes. Any bytes give observations or DamagedTraceError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from struct import error as StructError

from diffkeeper.engines import look_record
from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
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
    Lost,
    MappingChanged,
    MountChanged,
    NameChanged,
    NameOp,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    RequestSeen,
    Sampled,
    SizeChanged,
    SizeOp,
)

HEADER = Struct("<IBBHQQQQIIq")  # size type op flags sequence t enter exit pid tid result
INODE = Struct("<QIIIIIIQqII")  # ino dev generation mode nlink uid gid size mtime_sec mtime_nsec rdev
BASE = Struct("<QII")
_DATA = Struct("<QQII")
_PIECE = Struct("<IBBHQQI")
_COPY = Struct("<QQQ")
_SIZE = Struct("<QQI")
_NAME = Struct("<IHHII")
_OPEN = Struct("<IHBBII")
_ATTR = Struct("<III")
_OUTPUT = Struct("<QII")
_PROCESS = Struct("<II16s")
_EXEC = Struct("<16sIIII")
_EXIT = Struct("<I")
_LATE = Struct("<QQQI")
_MOUNT = Struct("<16sII")
_ENTRY = Struct("<QQII")
_LOST = Struct("<QQ")
_LOST_OF = Struct("<QIIQQI")
_HOLE = Struct("<QQQII")
_MAPPED = Struct("<QQI")
_SAMPLER = Struct("<8Q")
_ASYNC = Struct("<QQQ")

DATA, PIECE, COPY, SIZE, NAME, OPEN, ATTR, CLOSE = range(1, 9)
OUTPUT, PROCESS, EXEC, EXIT, DIRECTORY, LATE, ENTRY, LOST, MAPPED = range(9, 18)
HOLE = 18
_HOLE_REREAD, _HOLE_SETTLED = 3, 4
HELD = 19
ASYNC = 20
MOUNT = 21
LOOK = look_record.LOOK
_MOUNTED = 1  # enum dk_mount_op
_SEEN_IN_ROOT, _SEEN_ELSEWHERE = 1, 2
_MORE = 512
_FLAGS = 255 | 1024 | 2048 | 8192 | 16384 | 32768  # the bits that Flag names; the wire's own stay behind
MOST_BATCHES_OF_A_RECORD = 64  # parts that have waited for longer belong to a record that was lost
_O_TMPFILE = 0o20000000
_SAMPLE, _MAP, _UNMAP, _SAMPLER_OP = range(4)  # enum dk_mapped_op
_MAPPED_FLAG = 8192
_SECOND_STRING = 1 << 16  # where a request's second string begins among its pieces
_LOST_CHANNELS = ("ring", "table", "recursion", "queue", "probe", "decode")


_WHAT = {kind.value: kind for kind in Lost} | {COPY: Lost.BYTES, EXEC: Lost.PROCESS, EXIT: Lost.PROCESS}


class _Flags(dict[int, Flag]):
    """Hold each combination of flags that was met: to make one takes a µs, to make all 1,024 at once 4 ms."""

    def __missing__(self, bits: int) -> Flag:
        flag = self[bits] = Flag(bits)
        return flag


_FLAG_OF = _Flags()

Pieces = tuple[tuple[int, bytes], ...]
Head = tuple[int, int, int, int, int, int, int, int, int, int, int]


class Decoder:
    """Decode the batches of one stream, in their order."""

    def __init__(self) -> None:
        """Start without pieces."""
        self._pieces: dict[int, list[tuple[int, bytes]]] = {}
        self._begun: dict[int, int] = {}  # in which batch the first piece of a record came
        self._batches = 0

    def decode(self, payload: bytes, places: Iterable[int] | None = None) -> list[Observation]:
        """Return the observations of one batch, or of its records at ``places``, which are known to be within it.

        Raises DamagedTraceError on bytes that are no records.
        """
        self._batches += 1
        self._forget_lost()
        try:
            return list(self._records(payload, _places(payload) if places is None else places))
        except (StructError, ValueError, IndexError, OverflowError) as error:
            raise DamagedTraceError(f"a batch holds something that is not a record: {error}") from error

    def _records(self, payload: bytes, places: Iterable[int]) -> Iterator[Observation]:
        for at in places:
            kind = payload[at + 4]
            if kind == PIECE:
                self._keep_piece(payload, at)
            elif kind == ASYNC and not int.from_bytes(payload[at + 56 : at + 64], "little"):
                pass  # it is about no file: requests are used
            elif kind in _DECODERS:
                head = HEADER.unpack_from(payload, at)
                yield _DECODERS[kind](self, payload, at, at + head[0], head)
            elif kind != DIRECTORY:
                raise ValueError(f"record of unknown type {kind} at {at}")

    def _forget_lost(self) -> None:
        """Forget pieces that have waited for so long that their record was lost: the oldest stand first."""
        while self._begun:
            sequence, batch = next(iter(self._begun.items()))
            if self._batches - batch <= MOST_BATCHES_OF_A_RECORD:
                return
            del self._begun[sequence]
            self._pieces.pop(sequence, None)

    def _keep_piece(self, payload: bytes, at: int) -> None:
        size, _, _, _, sequence, start, length = _PIECE.unpack_from(payload, at)
        data = _bytes(payload, at + 32, at + size, length)
        if length:
            pieces = self._pieces.setdefault(sequence, [])
            self._begun.setdefault(sequence, self._batches)
            pieces.append((start, data))

    def pieces_of(self, head: Head, own: bytes) -> Pieces:
        """Return the payload of a record: what stands in it, or the pieces that came before it."""
        if own:
            return ((0, own),)
        if head[3] & _MORE:
            self._begun.pop(head[4], None)
            return tuple(self._pieces.pop(head[4], ()))
        return ()

    def strings_of(self, head: Head) -> tuple[bytes, bytes]:
        """Return the two strings of a request, which came as pieces before its record."""
        pieces = self.pieces_of(head, b"")
        first = b"".join(data for start, data in pieces if start < _SECOND_STRING)
        return first, b"".join(data for start, data in pieces if start >= _SECOND_STRING)


def decode_write(record: bytes) -> DataWritten:
    """Decode a record of bytes that reached a file, all of which are in it."""
    return _data(Decoder(), record, 0, len(record), HEADER.unpack_from(record))


def _places(payload: bytes) -> Iterator[int]:
    """Yield where the records of a batch begin; raise ValueError where there is none."""
    at, end = 0, len(payload)
    while at < end:
        size = int.from_bytes(payload[at : at + 4], "little")
        if size < _PIECE.size or size % 8 or at + size > end:
            raise ValueError(f"record of {size} bytes at {at}")
        yield at
        at += size


def decode(payload: bytes) -> list[Observation]:
    """Decode one batch that stands alone."""
    return Decoder().decode(payload)


def _bytes(payload: bytes, at: int, end: int, length: int) -> bytes:
    if at + length > end:
        raise ValueError(f"{length} bytes at {at} reach over the end of their record")
    return payload[at : at + length]


def _padded(length: int) -> int:
    return length + 7 & ~7


def _common(head: Head) -> tuple[int, int, int, int, int, int, Flag, int]:
    """Return the leading fields of an observation, in their order."""
    return head[4], head[5], head[6], head[7], head[8], head[9], _FLAG_OF[head[3] & _FLAGS], head[10]


def _reading(head: Head) -> tuple[int, int, int, int, int, int, Flag, int]:
    """Return the leading fields of a reading: on the wire it bears its cause's sequence, here one of its own.

    The drain thread reads one thing after another, so the time is its own as well.
    """
    return -head[5], *_common(head)[1:]


def _inode(payload: bytes, at: int) -> Inode:
    ino, dev, generation, mode, nlink, uid, gid, size, seconds, nanoseconds, rdev = INODE.unpack_from(payload, at)
    mtime_ns = seconds * 1_000_000_000 + nanoseconds
    return Inode(dev, ino, generation, mode, nlink, uid, gid, size, mtime_ns, rdev)


def _base(payload: bytes, at: int) -> Base:
    ino, dev, generation = BASE.unpack_from(payload, at)
    return Base(dev, ino, generation)


def _touched(payload: bytes, at: int, count: int) -> tuple[Inode, ...]:
    return tuple(_inode(payload, at + index * INODE.size) for index in range(count))


def _data(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> DataWritten:
    offset, length, inside, slack = _DATA.unpack_from(payload, at + 112)
    own = _bytes(payload, at + 136, end, inside)
    pieces = decoder.pieces_of(head, own)
    inode = _inode(payload, at + 56)
    return DataWritten(*_common(head), DataOp(head[2]), inode, offset, length, pieces, None, 0, slack)


def _copy(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> DataWritten:
    offset, length, source_offset = _COPY.unpack_from(payload, at + 168)
    source = _inode(payload, at + 112)
    known = source if source.ino else None
    inode = _inode(payload, at + 56)
    pieces = decoder.pieces_of(head, b"")
    return DataWritten(*_common(head), DataOp(head[2]), inode, offset, length, pieces, known, source_offset)


def _size(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> SizeChanged:
    offset, length, mode = _SIZE.unpack_from(payload, at + 112)
    return SizeChanged(*_common(head), SizeOp(head[2]), _inode(payload, at + 56), mode, offset, length)


def _name(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> NameChanged:
    call_flags, count, outside, length, length2 = _NAME.unpack_from(payload, at + 88)
    strings = at + 104 + count * INODE.size
    path = _bytes(payload, strings, end, length)
    path2 = _bytes(payload, strings + _padded(length), end, length2)
    if head[3] & _MORE:
        path, path2 = decoder.strings_of(head)
    base, base2 = _base(payload, at + 56), _base(payload, at + 72)
    touched = _touched(payload, at + 104, count)
    return NameChanged(*_common(head), NameOp(head[2]), base, path, base2, path2, call_flags, touched, outside)


def _open(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> Opened:
    flags, count, created, truncated, length, path_length = _OPEN.unpack_from(payload, at + 184)
    strings = at + 200 + count * INODE.size
    name = _bytes(payload, strings, end, length)
    path = _bytes(payload, strings + _padded(length), end, path_length)
    if head[3] & _MORE:
        path, _ = decoder.strings_of(head)
    if flags & _O_TMPFILE:
        name = b""  # the kernel calls it "#<inode>": it has no name yet
    inode, parent = _inode(payload, at + 56), _inode(payload, at + 112)
    touched = _touched(payload, at + 200, count)
    base = _base(payload, at + 168)
    is_created, is_truncated = bool(created), bool(truncated)
    return Opened(*_common(head), inode, parent, name, is_created, is_truncated, flags, touched, base, path)


def _attr(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> AttributeChanged:
    name_length, value_length, value_full = _ATTR.unpack_from(payload, at + 112)
    name = _bytes(payload, at + 128, end, name_length)
    value = _bytes(payload, at + 128 + _padded(name_length), end, value_length)
    if head[3] & _MORE:
        name, value = decoder.strings_of(head)
    inode = _inode(payload, at + 56)
    return AttributeChanged(*_common(head), AttributeOp(head[2]), inode, name, value, len(value) == value_full)


def _close(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> Closed:
    return Closed(*_common(head), _inode(payload, at + 56))


def _output(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> OutputWritten:
    length, stream, inside = _OUTPUT.unpack_from(payload, at + 56)
    pieces = decoder.pieces_of(head, _bytes(payload, at + 72, end, inside))
    return OutputWritten(*_common(head), stream, length, pieces)


def _process(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> ProcessSeen:
    parent, is_fork, comm = _PROCESS.unpack_from(payload, at + 56)
    return ProcessSeen(*_common(head), parent, comm.split(b"\0", 1)[0], bool(is_fork))


def _exec(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> ProcessExecuted:
    comm, argv_length, argv_full, exe_length, cwd_length = _EXEC.unpack_from(payload, at + 56)
    text = at + 88
    argv = _bytes(payload, text, end, argv_length)
    exe = _bytes(payload, text + _padded(argv_length), end, exe_length)
    cwd = _bytes(payload, text + _padded(argv_length) + _padded(exe_length), end, cwd_length)
    words = tuple(argv.removesuffix(b"\0").split(b"\0")) if argv else ()
    is_cut = argv_length < argv_full
    return ProcessExecuted(*_common(head), comm.split(b"\0", 1)[0], exe, cwd, words, is_cut)


def _exit(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> ProcessExited:
    return ProcessExited(*_common(head), _EXIT.unpack_from(payload, at + 56)[0])


def _late(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> LateData:
    offset, read_from, read_to, length = _LATE.unpack_from(payload, at + 112)
    data = _bytes(payload, at + 144, end, length)
    inode = _inode(payload, at + 56)
    return LateData(*_reading(head), head[4], inode, offset, data, read_from, read_to, head[10] < 0)


def _entry(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> EntryRead:
    read_from, read_to, name_length, target_length = _ENTRY.unpack_from(payload, at + 128)
    name = _bytes(payload, at + 152, end, name_length)
    target = _bytes(payload, at + 152 + _padded(name_length), end, target_length)
    parent, inode = _base(payload, at + 56), _inode(payload, at + 72)
    return EntryRead(*_reading(head), head[4], parent, name, inode, target, read_from, read_to)


def _mount(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> MountChanged:
    kind, seen, length = _MOUNT.unpack_from(payload, at + 184)
    point, shown, base = _inode(payload, at + 56), _inode(payload, at + 112), _base(payload, at + 168)
    path = _bytes(payload, at + 208, end, length)
    return MountChanged(
        *_common(head),
        head[2] == _MOUNTED,
        point if point.ino else None,
        shown if shown.ino else None,
        kind.split(b"\0", 1)[0],
        bool(seen & _SEEN_IN_ROOT),
        bool(seen & _SEEN_ELSEWHERE),
        base,
        path,
    )


def _lost(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> EventsLost:
    count, from_ns = _LOST.unpack_from(payload, at + 56)
    known = (*_common(head), _LOST_CHANNELS[head[2]], count, from_ns)
    if end - at < 112:
        return EventsLost(*known)  # of a trace from before losses were told apart
    ino, dev, generation, offset, length, what = _LOST_OF.unpack_from(payload, at + 72)
    file = Base(dev, ino, generation) if ino else None
    return EventsLost(*known, _WHAT.get(what, Lost.UNKNOWN), file, offset, length)


def _mapped(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> DataWritten | MappingChanged | Sampled:
    if head[2] == _SAMPLER_OP:
        return Sampled(*_common(head), *_SAMPLER.unpack_from(payload, at + 56))
    inode = _inode(payload, at + 56)
    if head[2] != _SAMPLE:
        return MappingChanged(*_common(head), inode, head[2] == _MAP)
    offset, _, inside = _MAPPED.unpack_from(payload, at + 112)
    data = _bytes(payload, at + 136, end, inside)
    common = _common((*head[:3], head[3] | _MAPPED_FLAG, *head[4:]))
    return DataWritten(*common, DataOp.WRITE, inode, offset, inside, ((0, data),) if data else ())


def _hole(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> HoleFound | HoleReread:
    offset, length, _, count, text_length = _HOLE.unpack_from(payload, at + 128)
    text = _bytes(payload, at + 160, end, text_length)
    inode, parent = _inode(payload, at + 56), _base(payload, at + 112)
    if head[2] not in (_HOLE_REREAD, _HOLE_SETTLED):
        return HoleFound(*_common(head), inode, parent, text, offset, length, count)
    name, _, names = text.partition(b"/")
    listed = frozenset(names.split(b"\0")) - {b""} if count else None
    return HoleReread(*_common(head), inode, parent, name, offset, length, listed, head[2] == _HOLE_SETTLED)


def _held(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> Held:
    return Held(*_common(head))


def _async(decoder: Decoder, payload: bytes, at: int, end: int, head: Head) -> RequestSeen:
    offset, length, of = _ASYNC.unpack_from(payload, at + 112)
    return RequestSeen(*_common(head), _inode(payload, at + 56), offset, length, of, bool(head[2]))


_DECODERS: dict[int, Callable[[Decoder, bytes, int, int, Head], Observation]] = {
    DATA: _data,
    COPY: _copy,
    SIZE: _size,
    NAME: _name,
    OPEN: _open,
    ATTR: _attr,
    CLOSE: _close,
    OUTPUT: _output,
    PROCESS: _process,
    EXEC: _exec,
    EXIT: _exit,
    LATE: _late,
    ENTRY: _entry,
    LOST: _lost,
    MOUNT: _mount,
    MAPPED: _mapped,
    HOLE: _hole,
    HELD: _held,
    ASYNC: _async,
    LOOK: lambda decoder, payload, at, end, head: look_record.decode(payload, at, end, head),
}
