"""Bring the last state in line with the disk: each difference becomes RESYNC events, as if read back at the end."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import Any, Protocol

from diffkeeper.baseline_index import s_dev
from diffkeeper.model.blobs import BlobSink
from diffkeeper.model.event import (
    RESYNC_CONFIRMED,
    RESYNC_CONTENT,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Data,
    Event,
    Mark,
    Meta,
)
from diffkeeper.model.node import Node
from diffkeeper.model.tree import Tree
from diffkeeper.verification import content


class Amendable(Protocol):
    """Hold a recording that was processed; processing/last_state.py's LastState is one."""

    tree: Tree
    sink: BlobSink  # where bytes go

    def resync(self, **fields: Any) -> Event:
        """Append a RESYNC event and apply it to the tree."""
        ...


class Repair:
    """Append RESYNC events."""

    def __init__(self, recording: Amendable) -> None:
        self._recording = recording

    def remove(self, node: Node, directory: Node, name: bytes, path: bytes) -> None:
        """Take away a name that the disk has not."""
        place = {"parent": directory.number, "name": name, "path": path}
        self._recording.resync(node=node.number, meta=node.meta, detail=RESYNC_REMOVED, **place)

    def link(self, node: Node, directory: Node, name: bytes, path: bytes, status: os.stat_result) -> None:
        """Let a name lead to a node that has another one."""
        place = {"parent": directory.number, "name": name, "path": path}
        self._recording.resync(node=node.number, meta=meta_of(status), size=_size(status), **place)

    def metadata(self, node: Node, path: bytes, status: os.stat_result) -> None:
        """Correct the metadata of a node."""
        self._recording.resync(node=node.number, path=path, meta=meta_of(status), size=_size(status))

    def confirm(self, node: Node, path: bytes, status: os.stat_result) -> None:
        """Say of bytes that were in doubt that they are right."""
        size = status.st_size
        self._recording.resync(node=node.number, path=path, meta=node.meta, size=size, detail=RESYNC_CONFIRMED)

    def bytes_of(self, node: Node, path: bytes, status: os.stat_result, fd: int) -> None:
        """Replace metadata and bytes of a file with those of an open one; without (-1) its bytes are unknown."""
        self._put(node.number, status, fd, node, {"path": path})

    def make(self, directory: Node, name: bytes, path: bytes, status: os.stat_result, fd: int, target: bytes) -> Node:
        """Make a node for an entry that the trace does not know, in the place of what has its name."""
        number = self._recording.tree.next_number
        place = {"path": path, "parent": directory.number, "name": name}
        if stat.S_ISREG(status.st_mode):
            self._put(number, status, fd, None, place)
        else:
            self._recording.resync(node=number, meta=meta_of(status), text=target, **place)
        return self._recording.tree.nodes[number]

    def _put(self, number: int, status: os.stat_result, fd: int, old: Node | None, place: Mapping[str, Any]) -> None:
        base = old.content.first_blob if old is not None and old.content is not None else 0
        if fd >= 0:
            data = content.read_back(fd, number, base, bool(status.st_mode & 0o111), self._recording.sink)
            marks = Mark(0) if os.fstat(fd).st_ctime_ns == status.st_ctime_ns else Mark.INEXACT
        else:
            data = (Data(0, status.st_size, 0, 0),) if status.st_size else ()
            marks = Mark.UNKNOWN_DATA if data else Mark(0)
        sizes = {"length": status.st_size, "size": status.st_size}
        self._recording.resync(
            node=number, meta=meta_of(status), detail=RESYNC_CONTENT, data=data, marks=marks, **sizes, **place
        )

    def xattrs(self, node: Node, path: bytes, live: Mapping[bytes, bytes], known: Mapping[bytes, bytes]) -> None:
        """Give a node the extended attributes of the live entry; ``known`` are the node's that can be compared."""
        fields = {"node": node.number, "path": path, "size": node.size}
        for name in sorted(known.keys() - live.keys()):
            self._recording.resync(detail=RESYNC_NO_XATTR, text=name, **fields)
        for name, value in sorted(live.items()):
            if known.get(name) != value:
                self._recording.resync(detail=RESYNC_XATTR, text=name, value=value, **fields)


def meta_of(status: os.stat_result) -> Meta:
    """Return the metadata of a live entry as a node holds it."""
    mode, uid, gid = status.st_mode, status.st_uid, status.st_gid
    return Meta(mode, uid, gid, status.st_mtime_ns, status.st_nlink, s_dev(status.st_rdev))


def _size(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
