"""Read the content of regular files for the baseline, in parallel, each chunk hashed and stored once.

hashlib, zstd and read let go of the interpreter's lock for chunks of this size, so threads are enough.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import field

from diffkeeper import beneath
from diffkeeper.baseline_format import CHUNK_BYTES, HOLE, KIND_CONTENT, ContentState, encode_content
from diffkeeper.baseline_index import Found
from diffkeeper.model.values import dataclass
from diffkeeper.positional import read_at

_BATCH_BYTES = 1 << 20
_MOST_CHUNKS = 65536  # their list has to fit into one batch of the journal

AppendBatch = Callable[[int, bytes], object]  # (batch kind, payload): JournalWriter.append
EncodeChunk = Callable[[bytes], bytes]  # a chunk → its value in the format of store/content.py


@dataclass(frozen=True, slots=True)
class Content:
    """Hold what was read of one file; ``status`` is its state at that reading, None when it was not opened."""

    state: ContentState
    chunks: tuple[tuple[bytes, int], ...] = ()
    status: os.stat_result | None = None
    reason: str = ""


@dataclass(slots=True)
class ChunkSink:
    """Put chunks into content batches, each distinct chunk once; may be called from several threads."""

    append: AppendBatch
    encode: EncodeChunk
    stored_bytes: int = 0
    _known: set[bytes] = field(default_factory=set)
    _pending: list[tuple[bytes, bytes]] = field(default_factory=list)
    _pending_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def chunks(self) -> int:
        """Return how many distinct chunks there are."""
        return len(self._known)

    def put(self, data: bytes) -> bytes:
        """Store a chunk and return its sha256."""
        digest = hashlib.sha256(data).digest()
        if digest not in self._known:
            value = self.encode(data)
            with self._lock:
                self._add(digest, value)
        return digest

    def _add(self, digest: bytes, value: bytes) -> None:
        """Queue a value, unless another thread was faster with the same bytes."""
        if digest in self._known:
            return
        self._pending.append((digest, value))
        self._pending_bytes += len(value)
        self.stored_bytes += len(value)
        # Only now: an entry that names the chunk may be written as soon as it is known, and must come after it.
        self._known.add(digest)
        if self._pending_bytes >= _BATCH_BYTES:
            self._flush()

    def flush(self) -> None:
        """Write what is queued."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        """Write what is queued, under the lock."""
        if self._pending:
            self.append(KIND_CONTENT, encode_content(self._pending))
        self._pending, self._pending_bytes = [], 0


def read_content(directory_fd: int, found: Found, sink: ChunkSink) -> Content:
    """Read a regular file; a file that changes while it is read is read a second time."""
    try:
        fd = _open_file(found.name, directory_fd)
    except FileNotFoundError:
        return Content(ContentState.VANISHED)
    except OSError as error:
        return Content(ContentState.UNREADABLE, reason=f"content not read: {error.strerror}")
    try:
        return _read_open_file(fd, found, sink)
    except OSError as error:
        return Content(ContentState.UNREADABLE, reason=f"content not read: {error.strerror}")
    finally:
        os.close(fd)


def open_as_seen(directory_fd: int, found: Found) -> int:
    """Open a file if it still is the one that was seen, else return -1."""
    try:
        fd = _open_file(found.name, directory_fd)
    except OSError:
        return -1
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) == (found.status.st_dev, found.status.st_ino):
        return fd
    os.close(fd)
    return -1


def _open_file(name: bytes, directory_fd: int) -> int:
    """Open a file, without changing its access time where that is allowed (owner or root)."""
    return beneath.open_file(name, directory_fd)


def _read_open_file(fd: int, found: Found, sink: ChunkSink) -> Content:
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != (found.status.st_dev, found.status.st_ino):
        return Content(ContentState.VANISHED)
    return _read_whole(fd, status, sink)


def read_open(fd: int, sink: ChunkSink) -> Content:
    """Read an open file whole."""
    try:
        return _read_whole(fd, os.fstat(fd), sink)
    except OSError as error:
        return Content(ContentState.UNREADABLE, reason=f"content not read: {error.strerror}")


def _read_whole(fd: int, before: os.stat_result, sink: ChunkSink) -> Content:
    """Read an open file whole, again if it changed meanwhile."""
    for _ in range(2):
        if before.st_size > _MOST_CHUNKS * CHUNK_BYTES and _on_disk(before) > _MOST_CHUNKS * CHUNK_BYTES:
            return Content(ContentState.TOO_LARGE, status=before, reason="content not kept: larger than 64 GiB")
        chunks = tuple(_read_chunks(fd, before, sink))
        after = os.fstat(fd)
        is_whole = sum(length for _, length in chunks) == after.st_size
        if _signature(before) == _signature(after) and is_whole:
            return Content(ContentState.KEPT, chunks, after)
        before = after
    return Content(ContentState.CHANGED, chunks, after, "content changed while it was read")


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    """Return what differs once a file was written to.

    Up to Linux 6.12 the times have the grain of a tick (1 to 10 ms): a write within the same tick as an earlier one
    is not seen here. The engine is attached by now and records it.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_chunks(fd: int, status: os.stat_result, sink: ChunkSink) -> Iterator[tuple[bytes, int]]:
    """Yield the chunks of a file, holes that span whole chunks unread."""
    is_sparse = status.st_size > CHUNK_BYTES and _on_disk(status) < status.st_size
    offset = 0
    while True:
        hole = _hole_at(fd, offset, status.st_size) if is_sparse else 0
        if hole:
            yield HOLE, hole
        offset += hole
        data = _read_chunk(fd, offset)
        if data:
            yield sink.put(data), len(data)
        offset += len(data)
        if len(data) < CHUNK_BYTES:
            return


def _hole_at(fd: int, offset: int, size: int) -> int:
    """Return how long the hole at an offset is, in whole chunks or to the end of the file."""
    if offset >= size or not hasattr(os, "SEEK_DATA"):
        return 0
    try:
        data_at = os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:  # ENXIO: no more data; anything else shows when it is read
        data_at = size
    hole = min(data_at, size) - offset
    return hole if data_at >= size else hole // CHUNK_BYTES * CHUNK_BYTES


def _on_disk(status: os.stat_result) -> int:
    """Return how many bytes a file takes; where the system does not tell, as many as it has."""
    return status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size


def _read_chunk(fd: int, offset: int) -> bytes:
    """Read one chunk; only the end of the file makes it shorter."""
    data = read_at(fd, CHUNK_BYTES, offset)
    while data and len(data) < CHUNK_BYTES and (more := read_at(fd, CHUNK_BYTES - len(data), offset + len(data))):
        data += more
    return data
