"""What an event did, in one line of text.

The number in parentheses is the size of the file after the event; for WRITE, COPY and FALLOCATE it is the bytes of that
very call, which need not be the file's size. The prefix ``[02m:14s] WRITE    status.log (22B)`` is part of the
interface: scripts read it, so that things are only ever added to its right.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import lru_cache

from diffkeeper.model.clock import bracketed, rfc3339
from diffkeeper.model.event import (
    LIMIT_DROPPED,
    LIMIT_FAILED,
    LOOK_APPEARED,
    LOOK_MOVED,
    MOUNT_ELSEWHERE,
    MOUNT_ENDS,
    MOUNT_SHOWS,
    PENDING_ENDS,
    RESYNC_CONFIRMED,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Event,
    Kind,
    Mark,
    Meta,
)
from diffkeeper.reporters import escape
from diffkeeper.reporters.numbers import size
from diffkeeper.reporters.values import Line, signal_name

_LABELS = {
    Mark.OUTSIDER: "OUTSIDER",
    Mark.AMBIGUOUS: "AMBIGUOUS",
    Mark.INEXACT: "INEXACT",
    Mark.UNKNOWN_DATA: "UNKNOWN",
    Mark.UNRESOLVED: "UNRESOLVED",
    Mark.LATE: "LATE",
    Mark.MAPPED: "MAPPED",
    Mark.HOLE: "HOLE",
}
OPS = {int(kind): f"{kind.name:<8} " for kind in Kind}
"""How operations begin their lines."""

COUNTED = {Kind.CREATE: "size", Kind.WRITE: "length", Kind.TRUNCATE: "size", Kind.COPY: "length", Kind.CLOSE: "size"}
"""Operations that are told by their path and a number of bytes, and the field of Event that holds it."""

NAMED = frozenset({Kind.UNLINK, Kind.MKDIR, Kind.RMDIR})
"""Operations that are told by their path alone."""

_STREAMS = {1: "stdout", 2: "stderr"}


def prefix(line: Line) -> str:
    """Return the fixed part of a timeline line."""
    event = line.event
    return f"{bracketed(event.t_ns)} {OPS[event.kind]}{_DETAILS[event.kind](line)}".rstrip()


@lru_cache(maxsize=256)
def labels(marks: int) -> tuple[str, ...]:
    """Return what a reader must know about an event, in upper case."""
    return tuple(label for mark, label in _LABELS.items() if marks & mark)


def stream_name(number: int) -> str:
    """Return ``stdout`` or ``stderr``."""
    return _STREAMS.get(number, f"fd {number}")


def _with_length(line: Line) -> str:
    return f"{escape.name(line.event.path)} ({line.event.length}B)"


def _with_size(line: Line) -> str:
    return _path(line) + _size(line.event)


def _size(event: Event) -> str:
    return size_text(event.meta, event.size)


def size_text(meta: Meta | None, size: int) -> str:
    """Return what stands behind a name for the size, nothing for what is no regular file."""
    is_file = meta is None or stat.S_ISREG(meta.mode) or not stat.S_IFMT(meta.mode)
    return f" ({size}B)" if is_file else ""


def _path(line: Line) -> str:
    """Return the path; that of the watch root, where there is one, is empty."""
    event = line.event
    return "." if not event.path and event.node and not event.marks & Mark.UNRESOLVED else escape.name(event.path)


def _moved(line: Line) -> str:
    event = line.event
    return f"{escape.name(event.path)} -> {escape.name(event.path2)}{_size(event)}"


def _linked(line: Line) -> str:
    return f"{escape.name(line.event.path)} -> {escape.name(line.event.path2)}"


def _exchanged(line: Line) -> str:
    return f"{escape.name(line.event.path)} <-> {escape.name(line.event.path2)}"


def _symlinked(line: Line) -> str:
    return f"{escape.name(line.event.path)} -> {escape.name(line.event.text)}"


def _left(line: Line) -> str:
    return _linked(line) if line.event.path2 else _path(line)


def _node(line: Line) -> str:
    meta = line.event.meta
    if meta is None:
        return _path(line)
    device = f" {meta.rdev >> 20}:{meta.rdev & 0xFFFFF}" if stat.S_ISBLK(meta.mode) or stat.S_ISCHR(meta.mode) else ""
    return f"{_path(line)} ({_node_type(meta.mode)}{device})"


def _node_type(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "fifo"
    if stat.S_ISSOCK(mode):
        return "socket"
    return "block device" if stat.S_ISBLK(mode) else "device" if stat.S_ISCHR(mode) else "file"


def _mode(line: Line) -> str:
    return _path(line) + mode_text(line.event.meta)


def mode_text(meta: Meta | None) -> str:
    """Return what stands behind a name for the permissions, nothing where it is not known."""
    return "" if meta is None else f" ({stat.S_IMODE(meta.mode):04o})"


def _owner(line: Line) -> str:
    return _path(line) + owner_text(line.event.meta)


def owner_text(meta: Meta | None) -> str:
    """Return what stands behind a name for the owner and group, nothing where it is not known."""
    return "" if meta is None else f" ({meta.uid}:{meta.gid})"


def _times(line: Line) -> str:
    return _path(line) + times_text(line.event.meta)


def times_text(meta: Meta | None) -> str:
    """Return what stands behind a name for the time of the last change, nothing where it is not known."""
    return "" if meta is None else f" ({rfc3339(meta.mtime_ns)})"


def _xattr_set(line: Line) -> str:
    return f"{_path(line)} {escape.name(line.event.text)} ({len(line.event.value)}B)"


def _xattr_removed(line: Line) -> str:
    return f"{_path(line)} {escape.name(line.event.text)}"


def _flags(line: Line) -> str:
    return f"{_path(line)} ({escape.name(line.event.text)} {line.event.detail:#x})"


_SEEN = {MOUNT_SHOWS: ", recorded under its own path", MOUNT_ELSEWHERE: ", seen in another mount namespace alone"}


def _mounted(line: Line) -> str:
    event = line.event
    if event.detail == MOUNT_ENDS:
        return f"{_path(line)} (unmounted)"
    return f"{_path(line)} ({escape.name(event.text)}{_SEEN.get(event.detail, '')})"


def _printed(line: Line) -> str:
    return f"{stream_name(line.event.detail)}: {escape.output(line.output)}"


def _forked(line: Line) -> str:
    return f"pid {line.event.pid}"


def _executed(line: Line) -> str:
    argv = [argument.decode("utf-8", "surrogateescape") for argument in line.event.value.split(b"\0")]
    return escape.command(argv) if line.event.value else escape.name(line.event.text)


def _exited(line: Line) -> str:
    status = line.event.detail
    return signal_name(status & 0x7F) if status & 0x7F else f"exit {status >> 8}"


def _lost(line: Line) -> str:
    """Return how much was lost and of what; the second row of a window has no count."""
    event = line.event
    channel, what = (escape.escaped(text.decode("utf-8", "surrogateescape")) for text in (event.text, event.value))
    words = ": ".join(filter(None, [channel, what]))
    of = f" {_path(line)}" if event.path else ""
    of += f" [{event.offset}, {event.offset + event.length})" if event.length else ""
    return (f"{event.detail} lost" if event.detail else "until here") + (f" ({words})" if words else "") + of


def _resynced(line: Line) -> str:
    event = line.event
    if event.detail == RESYNC_REMOVED:
        return f"{_path(line)} (gone)"
    if event.detail == RESYNC_CONFIRMED:
        return f"{_path(line)} (as recorded)"
    if event.detail in (RESYNC_XATTR, RESYNC_NO_XATTR):
        return f"{_path(line)} ({escape.name(event.text)})"
    return _with_size(line)


def _looked(line: Line) -> str:
    event = line.event
    if event.detail == LOOK_MOVED:
        return _moved(line) if line.event.meta is None or stat.S_ISREG(line.event.meta.mode) else _linked(line)
    return f"{_with_size(line)} appeared" if event.detail == LOOK_APPEARED else _resynced(line)


def _pending(line: Line) -> str:
    return f"{_path(line)} ({'no request any more' if line.event.detail == PENDING_ENDS else 'a request may write'})"


def _held(line: Line) -> str:
    return f"{(line.event.t_ns - line.event.enter_ns) / 1e6:.1f} ms"


def _limited(line: Line) -> str:
    event = line.event
    if event.detail == LIMIT_DROPPED:
        return f"{event.length} events up to here were dropped: the trace may have {size(event.size)}"
    ended = ", and the command was ended" if event.detail == LIMIT_FAILED else ""
    return f"the trace has the {size(event.size)} that it may have: nothing is recorded from here on{ended}"


_DETAILS: dict[Kind, Callable[[Line], str]] = {
    Kind.CREATE: _with_size,
    Kind.WRITE: _with_length,
    Kind.TRUNCATE: _with_size,
    Kind.RENAME: _moved,
    Kind.LINK: _linked,
    Kind.UNLINK: _path,
    Kind.MKDIR: _path,
    Kind.RMDIR: _path,
    Kind.SYMLINK: _symlinked,
    Kind.MKNOD: _node,
    Kind.CHMOD: _mode,
    Kind.CHOWN: _owner,
    Kind.UTIME: _times,
    Kind.SETXATTR: _xattr_set,
    Kind.REMOVEXATTR: _xattr_removed,
    Kind.FALLOCATE: _with_length,
    Kind.COPY: _with_length,
    Kind.CLOSE: _with_size,
    Kind.OUTPUT: _printed,
    Kind.FORK: _forked,
    Kind.EXEC: _executed,
    Kind.EXIT: _exited,
    Kind.IMPORT: _with_size,
    Kind.MOUNT: _mounted,
    Kind.GAP: _lost,
    Kind.HELD: _held,
    Kind.LIMIT: _limited,
    Kind.PENDING: _pending,
    Kind.RESYNC: _resynced,
    Kind.CHANGED: _looked,
    Kind.EXCHANGE: _exchanged,
    Kind.EXPORT: _left,
    Kind.SETFLAGS: _flags,
}
assert _DETAILS.keys() == set(Kind), "every kind of event has its line"
