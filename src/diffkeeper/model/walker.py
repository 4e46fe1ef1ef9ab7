"""Follow a path string through the tree as it was at that time, as the kernel would have."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from diffkeeper.model.namespace import Namespace
from diffkeeper.model.node import Node
from diffkeeper.model.observation import Base

_MOST_SYMLINKS = 40  # MAXSYMLINKS


class Spot(NamedTuple):
    """Say where a path ended: name in parent, led to by which node; or outside of every root; or nowhere known."""

    parent: Node | None = None
    name: bytes = b""
    node: Node | None = None
    is_outside: bool = False
    is_certain: bool = True  # not so if the path starts in a directory that is not in the tree, for it may be unknown


_NOWHERE = Spot()
_OUTSIDE = Spot(is_outside=True)


def last_name(path: bytes) -> bytes:
    """Return the last component of a path, trailing slashes left out."""
    return path.rstrip(b"/").rpartition(b"/")[2]


class PathWalker:
    """Resolve strings; ``root_paths`` are the absolute paths of the roots by label."""

    def __init__(self, tree: Namespace, root_paths: Mapping[bytes, bytes]) -> None:
        self._tree = tree
        self._roots: dict[tuple[bytes, ...], int] = {}
        self._root_paths: dict[int, tuple[bytes, ...]] = {}
        labels = dict(tree.roots)
        for label, path in root_paths.items():
            if label in labels:
                parts = tuple(filter(None, path.split(b"/")))
                self._roots[parts] = labels[label]
                self._root_paths[labels[label]] = parts
        self._is_nested = any(one != other and one == other[: len(one)] for one in self._roots for other in self._roots)

    def follow(self, base: Base, path: bytes, *, follows_last: bool = False) -> Spot:
        """Resolve a path that starts at ``base``, or at the task's root where it is absolute."""
        start = self._tree.by_identity(base.dev, base.ino, base.generation)
        if path.startswith(b"/"):
            return _Walk(self, self._chroot(start), path, follows_last).end()
        if start is None or start.children is None:
            return Spot(is_outside=True, is_certain=False) if start is None else _NOWHERE
        return _Walk(self, start, path, follows_last).end()

    def _chroot(self, root: Node | None) -> Node | None:
        """Return the root of a task that lives in a directory of the tree, None for the real root."""
        is_real = root is None or not root.is_directory or self._root_paths.get(root.number) == ()
        return None if is_real else root

    def enter(self, outside: list[bytes]) -> Node | None:
        """Return the root that an absolute path is, or the directory that it leads to below one."""
        for end in range(len(outside), -1, -1):
            at = self._tree.nodes.get(self._roots.get(tuple(outside[:end]), 0))
            if at is not None:
                return self._down(at, outside[end:])
        return None

    def _down(self, at: Node, names: list[bytes]) -> Node | None:
        for name in names:
            below = self._tree.child(at, name)
            if below is None or not below.is_directory:
                return None
            at = below
        return at

    def mounted(self, at: Node, name: bytes) -> Node | None:
        """Return the root that is mounted at a name in a directory below another root."""
        if not self._is_nested:
            return None
        parts = [name]
        while (above := self._tree.parent_of(at)) is not None:
            parts.append(next(name for _, name in at.names))
            at = above
        root = (*self._root_paths.get(at.number, ()), *reversed(parts))
        return self._tree.nodes.get(self._roots.get(root, 0))

    def leave(self, root: Node) -> list[bytes]:
        """Return the path of the directory above a root."""
        return list(self._root_paths.get(root.number, ())[:-1])

    def child(self, directory: Node, name: bytes) -> Node | None:
        """Return what a name leads to."""
        return self._tree.child(directory, name)

    def above(self, directory: Node) -> Node | None:
        """Return the parent of a directory, None above a root."""
        return self._tree.parent_of(directory)


class _Walk:
    """Hold the state of one resolution: in a directory of the tree, or on an absolute path outside of it."""

    def __init__(self, walker: PathWalker, start: Node | None, path: bytes, follows_last: bool) -> None:
        self._walker = walker
        self._at = start
        self._outside: list[bytes] = []
        self._left = deque(filter(None, path.split(b"/")))
        self._follows_last = follows_last
        self._symlinks = 0
        if start is None:
            self._at = walker.enter(self._outside)

    def end(self) -> Spot:
        while self._left:
            name = self._left.popleft()
            if name == b".":
                continue
            spot = self._step_outside(name) if self._at is None else self._step(self._at, name)
            if spot is not None:
                return spot
        return _OUTSIDE if self._at is None else Spot(node=self._at)

    def _step_outside(self, name: bytes) -> Spot | None:
        if name == b"..":
            del self._outside[-1:]
        else:
            self._outside.append(name)
        self._at = self._walker.enter(self._outside)
        return None

    def _step(self, at: Node, name: bytes) -> Spot | None:
        if name == b"..":
            self._up(at)
            return None
        root = self._walker.mounted(at, name)
        if root is not None:
            self._at = root
            return None
        child = self._walker.child(at, name)
        is_followed = child is not None and child.is_symlink and (bool(self._left) or self._follows_last)
        if not self._left and not is_followed:
            return Spot(at, name, child)
        if child is None:
            return _NOWHERE
        if is_followed:
            return self._expand(child)
        self._at = child
        return None if child.is_directory else _NOWHERE

    def _up(self, at: Node) -> None:
        self._at = self._walker.above(at)
        if self._at is None:
            self._outside = self._walker.leave(at)
            self._at = self._walker.enter(self._outside)

    def _expand(self, link: Node) -> Spot | None:
        self._symlinks += 1
        if self._symlinks > _MOST_SYMLINKS:
            return _NOWHERE
        self._left.extendleft(reversed([part for part in link.target.split(b"/") if part]))
        if link.target.startswith(b"/"):
            self._outside = []
            self._at = self._walker.enter(self._outside)
        return None
