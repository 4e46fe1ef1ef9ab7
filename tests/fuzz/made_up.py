"""Any bytes → observations that follow the wire format and make sense to nobody: few inodes and names, wild numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
    Inode,
    LateData,
    NameChanged,
    NameOp,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    SizeChanged,
    SizeOp,
)
from scripts import DEV, START_NS

NAMES = (b"", b"a", b"b", b"a/b", b"b/a", b".", b"..", b"../../a", b"/", b"/w/a", b"a\0b", b"\n\x1b[2J", b"x" * 255)
NAMES += (b"/proc/self/fd/3", b"a/" * 40, b"\xff\xfe", b"b" * 300, b"b/", b"//a")
SIZES = (0, 1, 7, 4096, 65_536, 1 << 20, 1 << 31, 1 << 40, (1 << 62) + 5, (1 << 63) - 1, (1 << 64) - 1)
MODES = (0o100644, 0o40755, 0o120777, 0o10644, 0o140755, 0o20600, 0o60600, 0, 0o170000, 0o104755, 0xFFFFFFFF)
FALLOCATE_MODES = (0, 1, 3, 8, 0x10, 0x11, 0x20, 0x40, 0xFF)


class Bytes:
    """Take choices from bytes; when they are at an end all choices are the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def has_more(self) -> bool:
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """Return a number below 256."""
        value = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return value % below

    def one_of(self, values: tuple):  # type: ignore[type-arg, no-untyped-def]
        return values[self.number(len(values))]

    def some(self) -> bytes:
        length = self.number(12)
        self._at += length
        return self._data[self._at - length : self._at]


def observations(data: bytes) -> Iterator[Observation]:
    """Yield what the bytes stand for."""
    source = Bytes(data)
    sequence, t_ns = 0, START_NS
    while source.has_more and sequence < 2000:
        sequence += 1
        t_ns += source.one_of((0, 1, 1000, 50_000_000))
        enter, exit_ = t_ns - source.one_of((0, 500, 5000)), t_ns + source.one_of((0, 500, 5000))
        pid = source.one_of((100, 101, 102, 0, 0xFFFFFFFF))
        flags = Flag((source.number(256) | source.number(256) << 8) & sum(Flag))
        common = (sequence, t_ns, enter if source.number(4) else 0, exit_, pid, pid, flags, source.one_of(SIZES[:8]))
        yield source.one_of(_MAKERS)(source, common)


Common = tuple[int, int, int, int, int, int, Flag, int]


def _inode(source: Bytes) -> Inode:
    ino, generation = source.one_of((3, 4, 5, 6, 7, 8, 0, (1 << 64) - 1)), source.one_of((1, 1, 1, 2, 0))
    mode, nlink = source.one_of(MODES), source.one_of((1, 0, 2, 0xFFFFFFFF))
    mtime = source.one_of((1_700_000_000 * 10**9, 0, -1, (1 << 62) * 10**9))
    return Inode(DEV, ino, generation, mode, nlink, 1000, 1000, source.one_of(SIZES), mtime, source.one_of((0, 259)))


def _inodes(source: Bytes) -> tuple[Inode, ...]:
    return tuple(_inode(source) for _ in range(source.number(5)))


def _base(source: Bytes) -> Base:
    return Base(DEV, source.one_of((3, 4, 5, 0)), source.one_of((1, 2)))


def _data(source: Bytes, common: Common) -> Observation:
    op = source.one_of((DataOp.WRITE, DataOp.WRITE, DataOp.COPY_RANGE, DataOp.CLONE, DataOp.SENDFILE))
    has_source = op in (DataOp.COPY_RANGE, DataOp.CLONE)
    payload = b"" if has_source else source.some()
    pieces = ((0, payload),) if payload else ()
    length = len(payload) if payload and source.number(3) else source.one_of(SIZES)
    origin = _inode(source) if has_source else None
    at = source.one_of(SIZES)
    return DataWritten(*common, op, _inode(source), at, length, pieces, origin, source.one_of(SIZES) * has_source)


def _name(source: Bytes, common: Common) -> Observation:
    op = source.one_of(tuple(NameOp))
    names = (source.one_of(NAMES), source.one_of(NAMES))
    touched, call_flags = _inodes(source), source.number(8)
    return NameChanged(*common, op, _base(source), names[0], _base(source), names[1], call_flags, touched)


def _open(source: Bytes, common: Common) -> Observation:
    created, truncated = bool(source.number(2)), bool(source.number(2))
    flags, name = source.one_of((0o101, 0o20200002, 0)), source.one_of(NAMES)
    inode, parent, touched = _inode(source), _inode(source), _inodes(source)
    base, path = _base(source), source.one_of(NAMES)
    return Opened(*common, inode, parent, name, created, truncated, flags, touched, base, path)


def _size(source: Bytes, common: Common) -> Observation:
    op, mode = source.one_of(tuple(SizeOp)), source.one_of(FALLOCATE_MODES)
    return SizeChanged(*common, op, _inode(source), mode, source.one_of(SIZES), source.one_of(SIZES))


def _attribute(source: Bytes, common: Common) -> Observation:
    op, inode, name = source.one_of(tuple(AttributeOp)), _inode(source), source.one_of(NAMES)
    return AttributeChanged(*common, op, inode, name, source.some(), True)


def _late(source: Bytes, common: Common) -> Observation:
    of, span = source.number(40), (common[1] - source.number(200), common[1] + source.number(200))
    failed, inode, at = not source.number(3), _inode(source), source.one_of(SIZES)
    common = (*common[:7], -5 if failed else 0)
    return LateData(*common, of, inode, at, b"" if failed else source.some(), *span, failed)


def _entry(source: Bytes, common: Common) -> Observation:
    of, inode, name = source.number(40), _inode(source), source.one_of(NAMES)
    return EntryRead(*common, of, _base(source), name, inode, source.one_of(NAMES), common[1], common[1])


def _lost(source: Bytes, common: Common) -> Observation:
    return EventsLost(*common, source.one_of(("ring", "table", "recursion", "queue")), source.number(256), common[1])


def _process(source: Bytes, common: Common) -> Observation:
    which = source.number(4)
    if which == 0:
        return ProcessSeen(*common, source.one_of((1, 100, 101, 102)), source.some(), bool(source.number(2)))
    if which == 1:
        return ProcessExecuted(*common, b"x", source.one_of(NAMES), source.one_of(NAMES), (source.some(),), False)
    if which == 2:
        return ProcessExited(*common, source.number(256))
    return OutputWritten(*common, source.number(4), source.one_of(SIZES), ((0, source.some()),))


def _close(source: Bytes, common: Common) -> Observation:
    return Closed(*common, _inode(source))


_MAKERS: tuple[Callable[[Bytes, Common], Observation], ...] = (
    _data, _data, _name, _name, _name, _open, _open, _size, _attribute, _late, _entry, _lost, _process, _close,
)  # fmt: skip
