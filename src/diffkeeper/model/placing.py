"""Find out which names a call changed: from the inodes that it touched, or where they are not told from its strings.

Touched inodes are read inside the call and cannot be stale; strings depend on the order of other calls. So strings only
decide between candidates that touched inodes leave, and are trusted alone only where no touched inodes are reported.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple

from diffkeeper.model.late import Late
from diffkeeper.model.ledger import Ledger
from diffkeeper.model.node import Node
from diffkeeper.model.observation import EntryRead, Flag, Inode, NameChanged, NameOp
from diffkeeper.model.walker import PathWalker, Spot, last_name

_UNTOUCHED = int(Flag.UNTOUCHED)
_FOLLOW = 0x400  # AT_SYMLINK_FOLLOW


class Link(NamedTuple):
    """Hold one name and the node that it leads to."""

    parent: Node
    name: bytes
    node: Node


class Made(NamedTuple):
    """Hold a name that came to be; ``inode`` is None if the call did not tell it, ``node`` if it is new."""

    parent: Node
    name: bytes
    inode: Inode | None
    node: Node | None


class Case:
    """Hold one observed change of names with everything that can be asked about it."""

    def __init__(self, ledger: Ledger, walker: PathWalker, seen: NameChanged, late: tuple[Late, ...]) -> None:
        self.seen = seen
        self.name = last_name(seen.path)
        self.name2 = last_name(seen.path2)
        self.entries = [reading for reading in late if isinstance(reading, EntryRead)]
        self._tree = ledger.tree
        self._walker = walker
        self.is_untouched = not seen.touched
        self.pairs = _on_one_system([(inode, ledger.find(inode)) for inode in seen.touched])
        self.inodes = {node.number: inode for inode, node in self.pairs if node is not None}
        self.directories = [node for _, node in self.pairs if node is not None and node.is_directory]

    @cached_property
    def spot(self) -> Spot:
        """Return where ``path`` leads as a string."""
        if self.seen.op == NameOp.LINK and not self.seen.path:  # AT_EMPTY_PATH
            return Spot(node=self._tree.by_identity(self.seen.base.dev, self.seen.base.ino, self.seen.base.generation))
        follows = self.seen.op == NameOp.LINK and bool(self.seen.call_flags & _FOLLOW)
        return self._walker.follow(self.seen.base, self.seen.path, follows_last=follows)

    @cached_property
    def spot2(self) -> Spot:
        """Return where ``path2`` leads as a string."""
        return self._walker.follow(self.seen.base2, self.seen.path2)

    def child(self, directory: Node, name: bytes) -> Node | None:
        """Return what a name in a directory leads to."""
        return self._tree.child(directory, name)

    def is_touched(self, node: Node | None) -> bool:
        """Say whether the call touched a node."""
        return node is not None and node.number in self.inodes

    def mtime(self, node: Node | None) -> int:
        """Return the mtime of a touched node, 0 if it was not touched."""
        inode = self.inodes.get(node.number) if node is not None else None
        return inode.mtime_ns if inode is not None and inode.mode else 0

    def lost_a_link(self, node: Node) -> bool:
        """Say whether the call took a link away from a touched node, as from one that was replaced."""
        inode = self.inodes[node.number]
        return inode.nlink == 0 or (not node.is_directory and inode.nlink < node.meta.nlink)

    def links(self, name: bytes, accepts: Callable[[Node], bool]) -> list[Link]:
        """Return the touched directories that have a name whose node is acceptable."""
        found = ((directory, self.child(directory, name)) for directory in self.directories)
        return [Link(directory, name, node) for directory, node in found if node is not None and accepts(node)]

    def unknown(self, accepts: Callable[[int], bool]) -> list[Inode]:
        """Return the touched inodes of a type that are not in the tree."""
        return [inode for inode, node in self.pairs if node is None and inode.nlink > 0 and accepts(inode.mode)]

    def came_in(self) -> list[Inode]:
        """Return the touched directories that are not in the tree and, where that is known, do not stand outside."""
        outside = [inode for at, inode in enumerate(self.seen.touched) if self.seen.outside >> at & 1]
        return [inode for inode in self.unknown(stat.S_ISDIR) if inode not in outside]

    @property
    def touches_outside(self) -> bool:
        """Say whether a directory that is not in the tree was touched."""
        return bool(self.unknown(stat.S_ISDIR))


def _on_one_system(pairs: list[tuple[Inode, Node | None]]) -> list[tuple[Inode, Node | None]]:
    """Leave out what lies on other devices than the known inodes: /proc touches inodes of its own in passing."""
    devices = {inode.dev for inode, node in pairs if node is not None}
    return [(inode, node) for inode, node in pairs if node is not None or not devices or inode.dev in devices]


def choose(links: list[Link], spot: Callable[[], Spot]) -> Link | None:
    """Return the only link, or the one that the string confirms, or the first."""
    if len(links) > 1:
        return next((link for link in links if link.parent is spot().parent), links[0])
    return links[0] if links else None


def by_string(spot: Spot) -> Link | None:
    """Return the link that a string leads to."""
    if spot.parent is None or spot.node is None:
        return None
    return Link(spot.parent, spot.name, spot.node)


def removed(case: Case) -> Link | None:
    """Place UNLINK and RMDIR."""
    if case.is_untouched:
        return by_string(case.spot)
    links = case.links(case.name, case.is_touched) or case.links(case.name, lambda node: True)
    return choose(links, lambda: case.spot)


def made(case: Case) -> Made | None:
    """Place MKDIR, MKNOD and SYMLINK."""
    fits = [(inode, node) for inode, node in case.pairs if inode.nlink > 0 and _is_made_by(case.seen.op, inode.mode)]
    for directory in case.directories:
        for inode, node in fits:
            if node is not None and node is not directory and case.child(directory, case.name) is node:
                return Made(directory, case.name, inode, node)  # there already: read after it was made
    parent = _only(case.directories, case.spot.parent if len(case.directories) != 1 else None)
    if case.is_untouched:
        parent = case.spot.parent
    if parent is None:
        return None
    fresh = [inode for inode, node in fits if node is None] or [inode for inode, node in fits if node is not parent]
    return Made(parent, case.name, fresh[0] if fresh else _freed(case) or _read_late(case), None)


def _is_made_by(op: NameOp, mode: int) -> bool:
    if op == NameOp.MKDIR:
        return stat.S_ISDIR(mode)
    if op == NameOp.SYMLINK:
        return stat.S_ISLNK(mode)
    return not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode)


def _only(directories: list[Node], confirmed: Node | None) -> Node | None:
    if confirmed in directories:
        return confirmed
    return directories[0] if directories else None


def _freed(case: Case) -> Inode | None:
    """Return the inode that another task removed before the call returned."""
    return next((inode for inode, node in case.pairs if node is None and inode.nlink == 0), None)


def _read_late(case: Case) -> Inode | None:
    fits = (entry.inode for entry in case.entries if entry.name == case.name)
    return next((inode for inode in fits if _is_made_by(case.seen.op, inode.mode)), None)


class Linked(NamedTuple):
    """Hold a new name of a file: of ``node``, or of ``inode`` if that is not in the tree yet."""

    parent: Node
    node: Node | None
    inode: Inode | None


def linked(case: Case) -> Linked | None:
    """Place LINK; None if the new name is not in the tree or not known.

    overlayfs touches the directory alone: then the string says what was linked.
    """
    if case.is_untouched:
        node = case.spot.node
        inode = None if node is not None else next((e.inode for e in case.entries if e.name == case.name2), None)
        if case.spot2.parent is None or (node is None and inode is None) or (node is not None and node.is_directory):
            return None
        return Linked(case.spot2.parent, node, inode)
    parent = _only(case.directories, case.spot2.parent if len(case.directories) > 1 else None)
    files = [(inode, node) for inode, node in case.pairs if inode.nlink > 0 and not stat.S_ISDIR(inode.mode)]
    if parent is None:
        return None
    if files:
        return Linked(parent, files[0][1], files[0][0])
    node = case.spot.node
    if node is not None and not node.is_directory:
        return Linked(parent, node, None)
    came_in = (e.inode for e in case.entries if e.name == case.name2)
    inode = next(came_in, None)
    return Linked(parent, None, inode) if inode is not None else None


class Moved(NamedTuple):
    """Hold a rename: None where a side is not in the tree."""

    old: Link | None
    parent2: Node | None
    other: Node | None  # what the new name led to


_NOWHERE = Moved(None, None, None)


def renamed(case: Case) -> Moved:
    """Place RENAME without EXCHANGE."""
    if case.is_untouched:
        spot2 = case.spot2
        return Moved(by_string(case.spot), spot2.parent, spot2.node)
    old = _old_link(case)
    replaced = _replaced_link(case, old)
    if old is not None and not old.node.is_directory and case.touches_outside:
        if _came_by_other_link(case, old, replaced):
            old = None
        elif replaced is not None:
            return Moved(old, None, None)  # what it replaced outside has another link at that name here
    if replaced is not None:
        return Moved(old, replaced.parent, replaced.node)
    parent2 = _new_parent(case, old)
    return Moved(old, parent2, case.child(parent2, case.name2) if parent2 is not None else None)


def _old_link(case: Case) -> Link | None:
    links = case.links(case.name, case.is_touched)
    moved = [link for link in links if not case.lost_a_link(link.node)]
    if not moved:
        moved = [link for link in links if link.parent is case.spot.parent]
    return choose(moved, lambda: case.spot) or _provisional_link(case)


def _replaced_link(case: Case, old: Link | None) -> Link | None:
    moved = old.node if old is not None else None
    links = case.links(case.name2, lambda node: _is_replaced(case, node, moved))
    return choose([link for link in links if link.parent is not moved], lambda: case.spot2)


def _is_replaced(case: Case, node: Node, moved: Node | None) -> bool:
    return node is not moved and case.is_touched(node) and case.lost_a_link(node)


def _came_by_other_link(case: Case, old: Link, replaced: Link | None) -> bool:
    """Say whether a link from outside came into a directory where another link of the file has the old name."""
    if case.spot.parent is old.parent:
        return False
    return replaced is not None or case.spot2.parent in case.directories


def _provisional_link(case: Case) -> Link | None:
    links = case.links(case.name, lambda node: node.is_provisional)
    return choose(links, lambda: case.spot)


def _new_parent(case: Case, old: Link | None) -> Node | None:
    if old is None:
        known = [node for node in case.directories if not case.lost_a_link(node)]
        return _only(known, case.spot2.parent if len(known) > 1 else None)
    others = [node for node in case.directories if node is not old.node and node is not old.parent]
    if others:
        return _only(others, case.spot2.parent if len(others) > 1 else None)
    if case.touches_outside and case.spot2.parent is not old.parent:
        return None
    return old.parent


def _in_touched(case: Case, link: Link | None) -> Link | None:
    return link if link is not None and case.is_touched(link.parent) else None


def exchanged(case: Case) -> tuple[Link | None, Link | None]:
    """Place RENAME with EXCHANGE: the link of either name, None where it is not in the tree."""
    first, second = by_string(case.spot), by_string(case.spot2)
    if case.is_untouched:
        return first, second
    olds, news = case.links(case.name, case.is_touched), case.links(case.name2, case.is_touched)
    if not olds and not news:  # XFS touches the directories alone: then the strings decide
        return _in_touched(case, first), _in_touched(case, second)
    if not case.touches_outside:
        pairs = [(a, b) for a in olds for b in news if a.node is not b.node]
        return (first, second) if (first, second) in pairs else pairs[0] if pairs else (None, None)
    if second in news and first not in olds:
        return None, second
    return choose(olds, lambda: case.spot), choose(news, lambda: case.spot2) if not olds else None


def incoming(case: Case, parent: Node, name: bytes, gone: Iterable[Node]) -> Inode | None:
    """Return the inode that came into the tree at a name: a file, or a directory told apart from its old parent."""
    for entry in case.entries:
        if entry.name == name and (entry.parent.dev, entry.parent.ino) == parent.identity[:2]:
            return entry.inode
    left = {node.number for node in gone}
    files = [
        inode
        for inode, node in case.pairs
        if inode.nlink > 0 and not stat.S_ISDIR(inode.mode) and (node is None or node.number not in left)
    ]
    # With RENAME_WHITEOUT another new inode stands at the old name.
    files = [inode for inode in files if not stat.S_ISCHR(inode.mode) or inode.rdev] or files
    return files[0] if files else _incoming_directory(case, parent, name)


def _incoming_directory(case: Case, parent: Node, name: bytes) -> Inode | None:
    there = case.child(parent, name)  # in an import that was read later than this call
    if there is not None and there.is_directory and case.is_touched(there) and not case.lost_a_link(there):
        return case.inodes[there.number]
    unknown = case.came_in()
    inside = {entry.inode.identity for entry in case.entries}
    tops = {(entry.parent.dev, entry.parent.ino) for entry in case.entries}
    for inode in unknown:
        if (inode.dev, inode.ino) in tops and inode.identity not in inside:
            return inode
    # A move changes the mtime of the parents, and not of what is moved.
    quiet = [inode for inode in unknown if inode.mtime_ns != case.mtime(parent)]
    return min(quiet or unknown, key=lambda inode: inode.mtime_ns, default=None)


def is_of_a_root(case: Case) -> bool:
    """Say whether a rename was of a watch root itself: what is in it stays where it is, whatever the root is called."""
    return case.touches_outside and any(
        spot.parent is None and spot.node is not None and case.is_touched(spot.node) for spot in (case.spot, case.spot2)
    )


def has_no_effect(case: Case) -> bool:
    """Say whether a rename was of one hard link onto another of the same file, which POSIX leaves alone."""
    if case.is_untouched and not int(case.seen.flags) & _UNTOUCHED:
        return True
    return case.is_untouched and case.spot.node is not None and case.spot.node is case.spot2.node


def is_elsewhere(case: Case) -> bool:
    """Say whether a call that could not be placed was about another link, outside, of a file that has several."""
    spots = {NameOp.LINK: [case.spot2], NameOp.RENAME: [case.spot, case.spot2]}.get(case.seen.op, [case.spot])
    if case.directories or not all(spot.is_outside for spot in spots):
        return False
    links = 2 if case.seen.op in (NameOp.LINK, NameOp.RENAME) else 1
    if case.is_untouched or all(spot.is_certain for spot in spots):
        return True
    return any(
        node is not None or (not stat.S_ISDIR(inode.mode) and inode.nlink >= links) for inode, node in case.pairs
    )
