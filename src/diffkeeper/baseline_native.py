"""Take the baseline with the native library: some hundred thousand entries in a second, small files packed on the way.

Where rules exclude something, something is mounted below a root, or there is no library, ``baseline.py`` does it entry
by entry; what both write is read in the same way.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from diffkeeper import beneath, native
from diffkeeper.baseline_content import Content, EncodeChunk, read_open
from diffkeeper.baseline_format import (
    CHUNK_BYTES,
    HOLE,
    KIND_PACK,
    KIND_SUPPLY,
    PACK_BYTES,
    ContentState,
    encode_pack,
    encode_supply,
)
from diffkeeper.baseline_index import Found, Unread, Walk, open_known
from diffkeeper.model.values import dataclass

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from diffkeeper.baseline_content import ChunkSink

_MOST_WAITING = 64  # packs, 16 MiB
_WHAT = ("metadata not read", "content not read", "extended attributes not read")


@dataclass(frozen=True, slots=True)
class LargeFile:
    """Hold an open file that is not copied unless it is about to change, and what it was when it was indexed."""

    fd: int
    index: int
    size: int
    mtime_ns: int
    nlink: int


class Keeping(Protocol):
    """Say of which files the content is kept; baseline.py's Selection is one."""

    small_bytes: int
    left_bytes: int
    cover: Callable[[Sequence[LargeFile]], list[bool]] | None

    def takes(self, size: int) -> bool:
        """Say whether a file of that size may be copied now; counts it if so."""


class Report(Protocol):
    """Collect what is counted; baseline.py's BaselineReport is one."""

    entries: int
    files: int
    kept: int
    content_bytes: int
    stored_bytes: int
    unread: list[Unread]
    mounts_left_out: list[bytes]


class Scribe(Protocol):
    """Take records of entries; baseline.py's _Scribe is one."""

    sink: ChunkSink | None

    def write_records(self, records: bytes) -> None:
        """Write records of entries."""

    def flush(self) -> None:
        """Put all that was written into the journal."""


class NativeTree:
    """Take what is below one root after the other."""

    def __init__(
        self, scribe: Scribe, report: Report, keeping: Keeping, packer: Packer | None, skip: Sequence[tuple[int, int]]
    ) -> None:
        """Keep no content without a ``packer``."""
        self._scribe = scribe
        self._report = report
        self._keeping = keeping
        self._packer = packer
        self._walker = native.Walker()
        self._linked: set[tuple[int, int]] = set()
        request = self._walker.request
        request.small_bytes = keeping.small_bytes if packer is not None else 0
        request.open_large = packer is not None
        request.skip_count = len(skip)
        for place, pair in enumerate(skip):
            request.skip[place][:] = pair

    def close(self) -> None:
        """Free what the walk needed."""
        self._walker.close()

    def take(self, walk: Walk, first: Found) -> None:
        """Take all that is below a root."""
        waiting = [(first.index, b"", first.status.st_ino)]
        while waiting:
            index, below, inode = waiting.pop()
            try:
                fd = open_known(walk.fd, below, (first.status.st_dev, inode))
            except OSError as error:
                self._note(walk.path_of(below), f"directory not read: {error.strerror}")
                continue
            try:
                waiting += self._directory(walk, fd, index, below)
            except OSError as error:
                self._note(walk.path_of(below), f"directory not read: {error.strerror}")
            finally:
                os.close(fd)

    def _directory(self, walk: Walk, fd: int, index: int, below: bytes) -> list[tuple[int, bytes, int]]:
        walker, request, found = self._walker, self._walker.request, list[tuple[int, bytes, int]]()
        request.parent = index
        walker.begin(fd)
        prefix = below + b"/" if below else b""
        while True:
            request.first_index = walk.report.entries
            request.budget_bytes = self._keeping.left_bytes if self._packer is not None else 0
            request.content_base = self._packer.position if self._packer is not None else 0
            result = walker.some()
            walk.report.entries += result.entries
            self._take_result(result)
            for place in range(result.directory_count):
                one = result.directories[place]
                found.append((one.index, prefix + walker.name(one.name_at, one.name_length), one.ino))
            for place in range(result.issue_count):
                self._take_issue(walk, result.issues[place], prefix)
            if result.large_count:
                self._take_large([result.larges[place] for place in range(result.large_count)], walk.device)
            if result.is_done:
                return found

    def _take_result(self, result: native.WalkResult) -> None:
        report = self._report
        report.entries += result.entries
        report.files += result.files
        report.kept += result.kept
        if self._packer is not None and result.content_bytes:
            content = result.content()
            report.content_bytes += len(content)
            self._keeping.takes(len(content))
            self._packer.add(content)
        self._scribe.write_records(result.records())

    def _take_issue(self, walk: Walk, issue: native.WalkIssue, prefix: bytes) -> None:
        path = walk.path_of(prefix + self._walker.name(issue.name_at, issue.name_length))
        if issue.what >= len(_WHAT):
            self._report.mounts_left_out.append(path)
        elif issue.what == 1 and not issue.error:
            self._note(path, "content changed while it was read")
        else:
            self._note(path, f"{_WHAT[issue.what]}: {os.strerror(issue.error)}")

    def _note(self, path: bytes, reason: str) -> None:
        self._report.unread.append(Unread(path, reason))

    def _take_large(self, files: Sequence[native.WalkedFile], device: int) -> None:
        """Have open files leased, or copy them now."""
        try:
            firsts = [file for file in files if file.nlink == 1 or self._is_first(device, file.ino)]
            large = [LargeFile(file.fd, file.index, file.size, file.mtime_ns, file.nlink) for file in firsts]
            cover = self._keeping.cover
            leased = cover(large) if cover is not None and large else [False] * len(large)
            for file, is_leased in zip(large, leased, strict=True):
                if not is_leased and self._keeping.takes(file.size):
                    self._supply(file)
        finally:
            for one in files:
                if one.fd >= 0:
                    os.close(one.fd)

    def _is_first(self, device: int, inode: int) -> bool:
        """Say whether a file was not yet met under another name: its bytes are promised to the first."""
        is_first = (device, inode) not in self._linked
        self._linked.add((device, inode))
        return is_first

    def _supply(self, file: LargeFile) -> None:
        sink = self._scribe.sink
        content = read_open(file.fd, sink) if sink is not None else Content(ContentState.UNREADABLE)
        if sink is None or content.state not in (ContentState.KEPT, ContentState.CHANGED):
            return
        zeros = sink.put(bytes(CHUNK_BYTES)) if HOLE in dict(content.chunks) else b""
        chunks = [part for digest, length in content.chunks for part in _without_hole(digest, length, zeros, sink)]
        self._scribe.flush()  # the entry comes before what supplies it, as its chunks do
        sink.append(KIND_SUPPLY, encode_supply(file.index, content.state, chunks))
        self._report.kept += 1
        self._report.content_bytes += file.size


def _without_hole(digest: bytes, length: int, zeros: bytes, sink: ChunkSink) -> list[tuple[bytes, int]]:
    """Return chunks that stand for one, a hole as zeros: a promised blob is as long as its file."""
    if digest != HOLE:
        return [(digest, length)]
    whole, rest = divmod(length, CHUNK_BYTES)
    return [(zeros, CHUNK_BYTES)] * whole + ([(sink.put(bytes(rest)), rest)] if rest else [])


class Packer:
    """Cut the stream of small files into packs and write them, encoded in threads."""

    def __init__(self, append: Callable[[int, bytes], object], encode: EncodeChunk) -> None:
        """Start with an empty stream."""
        self.position = 0
        self.stored_bytes = 0
        self.packs = 0
        self._append = append
        self._encode = encode
        self._part = bytearray()
        self._waiting: deque[Future[bytes]] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def add(self, content: bytes) -> None:
        """Put more bytes at the end of the stream."""
        self.position += len(content)
        self._part += content
        while len(self._part) >= PACK_BYTES:
            self._submit(bytes(self._part[:PACK_BYTES]))
            del self._part[:PACK_BYTES]

    def finish(self) -> None:
        """Write what is left."""
        if self._part:
            self._write(self._payload(self.packs, bytes(self._part)))
        while self._waiting:
            self._write(self._waiting.popleft().result())

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _submit(self, data: bytes) -> None:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # 5 ms, with all that it imports

            self._pool = ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1)), "packs")
        self._waiting.append(self._pool.submit(self._payload, self.packs, data))
        self.packs += 1
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > _MOST_WAITING):
            self._write(self._waiting.popleft().result())

    def _payload(self, number: int, data: bytes) -> bytes:
        return encode_pack(number, len(data), hashlib.sha256(data).digest(), self._encode(data))

    def _write(self, payload: bytes) -> None:
        self.stored_bytes += len(payload)
        self._append(KIND_PACK, payload)


def is_possible(walks: Sequence[Walk], skip: Sequence[tuple[int, int]]) -> bool:
    """Say whether the native walk can do it: nothing is excluded and nothing mounted below the roots."""
    return (
        beneath.HAS_DESCRIPTORS
        and native.can_walk()
        and len(skip) <= 8
        and not any(walk.is_selective for walk in walks)
    )
