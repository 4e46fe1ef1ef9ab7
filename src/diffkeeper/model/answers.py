"""What an open trace answers with: the values that commands print, export builds from and the public API returns.

Paths are bytes below the watch root; with several roots each begins with the root's label. Times are nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Protocol

from diffkeeper.model.event import Meta
from diffkeeper.model.values import dataclass


class Exactness(StrEnum):
    """Say how far the bytes of a version may be trusted."""

    EXACT = "exact"
    INEXACT = "inexact"  # read later than they were written; the reason says when
    UNKNOWN = "unknown"  # part of the bytes is not in the trace


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold one name in the tree at an instant.

    ``kind`` is one of ``f`` file, ``d`` directory, ``l`` symlink, ``p`` fifo, ``s`` socket, ``c`` and ``b`` devices.
    Entries with equal ``links`` are names of one and the same file.
    """

    path: bytes
    kind: str
    meta: Meta
    size: int
    target: bytes  # of a symlink
    xattrs: Mapping[bytes, bytes]
    links: int
    content: Exactness = Exactness.EXACT
    reason: str = ""  # why the content is not exact


class TreeSource(Protocol):
    """Give the tree at an instant; what export and reporters need of it."""

    def entries(self, paths: Sequence[str] = ()) -> Iterator[Entry]:
        """Yield entries, parents before children, in byte order of their paths."""

    def chunks(self, entry: Entry, *, allow_unknown: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a file, ascending, no holes; unknown bytes raise or, if allowed, are left out."""

    def read(self, path: str | bytes, *, allow_unknown: bool = False) -> bytes:
        """Return the bytes of a file; unknown bytes raise or, if allowed, are zeros."""

    def stat(self, path: str | bytes) -> Entry:
        """Return the entry of that name; raises NoSuchEntryError."""


@dataclass(frozen=True, slots=True)
class Change:
    """Hold one difference between two instants.

    ``letter``: A added, M content modified, D deleted, R renamed (``path`` to ``path2``), T type changed, U
    metadata only.
    """

    letter: str
    path: bytes
    path2: bytes = b""
    before: Entry | None = None
    after: Entry | None = None


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """Hold what is known of a trace as a whole.

    ``is_complete`` is true only if nothing was lost, nothing is unresolved, inexact or unknown, and nothing is damaged;
    else ``defects`` says what, in words.
    """

    path: str
    trace_id: int
    state: str  # sealed, broken
    version: str  # of the diffkeeper that recorded it
    argv: tuple[str, ...]
    cwd: str
    user: str
    hostname: str
    kernel: str
    roots: tuple[tuple[str, str], ...]  # label, path
    engine: str
    baseline: str
    excludes: tuple[str, ...]
    start_realtime_ns: int
    duration_ns: int | None
    exit_code: int | None
    wait_status: int | None
    timed_out: bool
    events: int
    files: int
    processes: int
    bytes_written: int
    journal_bytes: int
    store_bytes: int
    kinds: Mapping[str, int]  # events of each kind, lower case
    counters: Mapping[str, int]  # lost_*, late, unresolved, inexact, unknown, …
    is_complete: bool
    defects: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    engine_exceptions: tuple[str, ...] = field(default=())
    verification: str = ""  # done, off, interrupted, failed: …, not yet; empty: recorded before there was one
    mounts_left_out: tuple[str, ...] = ()  # paths below the roots where something else was mounted when it began
    first_number: int = 0  # the first event after which the tree is known; what was before was dropped
    first_ns: int = 0  # when that was
    max_bytes: int = 0  # that the trace was to have at most; 0: any
    full_ns: int | None = None  # when it had them, and nothing was recorded any more
    differing: tuple[str, ...] = ()  # the first paths that were not as replay said, and were read back
