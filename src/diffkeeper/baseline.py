"""Take the state of the watch roots before the command: every entry, and the content of the regular files.

Entries that a rule excludes are indexed as well, without content: what happens to them must be placed, though it is not
shown (docs/decisions/0006).

The engine is attached by then, so what changes while this runs is recorded as well and replay settles it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

from diffkeeper.baseline_content import ChunkSink, Content, EncodeChunk, open_as_seen, read_content
from diffkeeper.baseline_format import KIND_ENTRIES, BaselineEntry, ContentState, encode_entry
from diffkeeper.baseline_index import Directory, Found, Unread, Walk, WalkReport, inode_of
from diffkeeper.baseline_native import LargeFile, NativeTree, Packer, is_possible
from diffkeeper.model.values import dataclass
from diffkeeper.rules import Rules

if TYPE_CHECKING:
    from concurrent.futures import Future

_BATCH_BYTES = 1 << 20
_MOST_WORKERS = 4
_GROUP_FILES = 64
_GROUP_BYTES = 8 << 20
_WAITING_GROUPS = 16
_NOT_READ = Content(ContentState.NOT_KEPT)
_PROMISED = Content(ContentState.PROMISED)

_ANY_BYTES = 1 << 62
SMALL_BYTES = 64 << 10  # what is not larger is copied before the command, the rest when it is about to change

Cover = Callable[["Sequence[LargeFile]"], "list[bool]"]  # hold leases on open files; which are leased?
Progress = Callable[[int, int], None]  # (entries, bytes of content) so far


class Selection:
    """Say of which files the content is kept, and when it is copied."""

    def __init__(self, small_bytes: int, budget_bytes: int, cover: Cover | None = None) -> None:
        """Copy small files at once, larger ones only where ``cover`` cannot, and no more than the budget in all."""
        self.small_bytes = small_bytes
        self.cover = cover
        self.left_bytes = budget_bytes
        self._lock = threading.Lock()

    @property
    def is_everything(self) -> bool:
        """Say whether all files are taken."""
        return self.small_bytes >= _ANY_BYTES

    @classmethod
    def everything(cls) -> Selection:
        """Return the selection of all files."""
        return cls(_ANY_BYTES, _ANY_BYTES)

    def takes(self, size: int) -> bool:
        """Say whether a file of that size may be copied now; counts it if so. May be called from several threads."""
        with self._lock:
            if size > self.left_bytes:
                return False
            self.left_bytes -= size
            return True


class BatchWriter(Protocol):
    """Take batches for the journal, as ``store.journal.JournalWriter`` does."""

    def append(self, kind: int, payload: bytes) -> object:
        """Append one batch."""


@dataclass(frozen=True, slots=True)
class BaselineRoot:
    """Name a watch root; the label is what its paths begin with in the trace, empty when it is the only one."""

    path: bytes
    label: bytes = b""


@dataclass(slots=True)
class BaselineReport:
    """Say what the baseline holds and what it had to leave out; times are CLOCK_MONOTONIC."""

    started_ns: int
    ended_ns: int = 0
    entries: int = 0
    files: int = 0
    kept: int = 0  # files with all their bytes, empty ones too
    content_bytes: int = 0  # holes and duplicates counted
    chunks: int = 0  # distinct
    stored_bytes: int = 0
    unread: list[Unread] = field(default_factory=list)
    mounts_left_out: list[bytes] = field(default_factory=list)


def take_baseline(
    roots: Sequence[BaselineRoot],
    writer: BatchWriter,
    *,
    encode: EncodeChunk | None,
    rules: Rules,
    selection: Selection | None = None,
    skip: Iterable[tuple[int, int]] = (),
    progress: Progress = lambda entries, content_bytes: None,
) -> BaselineReport:
    """Write the baseline of the roots to the journal and return what it holds.

    ``encode`` turns a chunk into its stored value; None leaves content out (``--baseline index``), else
    ``selection`` says of which regular files it is kept, by default all. ``skip`` are (s_dev, inode) of what must not
    be looked at, the trace's own directory. Raises RecordError when a root cannot be
    read; anything below a root that cannot be read is listed in the report.
    """
    report = BaselineReport(time.monotonic_ns())
    walked = WalkReport(report.unread, report.mounts_left_out)
    skip = list(skip)
    walks = [Walk(root.path, root.label, rules, frozenset(skip), walked) for root in roots]
    scribe = _Scribe(writer, report, progress, ChunkSink(writer.append, encode) if encode else None)
    _take(walks, scribe, selection or Selection.everything(), skip)
    report.ended_ns = time.monotonic_ns()
    return report


def _take(walks: list[Walk], scribe: _Scribe, selection: Selection, skip: Sequence[tuple[int, int]]) -> None:
    """Write the entries of the roots, then what is below them."""
    firsts = [walk.root_entry() for walk in walks]
    for first in firsts:
        scribe.write(first, _NOT_READ)
    if (scribe.sink is None or not selection.is_everything) and is_possible(walks, skip):
        _take_natively(walks, firsts, scribe, selection, skip)
        return
    directories = (found for walk, first in zip(walks, firsts, strict=True) for found in walk.directories(first))
    if scribe.sink is None:
        for directory in directories:
            scribe.write_all(directory.entries, [_NOT_READ] * len(directory.entries))
            directory.close()
    else:
        _Readers(scribe, scribe.sink, selection).read(directories)
    scribe.flush()


def _take_natively(
    walks: list[Walk], firsts: list[Found], scribe: _Scribe, selection: Selection, skip: Sequence[tuple[int, int]]
) -> None:
    sink = scribe.sink
    packer = Packer(sink.append, sink.encode) if sink is not None else None
    tree = NativeTree(scribe, scribe.report, selection, packer, skip)
    try:
        for walk, first in zip(walks, firsts, strict=True):
            tree.take(walk, first)
            walk.close()
        if packer is not None:
            packer.finish()
        scribe.flush()
    finally:
        tree.close()
        if packer is not None:
            packer.close()


class _Scribe:
    """Write entries, in the order in which they were found."""

    def __init__(self, writer: BatchWriter, report: BaselineReport, progress: Progress, sink: ChunkSink | None) -> None:
        """Start without entries."""
        self.sink = sink
        self._writer = writer
        self.report = report
        self._progress = progress
        self._records: list[bytes] = []
        self._record_bytes = 0

    def write_all(self, entries: Sequence[Found], contents: Sequence[Content]) -> None:
        """Write some entries and tell the progress."""
        for found, content in zip(entries, contents, strict=True):
            self.write(found, content)
        self._progress(self.report.entries, self.report.content_bytes)

    def write(self, found: Found, content: Content) -> None:
        """Write one entry."""
        if content is _NOT_READ and not found.is_excluded and stat.S_ISREG(found.status.st_mode):
            content = _PROMISED
        self._count(found, content)
        record = encode_entry(_entry(found, content))
        self._records.append(record)
        self._record_bytes += len(record)
        if self._record_bytes >= _BATCH_BYTES:
            self.flush()

    def write_records(self, records: bytes) -> None:
        """Write entries that are records already, and tell the progress."""
        self._records.append(records)
        self._record_bytes += len(records)
        if self._record_bytes >= _BATCH_BYTES:
            self.flush()
        self._progress(self.report.entries, self.report.content_bytes)

    def flush(self) -> None:
        """Write what is waiting, content before the entries that name it."""
        if self.sink is not None:
            self.sink.flush()
            self.report.chunks, self.report.stored_bytes = self.sink.chunks, self.sink.stored_bytes
        if self._records:
            self._writer.append(KIND_ENTRIES, b"".join(self._records))
        self._records, self._record_bytes = [], 0

    def _count(self, found: Found, content: Content) -> None:
        """Add an entry to the report, if it will be shown."""
        if found.is_excluded:
            return
        self.report.entries += 1
        self.report.files += stat.S_ISREG(found.status.st_mode)
        is_kept = content.state in (ContentState.KEPT, ContentState.CHANGED) or not found.status.st_size
        self.report.kept += stat.S_ISREG(found.status.st_mode) and is_kept
        self.report.content_bytes += sum(length for _, length in content.chunks)
        if content.reason:
            self.report.unread.append(Unread(found.path, content.reason))


def _entry(found: Found, content: Content) -> BaselineEntry:
    """Return the entry to write: metadata as of the reading of the content, where there was one."""
    inode = inode_of(content.status or found.status, found.generation, found.device)
    if content.state == ContentState.CHANGED:  # the size must be that of the bytes kept; events settle the rest
        inode = replace(inode, size=sum(length for _, length in content.chunks))
    return BaselineEntry(
        found.index, found.parent, found.name, inode, found.target, found.xattrs, content.state, content.chunks,
        found.seen_ns,
    )  # fmt: skip


@dataclass(slots=True)
class _Group:
    """Hold some files of one directory that one task reads; the last group of a directory closes it."""

    directory: Directory
    entries: list[Found]
    is_last: bool


class _Readers:
    """Read content in several threads and hand it to the scribe in the order of the walk.

    Memory is bounded: at most ``_WAITING_GROUPS`` groups are on their way, and each thread holds one chunk.
    """

    def __init__(self, scribe: _Scribe, sink: ChunkSink, selection: Selection) -> None:
        """Start without work."""
        self._selection = selection
        self._large: set[tuple[int, int]] = set()  # files with several names that were met
        self._scribe = scribe
        self._sink = sink
        self._linked: dict[tuple[int, int], Content] = {}  # content of files with several names, by device and inode
        self._waiting: deque[tuple[_Group, Future[list[Content]]]] = deque()

    def read(self, directories: Iterator[Directory]) -> None:
        """Read everything; a tree of one group is not worth the start of a thread."""
        groups = (group for directory in directories for group in self._groups(directory))
        first = list(islice(groups, 2))
        if len(first) == 2:
            self._read_in_threads(chain(first, groups))
        else:
            for group in first:
                self._write(group, self._read_group(group))

    def _read_in_threads(self, groups: Iterable[_Group]) -> None:
        from concurrent.futures import ThreadPoolExecutor  # 5 ms, with all that it imports

        workers = min(_MOST_WORKERS, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers, "baseline") as pool:
            try:
                for group in groups:
                    self._waiting.append((group, pool.submit(self._read_group, group)))
                    if len(self._waiting) > _WAITING_GROUPS:
                        self._finish_one()
                while self._waiting:
                    self._finish_one()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _read_group(self, group: _Group) -> list[Content]:
        """Read the files of a group (in a thread)."""
        contents = [self._read_one(group.directory.fd, found) for found in group.entries]
        large = [place for place, found in enumerate(group.entries) if found.is_large]
        for place in self._left_uncovered(group, large) if large else ():
            found = group.entries[place]
            if self._selection.takes(found.status.st_size):
                contents[place] = read_content(group.directory.fd, found, self._sink)
        return contents

    def _left_uncovered(self, group: _Group, places: Sequence[int]) -> list[int]:
        """Have large files leased; return those that are not."""
        cover = self._selection.cover
        if cover is None:
            return list(places)
        opened = {place: fd for place in places if (fd := open_as_seen(group.directory.fd, group.entries[place])) >= 0}
        try:
            files = [_large_file(fd, group.entries[place]) for place, fd in opened.items()]
            leased = {place for place, is_leased in zip(opened, cover(files), strict=True) if is_leased}
        finally:
            for fd in opened.values():
                os.close(fd)
        return [place for place in places if place not in leased]

    def _read_one(self, directory_fd: int, found: Found) -> Content:
        """Read one entry, once for all names of a file (two threads may both do it: harmless)."""
        if not found.is_kept:
            return _NOT_READ
        if found.status.st_nlink == 1:
            return read_content(directory_fd, found, self._sink)
        key = found.status.st_dev, found.status.st_ino
        content = self._linked.get(key) or read_content(directory_fd, found, self._sink)
        if content.state == ContentState.KEPT:
            self._linked[key] = content
        return content

    def _groups(self, directory: Directory) -> Iterator[_Group]:
        """Cut the entries of a directory into tasks that are worth a thread's while."""
        group: list[Found] = []
        group_bytes = 0
        for found in directory.entries:
            if len(group) >= _GROUP_FILES or group_bytes >= _GROUP_BYTES:
                yield _Group(directory, group, is_last=False)
                group, group_bytes = [], 0
            group.append(found)
            if not found.is_excluded and stat.S_ISREG(found.status.st_mode):
                self._select(found)
                group_bytes += found.status.st_size if found.is_kept else 0
        yield _Group(directory, group, is_last=True)

    def _select(self, found: Found) -> None:
        """Decide, in the order of the walk, whether a file is read at once or is to be covered."""
        size = found.status.st_size
        found.is_kept = size <= self._selection.small_bytes and self._selection.takes(size)
        found.is_large = not found.is_kept and self._is_first(found)

    def _is_first(self, found: Found) -> bool:
        """Say whether a file was not yet met under another name: its bytes are promised to the first."""
        if found.status.st_nlink == 1:
            return True
        key = found.status.st_dev, found.status.st_ino
        is_first = key not in self._large
        self._large.add(key)
        return is_first

    def _finish_one(self) -> None:
        """Wait for the oldest group and write its entries."""
        group, future = self._waiting.popleft()
        self._write(group, future.result())

    def _write(self, group: _Group, contents: Sequence[Content]) -> None:
        self._scribe.write_all(group.entries, contents)
        if group.is_last:
            group.directory.close()


def _large_file(fd: int, found: Found) -> LargeFile:
    status = found.status
    return LargeFile(fd, found.index, status.st_size, status.st_mtime_ns, status.st_nlink)
