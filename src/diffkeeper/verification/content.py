"""The bytes of one file: what replay says held against the file, and the file read back where they differ.

Both are streamed, a window at a time, and holes are passed over where the file system tells them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum, auto
from typing import Protocol

from diffkeeper.errors import TraceError
from diffkeeper.model.blobs import BlobSink
from diffkeeper.model.event import Data
from diffkeeper.model.extents import HOLE, UNKNOWN, ExtentMap
from diffkeeper.model.promised import is_promised
from diffkeeper.positional import read_at

WINDOW_BYTES = 1 << 20


class Match(Enum):
    """Say how the bytes of a file compare with those of the trace."""

    SAME = auto()
    DIFFERENT = auto()
    UNKNOWN = auto()  # what the trace holds is the same, but it does not hold all


class BlobSource(Protocol):
    """Give stored bytes; store/content.py's ContentReader is one."""

    def read(self, blob: int, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a blob; raises DamagedTraceError."""

    def has(self, blob: int) -> bool:
        """Say whether the bytes of a promised blob can be had."""


def match(content: ExtentMap, blobs: BlobSource, fd: int) -> Match:
    """Compare the bytes of an open file; sizes are the caller's to compare."""
    result = Match.SAME
    at = 0
    while at < content.size:
        length = min(WINDOW_BYTES, content.size - at)
        if _is_hole(content, at) and (hole := _hole_in_both(content, at, fd)) > length:
            at += hole
            continue
        found = _match_window(content, blobs, at, read_at(fd, length, at), length)
        if found == Match.DIFFERENT:
            return found
        result = result if found == Match.SAME else found
        at += length
    return result


def _is_hole(content: ExtentMap, at: int) -> bool:
    return next(content.pieces(at, 1)).blob == HOLE


def _hole_in_both(content: ExtentMap, at: int, fd: int) -> int:
    """Return how many bytes from ``at`` on are a hole in the trace and in the file."""
    in_trace = next(content.pieces(at, content.size - at)).length
    if not hasattr(os, "SEEK_DATA"):
        return 0
    try:
        data_at = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:  # ENXIO: no more data; anything else shows when it is read
        data_at = os.fstat(fd).st_size
    return min(in_trace, data_at - at)


def _match_window(content: ExtentMap, blobs: BlobSource, at: int, live: bytes, length: int) -> Match:
    if len(live) != length:
        return Match.DIFFERENT
    result = Match.SAME
    view = memoryview(live)
    for offset, count, blob, start in content.pieces(at, length):
        part = view[offset - at : offset - at + count]
        if blob == UNKNOWN or (is_promised(blob) and not blobs.has(blob)):
            result = Match.UNKNOWN
        elif part != (bytes(count) if blob == HOLE else _stored(blobs, blob, start, count)):
            return Match.DIFFERENT
    return result


def _stored(blobs: BlobSource, blob: int, start: int, length: int) -> bytes:
    try:
        return blobs.read(blob, start, length)
    except TraceError:
        return b""  # what cannot be read is not what it should be


def read_back(fd: int, node: int, base: int, is_executable: bool, sink: BlobSink) -> tuple[Data, ...]:
    """Store the bytes of an open file as a new version of a node and return where they are; holes are left out."""
    pieces: list[Data] = []
    for offset, data in _segments(fd):
        blob, start = sink.append(node, data)
        last = pieces[-1] if pieces else Data(0, 0, 0, 0)
        if (last.blob, last.offset + last.length, last.start + last.length) == (blob, offset, start):
            pieces[-1] = Data(last.offset, last.length + len(data), blob, last.start)
        else:
            pieces.append(Data(offset, len(data), blob, start))
    if pieces:
        sink.end(node, base, is_executable)
    return tuple(pieces)


def _segments(fd: int) -> Iterator[tuple[int, bytes]]:
    at = 0
    while hasattr(os, "SEEK_DATA"):
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, at, os.SEEK_HOLE)
        except OSError:  # ENXIO: no more data
            return
        while at < end:
            data = read_at(fd, min(WINDOW_BYTES, end - at), at)
            if not data:
                return
            yield at, data
            at += len(data)
    while data := read_at(fd, WINDOW_BYTES, at):
        yield at, data
        at += len(data)
