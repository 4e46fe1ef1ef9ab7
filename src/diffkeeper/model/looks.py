"""What looks at the files told, as events: of each only what is news to the tree, and never who did it, nor how.

All that is said here was so at the time of the look and came to be at some time since the look before.
"""

from __future__ import annotations

import stat
from typing import Any

from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.event import (
    LOOK_APPEARED,
    LOOK_MOVED,
    RESYNC_CONTENT,
    RESYNC_EXTENT,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Data,
    Event,
    Kind,
    Mark,
    Meta,
)
from diffkeeper.model.extents import UNKNOWN, ExtentMap
from diffkeeper.model.ledger import Ledger, meta_of
from diffkeeper.model.node import Node
from diffkeeper.model.observation import Base, Looked, LookOp, Read
from diffkeeper.model.promised import is_promised

_MOST_COMPARED_BYTES = 1 << 20  # of a file that was read whole, to tell whether that is news


class Looks:
    """Emit CHANGED events, all of them INEXACT."""

    def __init__(self, ledger: Ledger, content: ContentLog) -> None:
        self._ledger = ledger
        self._content = content
        self.pieces: list[Data] = []  # of the file whose bytes are coming

    def take(self, seen: Looked) -> None:
        """Take what one look told."""
        match seen.op:
            case LookOp.BYTES:
                self._bytes(seen)
            case LookOp.FOUND:
                self._found(seen)
            case LookOp.GONE:
                self._gone(seen)
            case LookOp.ROUND:
                self._ledger.counters["looks"] += 1
            case LookOp.FAILED:
                self._ledger.counters["unlooked"] += 1

    def _emit(self, seen: Looked, node: int, *, marks: int = 0, **fields: Any) -> Event:
        return self._ledger.emit(seen, Kind.CHANGED, marks=int(Mark.INEXACT) | marks, node=node, **fields)

    def _known(self, seen: Looked) -> Node | None:
        """Return the node that an entry is; an inode number that was used again gives another one."""
        node = self._ledger.find(seen.inode)
        if node is None or (not node.names and not self._ledger.tree.is_root(node.number)):
            return None
        return None if node.is_symlink and node.target != seen.data else node

    def _bytes(self, seen: Looked) -> None:
        """Store bytes; what they mean is told by the observation that follows."""
        node = self._ledger.find(seen.inode)
        node = node if node is not None and node.names else None
        number = node.number if node is not None else self._ledger.tree.next_number
        if node is not None and node.content is not None and seen.read == Read.WHOLE and not self.pieces:
            self._content.emptied(node)
        blob, start = self._content.append(number, seen.data)
        self._content.written.add(number)
        last = self.pieces[-1] if self.pieces else Data(0, 0, UNKNOWN, 0)
        if (last.blob, last.offset + last.length, last.start + last.length) == (blob, seen.offset, start):
            self.pieces[-1] = Data(last.offset, last.length + len(seen.data), blob, last.start)
        else:
            self.pieces.append(Data(seen.offset, len(seen.data), blob, start))

    def _found(self, seen: Looked) -> None:
        pieces, self.pieces = tuple(self.pieces), []
        node, ledger = self._known(seen), self._ledger
        if not seen.name:
            if node is not None:
                self._state(seen, node, pieces)
            return
        parent = self._directory(seen.parent)
        if parent is None:
            ledger.unresolved(seen, Kind.CHANGED, path=seen.name, meta=meta_of(seen.inode))
            return
        if node is None:
            node = self._appeared(seen, parent, pieces)
        else:
            if (parent.number, seen.name) not in node.names:
                self._named(seen, node, parent)
            self._state(seen, node, pieces)
        if node is not None:
            self._attributes(seen, node)

    def _directory(self, base: Base) -> Node | None:
        node = self._ledger.tree.by_identity(base.dev, base.ino, base.generation)
        return node if node is not None and node.is_directory else None

    def _appeared(self, seen: Looked, parent: Node, pieces: tuple[Data, ...]) -> Node | None:
        """Make a node of an entry that was not there before, in the place of what had its name."""
        ledger, inode = self._ledger, seen.inode
        self._gives_way(seen, parent)
        number, old = ledger.tree.next_number, ledger.tree.child(parent, seen.name)
        is_file = stat.S_ISREG(inode.mode)
        marks = 0
        if is_file and inode.size and seen.read in (Read.UNREADABLE, Read.AS_KNOWN):
            pieces, marks = (Data(0, inode.size, UNKNOWN, 0),), int(Mark.UNKNOWN_DATA)
        self._emit(
            seen,
            number,
            marks=marks,
            parent=parent.number,
            name=seen.name,
            path=ledger.path_in(parent, seen.name),
            meta=meta_of(inode),
            parent_mtime_ns=seen.parent_mtime_ns,
            data=pieces,
            length=sum(piece.length for piece in pieces),
            size=inode.size if is_file else 0,
            text=seen.data,
            detail=LOOK_APPEARED,
        )
        ledger.born(number, inode.identity)
        node = ledger.tree.nodes.get(number)
        if node is not None and is_file:
            self._content.closed(node)
            if old is not None:
                self._content.replaced(node, old)
        return node

    def _gives_way(self, seen: Looked, parent: Node) -> None:
        """Take away the names of what had the inode number of an entry that appeared: it is something else by now."""
        tree = self._ledger.tree
        former = tree.latest(seen.inode.dev, seen.inode.ino)
        if former is None or tree.is_root(former.number):
            return
        for number, name in sorted(former.names - {(parent.number, seen.name)}):
            directory = tree.nodes.get(number)
            if directory is not None:
                path = self._ledger.path_in(directory, name)
                self._emit(seen, former.number, detail=RESYNC_REMOVED, parent=number, name=name, path=path)

    def _named(self, seen: Looked, node: Node, parent: Node) -> None:
        """Give a node one more name, or another one where its inode has no more links than were known."""
        ledger = self._ledger
        old = self._former_place(seen, node)
        path = ledger.path_in(parent, seen.name)
        fields: dict[str, Any] = {"path": path, "meta": meta_of(seen.inode, node.meta)}
        size = node.content.size if node.content is not None else 0
        if old is None:
            place: dict[str, Any] = {
                "parent": parent.number,
                "name": seen.name,
                "parent_mtime_ns": seen.parent_mtime_ns,
            }
            self._emit(seen, node.number, size=size, **place, **fields)
            return
        replaced = ledger.tree.child(parent, seen.name)
        former = ledger.tree.nodes[old[0]]
        self._emit(
            seen,
            node.number,
            size=size,
            detail=LOOK_MOVED,
            parent=old[0],
            name=old[1],
            parent2=parent.number,
            name2=seen.name,
            replaced=replaced.number if replaced is not None and replaced is not node else 0,
            meta=fields["meta"],
            path=ledger.path_in(former, old[1]),
            path2=fields["path"],
            parent_mtime_ns=seen.parent2_mtime_ns,
            parent2_mtime_ns=seen.parent_mtime_ns,
        )
        if replaced is not None:
            self._content.replaced(node, replaced)

    def _former_place(self, seen: Looked, node: Node) -> tuple[int, bytes] | None:
        told = self._directory(seen.parent2) if seen.name2 else None
        if told is not None and (told.number, seen.name2) in node.names:
            return told.number, seen.name2
        if node.is_directory or len(node.names) >= seen.inode.nlink:
            return min(node.names)
        return None

    def _state(self, seen: Looked, node: Node, pieces: tuple[Data, ...]) -> None:
        """Emit what of bytes and metadata is news."""
        ledger, meta = self._ledger, meta_of(seen.inode, node.meta)
        fields: dict[str, Any] = {"path": ledger.path(node), "meta": meta}
        marks, detail = 0, 0
        if node.content is not None:
            detail, pieces = self._news(seen, node, node.content, pieces)
            fields |= {"size": seen.inode.size, "data": pieces, "length": sum(piece.length for piece in pieces)}
            marks = int(Mark.UNKNOWN_DATA) if any(piece.blob == UNKNOWN for piece in pieces) else 0
        if detail or _is_news(meta, node.meta):
            self._emit(seen, node.number, marks=marks, detail=detail, **fields)
        if node.content is not None:
            self._content.closed(node)

    def _news(
        self, seen: Looked, node: Node, content: ExtentMap, pieces: tuple[Data, ...]
    ) -> tuple[int, tuple[Data, ...]]:
        """Return which bytes are replaced, and how."""
        size = seen.inode.size
        if seen.read == Read.UNREADABLE:
            return RESYNC_CONTENT, (Data(0, size, UNKNOWN, 0),) if size else ()
        if seen.read == Read.WHOLE:
            return (0, ()) if self._is_same(content, pieces, size) else (RESYNC_CONTENT, pieces)
        if pieces or content.size != size:
            return RESYNC_EXTENT, pieces
        return 0, ()

    def _is_same(self, content: ExtentMap, pieces: tuple[Data, ...], size: int) -> bool:
        """Say whether a file that was read whole has the bytes that it is known to have."""
        if content.size != size or size > _MOST_COMPARED_BYTES:
            return False
        new = ExtentMap()
        for piece in pieces:
            new.write(piece.offset, piece.length, piece.blob, piece.start)
        new.truncate(size)
        known = self._bytes_of(content)
        return known is not None and known == self._bytes_of(new)

    def _bytes_of(self, content: ExtentMap) -> bytes | None:
        parts = []
        for piece in content.pieces():
            if piece.blob == UNKNOWN or is_promised(piece.blob):
                return None
            part = self._content.peek(piece.blob, piece.start, piece.length) if piece.blob > 0 else bytes(piece.length)
            if part is None:
                return None
            parts.append(part)
        return b"".join(parts)

    def _attributes(self, seen: Looked, node: Node) -> None:
        if seen.xattrs is None:
            return
        found = dict(seen.xattrs)
        fields: dict[str, Any] = {"path": self._ledger.path(node), "meta": node.meta}
        fields["size"] = node.content.size if node.content is not None else 0
        for name in sorted(node.xattrs.keys() - found.keys()):
            self._emit(seen, node.number, detail=RESYNC_NO_XATTR, text=name, **fields)
        for name, value in sorted(found.items()):
            if node.xattrs.get(name) != value:
                self._emit(seen, node.number, detail=RESYNC_XATTR, text=name, value=value, **fields)

    def _gone(self, seen: Looked) -> None:
        parent = self._directory(seen.parent)
        node = self._ledger.tree.child(parent, seen.name) if parent is not None else None
        if parent is None or node is None:
            return
        place: dict[str, Any] = {"parent": parent.number, "name": seen.name}
        place["path"] = self._ledger.path_in(parent, seen.name)
        place["parent_mtime_ns"] = seen.parent_mtime_ns
        self._emit(seen, node.number, detail=RESYNC_REMOVED, **place)


def _is_news(meta: Meta | None, known: Meta) -> bool:
    """Say whether metadata differs in what a state promises: not the number of links."""
    if meta is None:
        return False
    return (meta.mode, meta.uid, meta.gid, meta.mtime_ns) != (known.mode, known.uid, known.gid, known.mtime_ns)
