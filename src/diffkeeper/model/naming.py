"""Make events of changes of names, once ``placing`` has said which names they were."""

from __future__ import annotations

import stat

from diffkeeper.model import placing
from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.event import INHERITS_NOTHING, Event, Kind, Mark, Meta
from diffkeeper.model.imports import Importer
from diffkeeper.model.late import Late
from diffkeeper.model.ledger import Ledger, meta_of
from diffkeeper.model.node import Node
from diffkeeper.model.observation import Inode, NameChanged, NameOp
from diffkeeper.model.placing import Case, Link
from diffkeeper.model.walker import PathWalker

_EXCHANGE, _WHITEOUT = 2, 4  # RENAME_EXCHANGE, RENAME_WHITEOUT
_INHERITS_NOTHING = 1 << 30  # DK_INHERITS_NOTHING of events.h
_KINDS = {
    NameOp.MKDIR: Kind.MKDIR,
    NameOp.MKNOD: Kind.MKNOD,
    NameOp.SYMLINK: Kind.SYMLINK,
    NameOp.LINK: Kind.LINK,
    NameOp.UNLINK: Kind.UNLINK,
    NameOp.RMDIR: Kind.RMDIR,
    NameOp.RENAME: Kind.RENAME,
}
_GUESSED_MODES = {
    NameOp.MKDIR: stat.S_IFDIR | 0o755,
    NameOp.MKNOD: stat.S_IFIFO | 0o644,
    NameOp.SYMLINK: stat.S_IFLNK | 0o777,
}


class Naming:
    """Resolve NameChanged observations."""

    def __init__(self, ledger: Ledger, walker: PathWalker, content: ContentLog, importer: Importer) -> None:
        self._ledger = ledger
        self._walker = walker
        self._content = content
        self._importer = importer

    def resolve(self, seen: NameChanged, late: tuple[Late, ...], is_exact: bool) -> None:
        """Place a change of names and emit what it was."""
        case = Case(self._ledger, self._walker, seen, late)
        self._place(case, late, is_exact)
        if case.touches_outside or not case.directories:
            self._count_links(case)

    def _place(self, case: Case, late: tuple[Late, ...], is_exact: bool) -> None:
        seen = case.seen
        if seen.op in _GUESSED_MODES:
            self._made(case)
        elif seen.op == NameOp.LINK:
            self._linked(case, late, is_exact)
        elif seen.op != NameOp.RENAME:
            self._removed(case)
        elif placing.has_no_effect(case) or placing.is_of_a_root(case):
            return
        elif seen.call_flags & _EXCHANGE:
            self._exchanged(case, late, is_exact)
        else:
            self._renamed(case, late, is_exact)

    def _count_links(self, case: Case) -> None:
        """Emit that a file of the tree gained or lost a link outside: it tells apart what later calls touch."""
        seen, ledger = case.seen, self._ledger
        for inode, node in case.pairs:
            if node is None or node.is_directory or not inode.mode or not node.names or inode.nlink == node.meta.nlink:
                continue
            if inode.nlink > node.meta.nlink:
                path, path2 = ledger.path(node), seen.path2
                ledger.emit(seen, Kind.LINK, node=node.number, path=path, path2=path2, meta=meta_of(inode))
            else:
                path = seen.path2 or seen.path
                ledger.emit(seen, Kind.UNLINK, node=node.number, path=path, meta=meta_of(inode))

    def _give_up(self, case: Case) -> None:
        seen = case.seen
        if not placing.is_elsewhere(case):
            text = seen.path2 if seen.op == NameOp.SYMLINK else b""
            path2 = b"" if seen.op == NameOp.SYMLINK else seen.path2
            if seen.op == NameOp.LINK and case.spot2.parent is not None and case.is_touched(case.spot2.parent):
                path2 = self._ledger.path_in(case.spot2.parent, case.name2)
            self._ledger.unresolved(seen, _KINDS[seen.op], path=seen.path, path2=path2, text=text)

    def _removed(self, case: Case) -> None:
        link = placing.removed(case)
        if link is None:
            self._give_up(case)
            return
        self._ledger.emit(
            case.seen,
            _KINDS[case.seen.op],
            node=link.node.number,
            parent=link.parent.number,
            name=link.name,
            path=self._ledger.path_in(link.parent, link.name),
            meta=self._meta(case, link.node),
            parent_mtime_ns=case.mtime(link.parent),
        )

    def _meta(self, case: Case, node: Node) -> Meta | None:
        inode = case.inodes.get(node.number)
        return meta_of(inode) if inode is not None and inode.nlink > 0 else None

    def _made(self, case: Case) -> None:
        place = placing.made(case)
        if place is None or not place.name:
            self._give_up(case)
        elif place.node is None or not self._ledger.is_folding:
            self._make(case, place)

    def _make(self, case: Case, place: placing.Made) -> None:
        seen, ledger = case.seen, self._ledger
        parent, inode = place.parent, place.inode
        meta = meta_of(inode) if inode is not None and inode.nlink > 0 else None
        marks = Mark(0)
        if meta is None:
            meta = Meta(_GUESSED_MODES[seen.op], parent.meta.uid, parent.meta.gid, parent.meta.mtime_ns)
            marks = Mark.INEXACT
        event = ledger.emit(
            seen,
            Kind.CREATE if stat.S_ISREG(meta.mode) else _KINDS[seen.op],
            marks=marks,
            node=place.node.number if place.node is not None else ledger.tree.next_number,
            parent=parent.number,
            name=place.name,
            path=ledger.path_in(parent, place.name),
            meta=meta,
            parent_mtime_ns=case.mtime(parent),
            text=seen.path2 if seen.op == NameOp.SYMLINK else b"",
        )
        ledger.born(event.node, inode.identity if inode is not None else ledger.provisional(parent.identity[0]))

    def _linked(self, case: Case, late: tuple[Late, ...], is_exact: bool) -> None:
        place = placing.linked(case)
        if place is None or not case.name2:
            self._give_up(case)
        elif place.node is None or _comes_back(case, place.node):
            inode = place.inode if place.node is None else case.inodes[place.node.number]
            assert inode is not None, "what is linked is a node or an inode"
            self._bring_in(case, place.parent, case.name2, inode, late, is_exact)
        elif not (self._ledger.is_folding and case.child(place.parent, case.name2) is place.node):
            self._link(case, place.parent, place.node)

    def _link(self, case: Case, parent2: Node, node: Node) -> None:
        old = placing.by_string(case.spot)
        is_known = old is not None and old.node is node
        ledger = self._ledger
        ledger.emit(
            case.seen,
            Kind.LINK,
            node=node.number,
            parent=old.parent.number if is_known and old is not None else 0,
            name=old.name if is_known and old is not None else b"",
            parent2=parent2.number,
            name2=case.name2,
            path=ledger.path_in(old.parent, old.name) if is_known and old is not None else ledger.path(node),
            path2=ledger.path_in(parent2, case.name2),
            meta=self._meta(case, node),
            parent2_mtime_ns=case.mtime(parent2),
        )

    def _renamed(self, case: Case, late: tuple[Late, ...], is_exact: bool) -> None:
        moved = placing.renamed(case)
        if moved.old is not None and moved.parent2 is not None:
            self._move(case, moved.old, moved.parent2, moved.other)
        elif moved.old is not None and (case.touches_outside or case.spot2.is_outside):
            self._send_out(case, moved.old, case.seen.path2)
            self._whiteout(case, moved.old)
        elif moved.old is None and moved.parent2 is not None:
            self._receive(case, moved.parent2, moved.other, late, is_exact)
        else:
            self._give_up(case)

    def _move(self, case: Case, old: Link, parent2: Node, other: Node | None) -> None:
        ledger, node = self._ledger, old.node
        if other is not None and other is not node:
            self._content.replaced(node, other)
        ledger.emit(
            case.seen,
            Kind.RENAME,
            node=node.number,
            parent=old.parent.number,
            name=old.name,
            parent2=parent2.number,
            name2=case.name2,
            replaced=other.number if other is not None and other is not node else 0,
            path=ledger.path_in(old.parent, old.name),
            path2=ledger.path_in(parent2, case.name2),
            meta=self._meta(case, node),
            size=node.size,
            parent_mtime_ns=case.mtime(old.parent),
            parent2_mtime_ns=case.mtime(parent2),
        )
        self._whiteout(case, old)

    def _whiteout(self, case: Case, old: Link) -> None:
        """Leave the character device 0/0 that RENAME_WHITEOUT puts at the old name."""
        if not case.seen.call_flags & _WHITEOUT:
            return
        inode = next(iter(case.unknown(stat.S_ISCHR)), None)
        meta = meta_of(inode) if inode is not None else Meta(stat.S_IFCHR, 0, 0, case.mtime(old.parent))
        event = self._ledger.emit(
            case.seen,
            Kind.MKNOD,
            node=self._ledger.tree.next_number,
            parent=old.parent.number,
            name=old.name,
            path=self._ledger.path_in(old.parent, old.name),
            meta=meta,
            detail=INHERITS_NOTHING if case.seen.call_flags & _INHERITS_NOTHING else 0,
        )
        identity = inode.identity if inode is not None else self._ledger.provisional(old.parent.identity[0])
        self._ledger.born(event.node, identity)

    def _send_out(self, case: Case, link: Link, destination: bytes) -> None:
        ledger = self._ledger
        ledger.emit(
            case.seen,
            Kind.EXPORT,
            node=link.node.number,
            parent=link.parent.number,
            name=link.name,
            path=ledger.path_in(link.parent, link.name),
            path2=destination,
            meta=self._meta(case, link.node),
            parent_mtime_ns=case.mtime(link.parent),
        )

    def _receive(self, case: Case, parent: Node, other: Node | None, late: tuple[Late, ...], is_exact: bool) -> None:
        gone = [other] if other is not None and case.is_touched(other) and case.lost_a_link(other) else []
        inode = placing.incoming(case, parent, case.name2, gone)
        if inode is None or not case.name2:
            self._give_up(case)
        elif other is None or other is not self._ledger.find(inode):
            self._bring_in(case, parent, case.name2, inode, late, is_exact)

    def _bring_in(
        self, case: Case, parent: Node, name: bytes, inode: Inode, late: tuple[Late, ...], is_exact: bool
    ) -> Event:
        event = self._importer.entry(
            case.seen,
            parent,
            name,
            inode,
            late=late,
            is_exact=is_exact,
            origin=case.seen.path,
            parent_mtime_ns=case.mtime(parent),
        )
        self._importer.subtree(case.seen, late, is_exact)
        return event

    def _exchanged(self, case: Case, late: tuple[Late, ...], is_exact: bool) -> None:
        first, second = placing.exchanged(case)
        if first is not None and second is not None:
            if first.node is not second.node:
                self._exchange(case, first, second)
        elif first is not None and (case.touches_outside or case.spot2.is_outside):
            self._swap_with_outside(case, first, case.seen.path2, late, is_exact)
        elif second is not None and (case.touches_outside or case.spot.is_outside):
            self._swap_with_outside(case, second, case.seen.path, late, is_exact)
        else:
            self._give_up(case)

    def _exchange(self, case: Case, first: Link, second: Link) -> None:
        ledger = self._ledger
        self._content.replaced(first.node, second.node)
        ledger.emit(
            case.seen,
            Kind.EXCHANGE,
            node=first.node.number,
            parent=first.parent.number,
            name=first.name,
            parent2=second.parent.number,
            name2=second.name,
            replaced=second.node.number,
            path=ledger.path_in(first.parent, first.name),
            path2=ledger.path_in(second.parent, second.name),
            meta=self._meta(case, first.node),
            parent_mtime_ns=case.mtime(first.parent),
            parent2_mtime_ns=case.mtime(second.parent),
        )
        other = self._meta(case, second.node)
        if other is not None and other.mtime_ns != second.node.meta.mtime_ns:  # XFS: it has another parent now
            path = ledger.path(second.node)
            ledger.emit(case.seen, Kind.UTIME, node=second.node.number, path=path, meta=other)

    def _swap_with_outside(
        self, case: Case, link: Link, elsewhere: bytes, late: tuple[Late, ...], is_exact: bool
    ) -> None:
        inode = placing.incoming(case, link.parent, link.name, [link.node])
        if inode is not None and self._ledger.find(inode) is link.node:
            return  # two links of one file
        self._send_out(case, link, elsewhere)
        if inode is None:
            self._give_up(case)
        else:
            self._bring_in(case, link.parent, link.name, inode, late, is_exact)


def _comes_back(case: Case, node: Node) -> bool:
    """Say whether a file that had links outside alone gets one inside: it may have changed meanwhile."""
    inode = case.inodes.get(node.number)
    return not node.names and inode is not None and inode.nlink > 1
