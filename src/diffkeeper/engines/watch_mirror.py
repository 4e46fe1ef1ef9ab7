"""What the last look found: names, status and digests of bytes, held against what the next look finds.

A status is kept packed: two are compared in one step, and a hundred thousand entries take some 40 MB.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Iterator

from diffkeeper.beneath import s_dev
from diffkeeper.model.observation import Base, Inode

GENERATION_UNKNOWN = -1
_STATUS = struct.Struct("<QQIIIIQqqQ")  # dev ino mode nlink uid gid size mtime ctime rdev
_U64 = (1 << 64) - 1
_COARSE_NS = 50_000_000  # a second change within one tick of the file system's clock leaves no trace in the status
_COARSER_NS = 2_100_000_000  # where times are whole seconds (FAT: every second one)


def packed(status: os.stat_result) -> bytes:
    """Return all of a status that a look compares."""
    return _STATUS.pack(
        status.st_dev & _U64, status.st_ino & _U64, status.st_mode, status.st_nlink & 0xFFFFFFFF,
        status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        getattr(status, "st_rdev", 0) & _U64,
    )  # fmt: skip


def is_fresh(status: os.stat_result) -> bool:
    """Say whether a file changed so lately that a further change need not show in its status."""
    newest_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    tick_ns = _COARSE_NS if newest_ns % 1_000_000_000 else _COARSER_NS
    return time.time_ns() - newest_ns < tick_ns


class Entry:
    """Hold what a name led to; names of one file share an Entry as far as that is known."""

    __slots__ = ("blocks", "cost_ns", "folder", "is_fresh", "looked_ns", "names", "status")

    def __init__(self, status: bytes, looked_ns: int, is_fresh: bool) -> None:
        self.status = status
        self.looked_ns = looked_ns  # CLOCK_MONOTONIC
        self.is_fresh = is_fresh  # it may have changed since without a sign
        self.blocks: bytes | None = None  # digests of a regular file's blocks, None: its bytes were never read here
        self.names = 0  # that lead to it in the mirror
        self.cost_ns = 0  # of the last look
        self.folder: Folder | None = None

    @property
    def key(self) -> tuple[int, int]:
        """Return (dev, ino)."""
        dev, ino = struct.unpack_from("<QQ", self.status)
        return dev, ino

    @property
    def mode(self) -> int:
        """Return type and permissions."""
        return int(struct.unpack_from("<I", self.status, 16)[0])

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return int(struct.unpack_from("<Q", self.status, 32)[0])

    @property
    def is_folder(self) -> bool:
        """Say whether it is a directory."""
        return self.folder is not None

    def is_of(self, status: os.stat_result) -> bool:
        """Say whether a status is that of the same inode, by number and type."""
        known = _STATUS.unpack(self.status)
        same = (status.st_dev & _U64, status.st_ino & _U64, stat.S_IFMT(status.st_mode))
        return (known[0], known[1], stat.S_IFMT(known[2])) == same

    def has_moved_as(self, status: os.stat_result) -> bool:
        """Say whether a status under another name may be that of the same file: inode and mtime are the same."""
        return self.is_of(status) and bool(_STATUS.unpack(self.status)[7] == status.st_mtime_ns)

    def is_untouched(self, status: os.stat_result) -> bool:
        """Say whether a status has the size and the mtime that were known: its bytes are the same then."""
        known = _STATUS.unpack(self.status)
        return (known[6], known[7]) == (status.st_size, status.st_mtime_ns) and not self.is_fresh


class Folder:
    """Hold a directory and its children; a path is made when it is asked for, so that a rename changes one place."""

    __slots__ = ("base", "children", "handle", "is_gone", "listed_ns", "name", "parent", "root")

    def __init__(self, base: Base, parent: Folder | None, name: bytes, root: Root) -> None:
        self.base = base
        self.parent = parent
        self.name = name
        self.root = root
        self.children: dict[bytes, Entry] = {}
        self.listed_ns = 0
        self.handle: object = None  # the notifier's
        self.is_gone = False

    @property
    def below(self) -> bytes:
        """Return the path below the root, empty for the root."""
        parts = []
        at: Folder | None = self
        while at is not None and at.parent is not None:
            parts.append(at.name)
            at = at.parent
        return b"/".join(reversed(parts))

    @property
    def path(self) -> bytes:
        """Return the path on disk."""
        below = self.below
        return os.path.join(self.root.path, below) if below else self.root.path

    def under(self) -> Iterator[tuple[Folder, bytes, Entry]]:
        """Yield all that lies below, what is in a directory before the directory."""
        stack: list[tuple[Folder, Iterator[tuple[bytes, Entry]]]] = [(self, iter(list(self.children.items())))]
        while stack:
            folder, items = stack[-1]
            for name, entry in items:
                if entry.folder is not None and entry.folder.children:
                    stack.append((entry.folder, iter(list(entry.folder.children.items()))))
                    break
                yield folder, name, entry
            else:
                stack.pop()
                if stack:
                    parent = stack[-1][0]
                    yield parent, folder.name, parent.children[folder.name]


class Root:
    """Hold a watch root: its path, what its paths begin with in the trace, and its device."""

    __slots__ = ("device", "entry", "label", "path", "takes_device")

    def __init__(self, path: bytes, label: bytes, status: os.stat_result, *, takes_device: bool) -> None:
        """``takes_device``: all below it counts as on the root's device, whatever a status says (overlayfs)."""
        self.path = path
        self.label = label
        self.device = s_dev(status.st_dev)
        self.takes_device = takes_device
        self.entry = Entry(packed(status), time.monotonic_ns(), is_fresh(status))

    def inode(self, status: os.stat_result) -> Inode:
        """Return a status as the trace has it."""
        return Inode(
            self.device if self.takes_device else s_dev(status.st_dev), status.st_ino & _U64, GENERATION_UNKNOWN,
            status.st_mode, status.st_nlink & 0xFFFFFFFF, status.st_uid, status.st_gid, status.st_size,
            status.st_mtime_ns, s_dev(getattr(status, "st_rdev", 0)) & 0xFFFFFFFF,
        )  # fmt: skip

    def base(self, status: os.stat_result) -> Base:
        """Return what tells a directory from others."""
        return Base(
            self.device if self.takes_device else s_dev(status.st_dev), status.st_ino & _U64, GENERATION_UNKNOWN
        )
