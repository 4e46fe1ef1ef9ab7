"""The state of the files at one instant, as a pure fold of events over the baseline.

``Tree.apply`` needs nothing but the event, and takes any: what does not fit the state changes as much of it as it can.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable

from diffkeeper.model import attributes
from diffkeeper.model.event import (
    INHERITS_NOTHING,
    LOOK_APPEARED,
    LOOK_MOVED,
    PENDING_ENDS,
    RESYNC_CONFIRMED,
    RESYNC_CONTENT,
    RESYNC_EXTENT,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Event,
    Kind,
    Mark,
    Meta,
)
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.losses import taint
from diffkeeper.model.namespace import Namespace
from diffkeeper.model.node import NO_IDENTITY, PENDING, Identity, Node

__all__ = ["RESYNC_REMOVED", "UNEXPLAINED", "Identity", "Node", "Tree"]

MOST_EXTENTS = 1 << 22
"""What a file may have when a range is copied into it: a made-up trace could double them with every event."""

KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 0x10, 0x20  # FALLOC_FL_*

_REASONS = {
    Mark.AMBIGUOUS: "which file or offset a write went to was not certain",
    Mark.INEXACT: "read later than it was written",
    Mark.LATE: "events came out of order",
}
UNEXPLAINED = "changed by nothing that was recorded"  # until it was read again
_DOUBTS = int(Mark.AMBIGUOUS | Mark.INEXACT | Mark.LATE)
_DEFAULT_MODES = {
    Kind.MKDIR: stat.S_IFDIR | 0o755,
    Kind.SYMLINK: stat.S_IFLNK | 0o777,
    Kind.MKNOD: stat.S_IFIFO | 0o644,
}
_INHERITING = frozenset({Kind.CREATE, Kind.MKDIR, Kind.MKNOD})


def _inherits(event: Event) -> bool:
    return event.kind in _INHERITING and not (event.kind == Kind.MKNOD and event.detail == INHERITS_NOTHING)


class Tree(Namespace):
    """Hold nodes, names and content; the baseline is put in with ``add_root`` and ``add``, the rest with ``apply``."""

    @classmethod
    def from_nodes(cls, roots: Iterable[tuple[bytes, int]], nodes: Iterable[Node]) -> Tree:
        """Build a tree of nodes whose ``names`` are complete; children are derived from them."""
        tree = cls()
        for node in nodes:
            tree.insert(node)
        for label, number in roots:
            tree.make_root(label, number)
        tree.relink()
        tree.departed.clear()
        return tree

    def copy(self) -> Tree:
        """Return a tree that changes on its own; content is shared until one side changes it."""
        twin = Tree()
        self._copy_into(twin, self.nodes.values())
        return twin

    def apply(self, event: Event) -> None:
        """Change the state as the event says."""
        handler = _HANDLERS[event.kind]
        if handler is not None:
            handler(self, event)
            if event.node in self.nameless:
                self.departed.add(event.node)

    def write_many(
        self, node: Node, extents: Iterable[tuple[int, int, int]], blob: int, start: int, meta: Meta
    ) -> None:
        """Change the state as WRITE events of a node do that is not in doubt, and is left with ``meta`` by the last.

        ``extents`` are (offset, length, place in the blob from ``start`` on); the events bear no mark but OUTSIDER.
        """
        assert node.content is not None, "only regular files are written to"
        for offset, length, at in extents:
            node.content.write(offset, length, blob, start + at)
        node.meta = meta
        if node.number in self.nameless:
            self.departed.add(node.number)

    def _gap(self, event: Event) -> None:
        taint(event, self.nodes.get(event.node), [self.nodes[number] for _, number in self.roots])

    def _pending(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is not None and event.detail == PENDING_ENDS:
            node.trust(PENDING)
        elif node is not None:
            node.doubt(PENDING)

    def _write(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is None or node.content is None:
            return
        write = node.content.write
        for data in event.data:
            write(data.offset, data.length, data.blob, data.start)
        if event.meta is not None:
            node.meta = event.meta
        if node.xattrs and not event.marks & Mark.MAPPED:  # a store through a mapping leaves capabilities
            attributes.settle(node.xattrs, event.kind, node.meta.mode)
        if event.marks:
            _doubt(node, event.marks)
        elif node.inexact and event.offset == 0 and event.length >= node.content.size:
            node.trust()

    def _copy_range(self, event: Event) -> None:
        node, source = self.nodes.get(event.node), self.nodes.get(event.source)
        if node is None or node.content is None:
            return
        part = ExtentMap()
        if source is not None and source.content is not None:
            if _is_bounded(node.content, source.content):
                part = source.content.slice(event.source_offset, event.length)
            if not node.inexact and source.doubts_for_good:
                node.inexact = source.inexact
        node.content.paste(event.offset, part)
        node.content.write_unknown(event.offset + part.size, event.length - part.size)
        self._changed(event, node)

    def _truncate(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is not None and node.content is not None:
            node.content.truncate(event.size)
            if event.size == 0:
                node.trust()
            self._changed(event, node)

    def _fallocate(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is not None and node.content is not None:
            fallocate(node.content, event.detail, event.offset, event.length)
            self._changed(event, node)

    def _attribute(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is None:
            return
        if event.kind == Kind.SETXATTR:
            node.xattrs[event.text] = event.value
        elif event.kind == Kind.REMOVEXATTR:
            node.xattrs.pop(event.text, None)
        self._changed(event, node)

    def _make(self, event: Event) -> None:
        """Give a node a name, making it if need be (CREATE, MKDIR, SYMLINK, MKNOD, IMPORT)."""
        node = self.nodes.get(event.node)
        is_new = node is None
        if node is None:
            node = self._new(event)
        if node is None:
            return
        if node.content is not None:
            for data in event.data:
                node.content.write(data.offset, data.length, data.blob, data.start)
        parent = self.nodes.get(event.parent)
        if parent is not None and parent.xattrs and is_new and _inherits(event):
            node.xattrs = attributes.inherit(parent.xattrs, node.meta.mode, event.kind == Kind.MKDIR)
        if event.name:
            self._place(node, event.parent, event.name)
        self._changed(event, node)

    def _new(self, event: Event) -> Node | None:
        if event.node <= 0:
            return None
        mode = _DEFAULT_MODES.get(event.kind, stat.S_IFREG | 0o644)
        meta = event.meta or Meta(mode, 0, 0, 0)
        is_told = event.kind == Kind.CHANGED  # what no data covers is a hole then
        content = ExtentMap.unknown(event.size) if event.size > 0 and not is_told else None
        target = event.text if stat.S_ISLNK(meta.mode) else b""
        return self.insert(Node(event.node, NO_IDENTITY, meta, content=content, target=target))

    def _link(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is not None:
            self._place(node, event.parent2, event.name2)
            node.meta = _relinked(node, 1) if event.meta is None else node.meta
            self._changed(event, node)

    def _remove(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        gone = self.detach(event.parent, event.name)
        if gone is not None:
            gone.meta = event.meta if gone is node and event.meta is not None else _relinked(gone, -1)
            self._release_if_elsewhere(gone, event.kind in (Kind.EXPORT, Kind.CHANGED))
        if node is not None:
            self._changed(event, node)

    def _rename(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is None:
            return
        if node.children is None or self.can_hold(event.parent2, node):
            if (event.parent, event.name) != (event.parent2, event.name2):
                self.unname(event.parent, event.name)
            self._place(node, event.parent2, event.name2)
            self._release_if_nameless(node)
        self._changed(event, node)

    def _exchange(self, event: Event) -> None:
        node, other = self.nodes.get(event.node), self.nodes.get(event.replaced)
        if node is None or other is None:
            return
        self.unname(event.parent, event.name)
        self.unname(event.parent2, event.name2)
        self._place(node, event.parent2, event.name2)
        self._place(other, event.parent, event.name)
        self._release_if_nameless(node)
        self._release_if_nameless(other)
        self._changed(event, node)

    def _resync(self, event: Event) -> None:
        if event.detail == RESYNC_REMOVED:
            self._remove(event)
        elif event.detail in (RESYNC_XATTR, RESYNC_NO_XATTR):
            self._resync_xattr(event)
        else:
            self._make(event)
            self._resync_content(event)

    def _looked(self, event: Event) -> None:
        if event.detail == LOOK_MOVED:
            self._rename(event)
        elif event.detail == LOOK_APPEARED:
            self._make(event)
            node = self.nodes.get(event.node)
            if node is not None and node.content is not None:
                node.content.truncate(event.size)
        else:
            self._resync(event)

    def _resync_xattr(self, event: Event) -> None:
        node = self.nodes.get(event.node)
        if node is not None:
            node.xattrs.pop(event.text, None)
            if event.detail == RESYNC_XATTR:
                node.xattrs[event.text] = event.value

    def _resync_content(self, event: Event) -> None:
        """Replace all bytes of a file, what no data covers being a hole, or take away the doubt about them."""
        node = self.nodes.get(event.node)
        if node is None:
            return
        if not event.detail and event.marks & Mark.HOLE:
            node.doubt(UNEXPLAINED)
        elif event.detail == RESYNC_EXTENT:
            self._resync_extent(node, event)
        if event.detail not in (RESYNC_CONTENT, RESYNC_CONFIRMED):
            return
        node.inexact = ""
        if event.detail == RESYNC_CONFIRMED or node.content is None:
            return
        node.content = ExtentMap()
        for data in event.data:
            node.content.write(data.offset, data.length, data.blob, data.start)
        node.content.truncate(event.size)
        _doubt(node, event.marks)

    def _resync_extent(self, node: Node, event: Event) -> None:
        node.trust(UNEXPLAINED)
        if node.content is None:
            return
        known = node.content.size
        node.content.write_unknown(known, event.size - known)  # nobody said what it has grown by, but for the data
        for data in event.data:
            node.content.write(data.offset, data.length, data.blob, data.start)
        node.content.truncate(event.size)
        _doubt(node, event.marks)

    def _place(self, node: Node, parent: int, name: bytes) -> None:
        directory = self.nodes.get(parent)
        old = self.child(directory, name) if directory is not None else None
        if self.attach(node, parent, name) and old is not None and old is not node:
            old.meta = _relinked(old, -1)
            self._release_if_elsewhere(old)

    def _release_if_nameless(self, node: Node) -> None:
        if not node.names and node.content is None and not self.is_root(node.number):
            self.drop(node)

    def _release_if_elsewhere(self, node: Node, is_elsewhere: bool = False) -> None:
        """Drop a file whose last link is outside: what is written to it there is not seen."""
        if not node.names and (is_elsewhere or node.meta.nlink > 0) and node.number in self.nodes:
            self.drop(node)

    def _changed(self, event: Event, node: Node) -> None:
        if event.meta is not None and stat.S_IFMT(event.meta.mode) == stat.S_IFMT(node.meta.mode):
            node.meta = event.meta
        if node.xattrs:
            attributes.settle(node.xattrs, event.kind, node.meta.mode)
        if event.parent_mtime_ns:
            self._touch(event.parent, event.parent_mtime_ns)
        if event.parent2_mtime_ns:
            self._touch(event.parent2, event.parent2_mtime_ns)
        if event.marks:
            _doubt(node, event.marks)

    def _touch(self, number: int, mtime_ns: int) -> None:
        node = self.nodes.get(number)
        if node is not None:
            old = node.meta
            node.meta = Meta(old.mode, old.uid, old.gid, mtime_ns, old.nlink, old.rdev)


def _is_bounded(content: ExtentMap, source: ExtentMap) -> bool:
    return not content.count or content.count + source.count <= MOST_EXTENTS


def fallocate(content: ExtentMap, mode: int, offset: int, length: int) -> None:
    """Change extents as the system call does; blocks that hold no data are holes."""
    end = offset + length
    if mode & COLLAPSE_RANGE:
        content.collapse_range(offset, length)
    elif mode & INSERT_RANGE:
        content.insert_range(offset, length)
    else:
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            content.punch(offset, length)
        if not mode & (KEEP_SIZE | PUNCH_HOLE) and end > content.size:
            content.truncate(end)


def _relinked(node: Node, links: int) -> Meta:
    """Return the metadata of a node after it gained or lost links; a directory's count is left alone."""
    old = node.meta
    if node.is_directory:
        return old
    return Meta(old.mode, old.uid, old.gid, old.mtime_ns, max(0, old.nlink + links), old.rdev)


def _doubt(node: Node, marks: Mark) -> None:
    if int(marks) & _DOUBTS:
        for mark, reason in _REASONS.items():
            if marks & mark:
                node.doubt(reason)


_Handler = Callable[[Tree, Event], None]


def _by_kind() -> list[_Handler | None]:
    handlers: dict[Kind, _Handler] = {
        Kind.WRITE: Tree._write,
        Kind.COPY: Tree._copy_range,
        Kind.TRUNCATE: Tree._truncate,
        Kind.FALLOCATE: Tree._fallocate,
        Kind.LINK: Tree._link,
        Kind.RENAME: Tree._rename,
        Kind.EXCHANGE: Tree._exchange,
        Kind.RESYNC: Tree._resync,
        Kind.CHANGED: Tree._looked,
        Kind.GAP: Tree._gap,
        Kind.PENDING: Tree._pending,
    }
    handlers |= dict.fromkeys((Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD, Kind.IMPORT), Tree._make)
    handlers |= dict.fromkeys((Kind.UNLINK, Kind.RMDIR, Kind.EXPORT), Tree._remove)
    attributes = (Kind.CHMOD, Kind.CHOWN, Kind.UTIME, Kind.SETXATTR, Kind.REMOVEXATTR, Kind.SETFLAGS, Kind.CLOSE)
    handlers |= dict.fromkeys(attributes, Tree._attribute)
    numbered = {int(kind): handler for kind, handler in handlers.items()}
    return [numbered.get(number) for number in range(max(Kind) + 1)]


_HANDLERS = _by_kind()
