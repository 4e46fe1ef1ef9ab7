"""Hold a replayed tree against what was found on disk: metadata, the names of a directory, and groups of hard links.

Only what a state promises is compared: not inode numbers, not link counts (links may lie outside of the roots), not the
sizes of directories.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from diffkeeper.model.node import Node


class What(StrEnum):
    """Name what of the metadata differs."""

    TYPE = "type"
    MODE = "mode"
    OWNER = "owner"
    MTIME = "mtime"
    SIZE = "size"
    DEVICE = "device"


class Status(Protocol):
    """Tell of an entry on disk what lstat says; ``os.stat_result`` is one."""

    @property
    def st_mode(self) -> int: ...  # noqa: D102
    @property
    def st_uid(self) -> int: ...  # noqa: D102
    @property
    def st_gid(self) -> int: ...  # noqa: D102
    @property
    def st_size(self) -> int: ...  # noqa: D102
    @property
    def st_mtime_ns(self) -> int: ...  # noqa: D102
    @property
    def st_nlink(self) -> int: ...  # noqa: D102
    @property
    def st_dev(self) -> int: ...  # noqa: D102
    @property
    def st_ino(self) -> int: ...  # noqa: D102


def differences(node: Node, status: Status, rdev: int | None = None) -> tuple[What, ...]:
    """Return what of an entry's metadata differs; ``rdev`` is the device number of a device node, as Meta has it."""
    meta, content = node.meta, node.content
    if (
        meta.mtime_ns == status.st_mtime_ns
        and meta.mode == status.st_mode
        and meta.uid == status.st_uid
        and meta.gid == status.st_gid
        and (content is None or content.size == status.st_size)
        and (rdev is None or rdev == meta.rdev)
    ):
        return ()
    if stat.S_IFMT(meta.mode) != stat.S_IFMT(status.st_mode):
        return (What.TYPE,)
    found = {
        What.MODE: meta.mode != status.st_mode,
        What.OWNER: (meta.uid, meta.gid) != (status.st_uid, status.st_gid),
        What.MTIME: meta.mtime_ns != status.st_mtime_ns,
        What.SIZE: content is not None and content.size != status.st_size,
        What.DEVICE: rdev is not None and rdev != meta.rdev,
    }
    return tuple(what for what, differs in found.items() if differs)


def missing(directory: Node, listing: Mapping[bytes, object], is_left_out: Callable[[bytes], bool]) -> list[bytes]:
    """Return the names of a directory of the tree that the disk has not, but for those that nobody looked at."""
    children = directory.children or {}
    if len(listing) == len(children) and listing.keys() == children.keys():
        return []
    return [name for name in sorted(children.keys() - listing.keys()) if not is_left_out(name)]


class LinkGroups:
    """Check that names lead to one node of the tree exactly where they lead to one inode on disk."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], int] = {}
        self._inodes: dict[int, tuple[int, int]] = {}

    def node_of(self, status: Status) -> int:
        """Return the node that an inode was found to be, 0 if it was not met yet."""
        return self._nodes.get((status.st_dev, status.st_ino), 0)

    def fits(self, node: Node, status: Status) -> bool:
        """Note that one name leads to both; return False if that contradicts what was noted before."""
        if status.st_nlink == 1 and len(node.names) == 1:
            return True
        inode = (status.st_dev, status.st_ino)
        if self._nodes.get(inode, node.number) != node.number or self._inodes.get(node.number, inode) != inode:
            return False
        self._nodes[inode] = node.number
        self._inodes[node.number] = inode
        return True
