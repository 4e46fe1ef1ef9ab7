"""Changes that no recorded call explains: put what they changed in doubt, and take in what was read again.

What was read again is true at the end of its reading, so events of it stand there; between the change and that instant
the old state is shown, and marked.
"""

from __future__ import annotations

import stat

from diffkeeper.model.event import (
    RESYNC_CONTENT,
    RESYNC_EXTENT,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Data,
    Kind,
    Mark,
)
from diffkeeper.model.extents import UNKNOWN
from diffkeeper.model.imports import Importer
from diffkeeper.model.late import Late
from diffkeeper.model.ledger import Ledger, meta_of
from diffkeeper.model.node import Node
from diffkeeper.model.observation import AttributeChanged, Base, EntryRead, Flag, HoleFound, HoleReread


class Holes:
    """Emit RESYNC events in mid-recording, marked HOLE."""

    def __init__(self, ledger: Ledger, importer: Importer) -> None:
        self._ledger = ledger
        self._importer = importer

    def found(self, seen: HoleFound) -> None:
        """Put a file in doubt from here on; one that the tree does not know comes into it when it has been read."""
        ledger = self._ledger
        node = ledger.find(seen.inode)
        if node is None and (seen.flags & Flag.UNCERTAIN or not seen.inode.nlink):
            return
        if not ledger.is_folding:
            ledger.counters["unexplained"] += seen.count
        if node is not None:
            ledger.emit(seen, Kind.RESYNC, marks=Mark.HOLE, node=node.number, path=ledger.path(node), size=node.size)

    def reread(self, seen: HoleReread, late: tuple[Late, ...], is_exact: bool) -> None:
        """Take in what was read again."""
        node = self._ledger.find(seen.inode)
        marks = Mark.HOLE if is_exact and not seen.flags & Flag.HOLE else Mark.HOLE | Mark.INEXACT
        if node is None:
            self._appeared(seen, late, marks)
        elif seen.result < 0:
            self._unread(seen, node)
        elif node.is_directory:
            self._list(seen, node, late, is_exact)
        else:
            self._read(seen, node, late, marks)

    def attribute(self, seen: AttributeChanged) -> None:
        """Take in an extended attribute as it was read again."""
        node = self._ledger.find(seen.inode)
        if node is None or node.xattrs.get(seen.xattr_name) == seen.xattr_value:
            return
        self._xattr(seen, node, RESYNC_XATTR, seen.xattr_name, seen.xattr_value)

    def _xattr(
        self, seen: AttributeChanged | HoleReread, node: Node, detail: int, name: bytes, value: bytes = b""
    ) -> None:
        fields = {"node": node.number, "path": self._ledger.path(node), "size": node.size, "text": name, "value": value}
        self._ledger.emit(seen, Kind.RESYNC, marks=Mark.HOLE, detail=detail, **fields)

    def _unread(self, seen: HoleReread, node: Node) -> None:
        """Leave a file in doubt: it could not be read."""
        if not self._ledger.is_folding:
            self._ledger.counters["unexplained_unread"] += 1
        path, meta = self._ledger.path(node), meta_of(seen.inode, node.meta)
        self._ledger.emit(seen, Kind.RESYNC, marks=Mark.HOLE, node=node.number, path=path, meta=meta, size=node.size)

    def _read(self, seen: HoleReread, node: Node, late: tuple[Late, ...], marks: Mark) -> None:
        for name in node.xattrs.keys() - (node.xattrs.keys() if seen.xattr_names is None else seen.xattr_names):
            self._xattr(seen, node, RESYNC_NO_XATTR, name)
        path, meta, size = self._ledger.path(node), meta_of(seen.inode, node.meta), seen.inode.size
        data: tuple[Data, ...] = ()
        is_whole = False
        if node.content is not None and not _is_as_known(seen, node):
            data, marks = self._bytes(seen, node.number, late, marks)
            is_whole = seen.offset == 0 and seen.length >= size
        self._ledger.emit(
            seen,
            Kind.RESYNC,
            marks=marks,
            node=node.number,
            path=path,
            meta=meta,
            data=data,
            offset=seen.offset,
            length=sum(piece.length for piece in data),
            size=size if node.content is not None else 0,
            detail=RESYNC_CONTENT if is_whole else RESYNC_EXTENT,
        )

    def _bytes(
        self, seen: HoleReread, number: int, late: tuple[Late, ...], marks: Mark
    ) -> tuple[tuple[Data, ...], Mark]:
        """Return the bytes of the extent that was read, without gaps; what was not read is unknown."""
        at, end = seen.offset, min(seen.offset + seen.length, seen.inode.size)
        pieces: list[Data] = []
        for piece in self._importer.data_of(number, seen.inode, late):
            if piece.offset > at:
                pieces.append(Data(at, piece.offset - at, UNKNOWN, 0))
            pieces.append(piece)
            at = piece.offset + piece.length
        if at < end:
            pieces.append(Data(at, end - at, UNKNOWN, 0))
        has_gap = any(piece.blob == UNKNOWN for piece in pieces)
        return tuple(pieces), marks | Mark.UNKNOWN_DATA if has_gap else marks

    def _appeared(self, seen: HoleReread, late: tuple[Late, ...], marks: Mark) -> None:
        """Make a node of a file that came without a call: a core dump."""
        ledger, parent = self._ledger, self._directory(seen.parent)
        if parent is None or not seen.name or not seen.inode.nlink or seen.flags & Flag.UNCERTAIN:
            return
        number, inode = ledger.tree.next_number, seen.inode
        place = {"parent": parent.number, "name": seen.name, "path": ledger.path_in(parent, seen.name)}
        data: tuple[Data, ...] = ()
        if stat.S_ISREG(inode.mode) and inode.size:
            data, marks = self._bytes(seen, number, late, marks)
            data = _with_unknown_ends(data, inode.size)
            marks |= Mark.UNKNOWN_DATA if any(piece.blob == UNKNOWN for piece in data) else Mark(0)
        sizes = {"length": sum(piece.length for piece in data), "size": inode.size}
        detail = RESYNC_CONTENT if stat.S_ISREG(inode.mode) else 0
        if not detail:
            marks = Mark(0)
        ledger.emit(
            seen, Kind.RESYNC, marks=marks, node=number, meta=meta_of(inode), data=data, detail=detail, **sizes, **place
        )
        ledger.born(number, inode.identity)

    def _directory(self, base: Base) -> Node | None:
        node = self._ledger.tree.by_identity(base.dev, base.ino, base.generation)
        return node if node is not None and node.is_directory else None

    def _list(self, seen: HoleReread, directory: Node, late: tuple[Late, ...], is_exact: bool) -> None:
        """Let a directory have the entries that were listed: first what it gains, then what it loses."""
        ledger, tree = self._ledger, self._ledger.tree
        readings = [reading for reading in late if isinstance(reading, EntryRead)]
        entries = {one.name: one for one in readings if _is_same(one.parent, directory)}
        for entry in entries.values():
            self._entered(seen, directory, entry, late, is_exact)
        for name in sorted((directory.children or {}).keys() - entries.keys()):
            node, path = tree.child(directory, name), ledger.path_in(directory, name)
            if node is not None:
                place = {"node": node.number, "parent": directory.number, "name": name, "path": path}
                ledger.emit(seen, Kind.RESYNC, marks=Mark.HOLE, detail=RESYNC_REMOVED, **place)
        for reading in readings:
            if not _is_same(reading.parent, directory):
                self._importer.read(seen, reading, late, is_exact)
        path, meta = ledger.path(directory), meta_of(seen.inode, directory.meta)
        fields = {"node": directory.number, "path": path, "meta": meta, "detail": RESYNC_EXTENT}
        ledger.emit(seen, Kind.RESYNC, marks=Mark.HOLE, **fields)

    def _entered(
        self, seen: HoleReread, directory: Node, entry: EntryRead, late: tuple[Late, ...], is_exact: bool
    ) -> None:
        ledger = self._ledger
        node, present = ledger.find(entry.inode), ledger.tree.child(directory, entry.name)
        if present is not None and present is node:
            return
        if node is None or not node.names:
            self._importer.read(seen, entry, late, is_exact)
            return
        path, meta = ledger.path_in(directory, entry.name), meta_of(entry.inode, node.meta)
        place = {"parent": directory.number, "name": entry.name, "path": path, "size": node.size}
        ledger.emit(seen, Kind.RESYNC, marks=Mark.HOLE, detail=RESYNC_EXTENT, node=node.number, meta=meta, **place)


def _is_as_known(seen: HoleReread, node: Node) -> bool:
    """Say whether a file whose ctime alone was seen to move has the size and mtime that it is known to have."""
    assert node.content is not None, "only regular files have bytes"
    is_touch = seen.xattr_names is not None
    return is_touch and seen.inode.mtime_ns == node.meta.mtime_ns and seen.inode.size == node.content.size


def _is_same(base: Base, node: Node) -> bool:
    return node.identity[:2] == (base.dev, base.ino)


def _with_unknown_ends(data: tuple[Data, ...], size: int) -> tuple[Data, ...]:
    first = data[0].offset if data else size
    last = data[-1].offset + data[-1].length if data else size
    before = (Data(0, first, UNKNOWN, 0),) if first else ()
    after = (Data(last, size - last, UNKNOWN, 0),) if last < size else ()
    return (*before, *data, *after)
