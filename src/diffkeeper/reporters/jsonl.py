"""JSON Lines: one object a line with ``v`` and ``type``; keys are added, never renamed or given another meaning.

Text is ASCII (everything else as JSON escapes), so that a line is safe to print. A path that is not UTF-8 has U+FFFD in
``path`` and its bytes in ``path_b64``; so have the other names. ``t_ns`` counts from the start of the recording.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from diffkeeper.model.answers import Change, Entry, TraceInfo
from diffkeeper.model.clock import rfc3339
from diffkeeper.model.event import (
    LIMIT_DROPPED,
    LIMIT_FAILED,
    LIMIT_STOPPED,
    LOOK_APPEARED,
    LOOK_MOVED,
    MOUNT_ELSEWHERE,
    MOUNT_ENDS,
    MOUNT_SHOWS,
    PENDING_ENDS,
    RESYNC_CONFIRMED,
    RESYNC_CONTENT,
    RESYNC_EXTENT,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Event,
    Kind,
)
from diffkeeper.reporters import describe
from diffkeeper.reporters.output import Output
from diffkeeper.reporters.values import Line, Timeline

VERSION = 1
Json = dict[str, object]

_WITH_OFFSET = frozenset({Kind.WRITE, Kind.COPY, Kind.FALLOCATE})
_WITHOUT_FILE = frozenset({Kind.OUTPUT, Kind.FORK, Kind.EXEC, Kind.EXIT, Kind.GAP, Kind.HELD, Kind.LIMIT})
_LIMITS = {LIMIT_DROPPED: "dropped", LIMIT_STOPPED: "stopped", LIMIT_FAILED: "failed"}
_READINGS = {
    RESYNC_REMOVED: "gone",
    RESYNC_CONTENT: "content",
    RESYNC_XATTR: "xattr",
    RESYNC_NO_XATTR: "xattr_gone",
    RESYNC_CONFIRMED: "confirmed",
    RESYNC_EXTENT: "extent",
    LOOK_APPEARED: "appeared",
    LOOK_MOVED: "moved",
}
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def write_object(kind: str, fields: Mapping[str, object], output: Output) -> None:
    """Write one object of a type."""
    output.line(_encode({"v": VERSION, "type": kind, **fields}))


def report_timeline(timeline: Timeline, output: Output) -> int:
    """Write the session, then one object an event; return how many events there were."""
    report_info(timeline.info, output, kind="session")
    count = 0
    for line in timeline.lines:
        write_object("event", _event(line, timeline), output)
        count += 1
    return count


def report_info(info: TraceInfo, output: Output, kind: str = "trace") -> None:
    """Write what is known of a trace."""
    fields = plain(info)
    fields["trace_id"] = f"{info.trace_id:016x}"  # 64 bits: more than numbers of JSON are good for everywhere
    fields["time"] = rfc3339(info.start_realtime_ns)
    fields["roots"] = [{"label": label, "path": path} for label, path in info.roots]
    write_object(kind, fields, output)


def report_changes(changes: Iterable[Change], output: Output) -> int:
    """Write one object a difference; return how many there were."""
    count = 0
    for change in changes:
        sides = {"before": change.before, "after": change.after}
        fields: Json = {"letter": change.letter, **text_fields("path", change.path)}
        if change.path2:
            fields |= text_fields("path2", change.path2)
        fields |= {side: _entry(entry) for side, entry in sides.items() if entry is not None}
        write_object("change", fields, output)
        count += 1
    return count


def plain(value: object) -> Json:
    """Return the fields of a dataclass as JSON can carry them: bytes as text, values of enumerations as their names."""
    assert dataclasses.is_dataclass(value)
    return dict(_plain_fields((field.name, getattr(value, field.name)) for field in dataclasses.fields(value)))


def text_fields(key: str, raw: bytes) -> Json:
    """Return bytes as text under ``key`` and, when they are not UTF-8, exactly under ``key_b64``."""
    try:
        return {key: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: raw.decode("utf-8", "replace"), f"{key}_b64": base64.b64encode(raw).decode("ascii")}


def _plain_fields(fields: Iterable[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    for key, value in fields:
        if isinstance(value, bytes):
            yield from text_fields(key, value).items()
        else:
            yield key, _plain_value(value)


def _plain_value(value: object) -> object:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(_plain_value(key)): _plain_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [_plain_value(item) for item in value]
    return value


def _event(line: Line, timeline: Timeline) -> Json:
    event = line.event
    fields: Json = {
        "number": event.number,
        "t_ns": event.t_ns,
        "time": rfc3339(timeline.info.start_realtime_ns + event.t_ns),
        "op": event.kind.name.lower(),
    }
    if event.kind not in _WITHOUT_FILE:
        fields |= _names(event) | _sizes(event)
    fields |= _particulars(line)
    fields |= {"pid": event.pid, "tid": event.tid, **text_fields("comm", line.comm)}
    if event.enter_ns or event.exit_ns:
        fields |= {"enter_ns": event.enter_ns, "exit_ns": event.exit_ns}
    fields["flags"] = [label.lower() for label in describe.labels(event.marks)]
    if event.number == timeline.last_change:
        fields["is_last_change"] = True
    return fields


def _names(event: Event) -> Json:
    names = text_fields("path", event.path)
    if event.path2:
        names |= text_fields("path2", event.path2)
    return names


def _sizes(event: Event) -> Json:
    fields: Json = {"size": event.size}
    if event.kind in _WITH_OFFSET:
        fields |= {"offset": event.offset, "length": event.length}
    meta = event.meta
    if meta is not None:
        fields |= {"mode": f"{stat.S_IMODE(meta.mode):04o}", "uid": meta.uid, "gid": meta.gid}
        fields |= {"mtime_ns": meta.mtime_ns, "nlink": meta.nlink}
    return fields


def _particulars(line: Line) -> Json:
    event = line.event
    match event.kind:
        case Kind.SYMLINK:
            return text_fields("target", event.text)
        case Kind.SETXATTR:
            return text_fields("xattr", event.text) | text_fields("value", event.value)
        case Kind.REMOVEXATTR:
            return text_fields("xattr", event.text)
        case Kind.SETFLAGS:
            return {"inode_flags": event.detail, **text_fields("sort", event.text)}  # "flags" are those of the event
        case Kind.MOUNT:
            is_recorded, is_mounted = event.detail == MOUNT_SHOWS, event.detail != MOUNT_ENDS
            elsewhere = {"other_namespace": True} if event.detail == MOUNT_ELSEWHERE else {}
            named = text_fields("file_system", event.text)
            return {"mounted": is_mounted, "recorded": is_recorded, **elsewhere, **named}
        case Kind.OUTPUT:
            return {"stream": describe.stream_name(event.detail), **text_fields("text", line.output)}
        case Kind.EXEC:
            argv = [argument.decode("utf-8", "replace") for argument in event.value.split(b"\0")]
            return {**text_fields("exe", event.text), "argv": argv}
        case Kind.EXIT:
            signal_number = event.detail & 0x7F
            return {"signal": signal_number} if signal_number else {"exit_code": event.detail >> 8}
        case Kind.HELD:
            return {"duration_ns": event.t_ns - event.enter_ns}
        case Kind.PENDING:
            return {"pending": event.detail != PENDING_ENDS}
        case Kind.GAP:
            return _loss(event)
        case Kind.LIMIT:
            dropped = {"dropped": event.length} if event.detail == LIMIT_DROPPED else {}
            return {"what": _LIMITS.get(event.detail, ""), "max_bytes": event.size, **dropped}
        case Kind.RESYNC | Kind.CHANGED:
            return _reading(event)
        case _:
            return {}


def _reading(event: Event) -> Json:
    fields: Json = {"what": _READINGS.get(event.detail, "metadata")}
    if event.text:
        fields |= text_fields("xattr", event.text)
    if event.detail == RESYNC_EXTENT:
        fields |= {"offset": event.offset, "length": event.length}
    return fields


def _loss(event: Event) -> Json:
    fields: Json = {**text_fields("channel", event.text), "lost": event.detail}
    if event.value:
        fields |= text_fields("what", event.value)
    if event.path:
        fields |= text_fields("path", event.path)
    if event.length:
        fields |= {"offset": event.offset, "length": event.length}
    return fields


def _entry(entry: Entry) -> Json:
    fields: Json = {"kind": entry.kind, "size": entry.size, "mode": f"{stat.S_IMODE(entry.meta.mode):04o}"}
    fields |= {"uid": entry.meta.uid, "gid": entry.meta.gid, "mtime_ns": entry.meta.mtime_ns}
    if entry.kind == "l":
        fields |= text_fields("target", entry.target)
    if entry.kind == "f":
        fields["content"] = entry.content.value
    return fields
