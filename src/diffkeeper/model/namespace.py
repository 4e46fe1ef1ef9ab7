"""Names apart from nodes: which directory leads by which name to which node, and back.

Whatever is asked of it, a directory has at most one name, never lies below itself, and every name leads both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.node import GENERATION_UNKNOWN, NO_IDENTITY, Identity, Node


class Namespace:
    """Hold nodes by number and by identity, and the names between them.

    ``roots`` are (label, node number). With one root, paths are relative to it; with several, each begins with a label.
    """

    def __init__(self) -> None:
        self.roots: list[tuple[bytes, int]] = []
        self.nodes: dict[int, Node] = {}
        self.next_number = 1
        self._labels: dict[int, bytes] = {}
        self.nameless: set[int] = set()  # nodes without a name, roots apart: files that are open, or were
        self.departed: set[int] = set()  # those that lost their last name, changed without one, or are gone
        self.identities: dict[Identity, Node] = {}  # generation -1 stands for any
        self._latest: dict[tuple[int, int], Node] = {}

    def add_root(self, label: bytes, identity: Identity, meta: Meta, xattrs: dict[bytes, bytes] | None = None) -> Node:
        """Add a watch root and return its node."""
        node = self.insert(Node(self.next_number, identity, meta, xattrs=xattrs))
        self.make_root(label, node.number)
        return node

    def make_root(self, label: bytes, number: int) -> None:
        """Declare an inserted node to be a watch root."""
        self.roots.append((label, number))
        self._labels[number] = label
        self.nameless.discard(number)

    def add(
        self,
        parent: int,
        name: bytes,
        identity: Identity,
        meta: Meta,
        *,
        content: ExtentMap | None = None,
        target: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
    ) -> Node:
        """Add an entry of the baseline and return its node; a known identity is one more name of its node.

        A regular file without ``content`` is empty: pass ``ExtentMap.unknown(size)`` for bytes that were not read.
        """
        node = self.identities.get(identity)
        if node is None or node.is_directory:
            node = Node(self.next_number, identity, meta, content=content, target=target, xattrs=xattrs)
            self.insert(node)
        self.attach(node, parent, name)
        return node

    def insert(self, node: Node) -> Node:
        """Add a node as it is; if it has names, its directories must be there already, or ``relink`` must follow."""
        self.nodes[node.number] = node
        self.next_number = max(self.next_number, node.number + 1)
        self.bind(node, node.identity)
        if not node.names:
            self.nameless.add(node.number)
            self.departed.add(node.number)
        return node

    def relink(self) -> None:
        """Rebuild every directory's children from the names of all nodes (after reading a checkpoint)."""
        for node in self.nodes.values():
            if node.children is not None:
                node.children = {}
        for node in self.nodes.values():
            for parent, name in node.names:
                if not is_name(name):
                    raise ValueError(f"{name!r} is no name for a file")
                self._children_of(parent)[name] = node.number

    def bind(self, node: Node, identity: Identity) -> None:
        """Note the identity of a node; a node that had it before loses it."""
        if self.identities.get(node.identity) is node:
            del self.identities[node.identity]
        node.identity = identity
        if node.number in self.nameless:
            self.departed.add(node.number)
        if identity != NO_IDENTITY:
            self.identities[identity] = node
            if identity[1]:  # 0: the inode is not known yet
                self._latest[identity[0], identity[1]] = node

    def by_identity(self, dev: int, ino: int, generation: int) -> Node | None:
        """Return the node of that identity; one whose generation is not known matches any."""
        node = self.identities.get((dev, ino, generation))
        if node is None and generation != GENERATION_UNKNOWN:
            return self.identities.get((dev, ino, GENERATION_UNKNOWN))
        return node if node is not None else self._latest.get((dev, ino))

    def latest(self, dev: int, ino: int) -> Node | None:
        """Return the node that had this inode number last, whatever its generation."""
        return self._latest.get((dev, ino))

    def child(self, directory: Node, name: bytes) -> Node | None:
        """Return what a name in a directory leads to."""
        if directory.children is None:
            return None
        return self.nodes.get(directory.children.get(name, 0))

    def parent_of(self, directory: Node) -> Node | None:
        """Return the directory that holds a directory, None for a root."""
        if directory.number in self._labels:
            return None
        return next((self.nodes.get(parent) for parent, _ in directory.names), None)

    def is_root(self, number: int) -> bool:
        """Say whether a node is a watch root."""
        return number in self._labels

    def path_of(self, node: Node) -> bytes:
        """Return a path that leads to the node (of several the least), empty if none does or it is the only root."""
        parts: list[bytes] = []
        while node.number not in self._labels:
            if not node.names:
                return b""
            number, name = min(node.names) if len(node.names) > 1 else next(iter(node.names))
            parts.append(name)
            node = self.nodes[number]
        if len(self.roots) > 1:
            parts.append(self._labels[node.number])
        return b"/".join(reversed(parts))

    def paths_of(self, node: Node) -> list[bytes]:
        """Return all paths that lead to a node, in byte order."""
        above = ((self.nodes.get(parent), name) for parent, name in node.names)
        found = [(self.path_of(directory), name) for directory, name in above if directory is not None]
        return sorted(path + b"/" + name if path else name for path, name in found)

    def lookup(self, path: bytes) -> Node | None:
        """Return the node at a path as ``walk`` yields it; symlinks are not followed."""
        parts = [part for part in path.split(b"/") if part not in (b"", b".")]
        if len(self.roots) == 1:
            node = self.nodes.get(self.roots[0][1])
        else:
            label = parts.pop(0) if parts else None
            node = next((self.nodes.get(number) for known, number in self.roots if known == label), None)
        for part in parts:
            if node is None:
                return None
            node = self.child(node, part)
        return node

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Yield (path, node) of every name, parents first, names in byte order; the only root comes first, as b""."""
        for label, number in sorted(self.roots):
            root = self.nodes.get(number)
            if root is not None:
                yield from self._walk(label if len(self.roots) > 1 else b"", root)

    def _walk(self, path: bytes, node: Node) -> Iterator[tuple[bytes, Node]]:
        waiting = [(path, node)]
        while waiting:
            path, node = waiting.pop()
            yield path, node
            if node.children:
                prefix = path + b"/" if path else b""
                names = sorted(node.children.items(), reverse=True)
                waiting += [(prefix + name, self.nodes[number]) for name, number in names]

    def attach(self, node: Node, parent: int, name: bytes) -> bool:
        """Give a node a name, taking it from whatever had it; return False where that cannot be."""
        directory = self.nodes.get(parent)
        if directory is None or directory.children is None or self.is_root(node.number):
            return False
        if not is_name(name):
            return False
        if not self.can_hold(parent, node):
            return False
        if directory.children.get(name) == node.number:
            return True
        for old_parent, old_name in list(node.names) if node.children is not None else ():
            self.unname(old_parent, old_name)
        node.names.add((parent, name))  # before the other loses it: the node may lie below that one
        self.nameless.discard(node.number)
        self.detach(parent, name)
        directory.children[name] = node.number
        return True

    def detach(self, parent: int, name: bytes) -> Node | None:
        """Take a name away and return the node that had it; without names it is dropped, unless it is a regular file.

        A file that is open lives on without names: it may be written, copied from and even linked again.
        """
        node = self.unname(parent, name)
        if node is not None and not node.names:
            self._release(node)
        return node

    def unname(self, parent: int, name: bytes) -> Node | None:
        """Take a name away and return the node that had it, which stays in the tree."""
        directory = self.nodes.get(parent)
        number = directory.children.pop(name, 0) if directory is not None and directory.children is not None else 0
        node = self.nodes.get(number)
        if node is not None:
            node.names.discard((parent, name))
            if not node.names:
                self.nameless.add(number)
                self.departed.add(number)
        return node

    def drop(self, node: Node) -> None:
        """Forget a node and its identity, with all below it that has no name elsewhere."""
        waiting = [node]
        while waiting:
            gone = waiting.pop()
            self._forget(gone)
            for name, number in list((gone.children or {}).items()):
                below = self.nodes.get(number)
                if below is not None:
                    below.names.discard((gone.number, name))
                    if not below.names:
                        waiting.append(below)

    def _release(self, node: Node) -> None:
        if node.content is None and not self.is_root(node.number):
            self.drop(node)

    def _forget(self, node: Node) -> None:
        self.nodes.pop(node.number, None)
        self.nameless.discard(node.number)
        self.departed.add(node.number)
        if self.identities.get(node.identity) is node:
            del self.identities[node.identity]
        key = node.identity[:2]
        if self._latest.get(key) is node:
            del self._latest[key]

    def can_hold(self, directory: int, node: Node) -> bool:
        """Say whether a directory may be given a node: not one that it lies in."""
        at = self.nodes.get(directory) if node.children is not None else None
        while at is not None:
            if at is node:
                return False
            at = self.parent_of(at)
        return True

    def _children_of(self, number: int) -> dict[bytes, int]:
        directory = self.nodes.get(number)
        children = directory.children if directory is not None else None
        return children if children is not None else {}

    def _copy_into(self, twin: Namespace, nodes: Iterable[Node]) -> None:
        for node in nodes:
            twin.insert(node.copy())
        for label, number in self.roots:
            twin.make_root(label, number)
        twin.next_number = self.next_number


def is_name(name: bytes) -> bool:
    """Say whether a directory can hold an entry of that name: no kernel gives others, a made-up trace may."""
    return bool(name) and name not in (b".", b"..") and b"/" not in name and b"\0" not in name
