"""Which files of the baseline nobody wrote to, so that their bytes may be read from the files themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from diffkeeper.base import Base, Wanted
from diffkeeper.model.node import Node
from diffkeeper.model.promised import is_promised, is_whole
from diffkeeper.model.tree import Tree
from diffkeeper.store.format import SessionFacts

Trees = Callable[[], tuple[Tree, Tree]]  # the baseline, and the last state


def promises(tree: Tree) -> dict[int, Node]:
    """Return the promised blobs of a baseline and the files that are nothing but one of them."""
    found: dict[int, Node] = {}
    for node in tree.nodes.values():
        blob = node.content.first_blob if node.content is not None else 0
        if is_promised(blob) and node.content is not None and is_whole(node.content, blob):
            found[blob] = node
    return found


def promised_in(tree: Tree) -> set[int]:
    """Return the promised blobs that files of a tree have bytes of."""
    contents = [node.content for node in tree.nodes.values() if node.content is not None]
    return {blob for content in contents for _, _, blob, _ in content.extents() if is_promised(blob)}


def count_missing(touched: Mapping[int, int], last: Tree, is_stored: Callable[[int], bool]) -> int:
    """Return how many of the touched nodes, each with its promised blob, have lost bytes that nobody kept."""
    return sum(not is_stored(blob) and not _has_still(last, node, blob) for node, blob in touched.items())


def without_name(tree: Tree, numbers: Iterable[int]) -> set[int]:
    """Return which of these nodes have no name in a tree."""
    nodes = tree.nodes
    return {number for number in numbers if number not in nodes or not nodes[number].names}


def _has_still(tree: Tree, number: int, blob: int) -> bool:
    node = tree.nodes.get(number)
    return node is not None and bool(node.names) and node.content is not None and is_whole(node.content, blob)


def seen_until_ns(facts: SessionFacts, *, is_lossless: bool) -> int:
    """Return the time (CLOCK_REALTIME) up to which every change is known: the end, or the begin if some were lost."""
    return (facts.stopped_realtime_ns if is_lossless else 0) or facts.baseline_realtime_ns


def recorded_base(facts: SessionFacts, trees: Trees, before_ns: int) -> Base:
    """Return the recorded folders as a base, the untouched files of which have their bytes from before the command."""
    return Base(
        recorded_folders(facts), _Finder(trees, before_ns).in_recorded_folder if before_ns else lambda blob: None
    )


def recorded_folders(facts: SessionFacts) -> list[tuple[bytes, bytes]]:
    """Return the watch roots as folders of a base."""
    return [(os.fsencode(root.label) if len(facts.roots) > 1 else b"", os.fsencode(root.path)) for root in facts.roots]


class StillThere:
    """Say which files were certainly not touched since before the baseline: nobody can set a ctime back."""

    def __init__(
        self, folders: Sequence[tuple[bytes, bytes]], tree: Tree, promised: Mapping[int, int], before_ns: int
    ) -> None:
        """Look at the files of ``tree``, which may be changed later; ``promised`` are blobs by node."""
        self._folders = folders
        self._tree = tree
        self._before_ns = before_ns
        self._numbers = {blob: number for number, blob in promised.items()}
        self._held: set[int] = set()
        self._base = Base(folders, self._wanted)

    def holds(self, blob: int) -> bool:
        """Say whether the file is still as it was, and remember it."""
        if self._before_ns and self._base.has(blob):
            self._held.add(blob)
            return True
        return False

    def was_held(self, blob: int) -> bool:
        """Say whether ``holds`` has said so."""
        return blob in self._held

    def is_whole(self, blob: int) -> bool:
        """Say whether the tree still has the file as it was."""
        return _has_still(self._tree, self._numbers[blob], blob)

    def close(self) -> None:
        """Close what was opened."""
        self._base.close()

    def _wanted(self, blob: int) -> Wanted | None:
        node = self._tree.nodes.get(self._numbers.get(blob, 0))
        if node is None or node.content is None or not is_whole(node.content, blob):
            return None
        return Wanted(
            self._tree.paths_of(node), node.content.size, node.meta.mtime_ns, node.identity[:2], self._before_ns
        )


def named_base(facts: SessionFacts, trees: Trees, folder: bytes) -> Base:
    """Return a folder that somebody says has the files as they were; several roots are below it by their labels."""
    labels = [os.fsencode(root.label) for root in facts.roots] if len(facts.roots) > 1 else [b""]
    return Base([(label, os.path.join(folder, label)) for label in labels], _Finder(trees, 0).in_named_folder)


class _Finder:
    """Say what a promised blob was; the trees are loaded when this is asked for the first time."""

    def __init__(self, trees: Trees, before_ns: int) -> None:
        self._trees = trees
        self._before_ns = before_ns
        self._promises: Mapping[int, Node] | None = None
        self._baseline = self._last = Tree()

    def in_recorded_folder(self, blob: int) -> Wanted | None:
        """Return what to look for in the folder that was recorded."""
        node = self._node(blob)
        last = self._last.nodes.get(node.number) if node is not None else None
        if node is None or last is None or last.content is None or not is_whole(last.content, blob):
            return None
        paths = self._last.paths_of(last)
        return Wanted(paths, last.content.size, last.meta.mtime_ns, node.identity[:2], self._before_ns)

    def in_named_folder(self, blob: int) -> Wanted | None:
        """Return what to look for in another folder."""
        node = self._node(blob)
        if node is None or node.content is None:
            return None
        paths = self._baseline.paths_of(node)
        last = self._last.nodes.get(node.number)
        if last is not None and last.content is not None and is_whole(last.content, blob):
            paths += [path for path in self._last.paths_of(last) if path not in paths]
        return Wanted(paths, node.content.size, node.meta.mtime_ns)

    def _node(self, blob: int) -> Node | None:
        if self._promises is None:
            self._baseline, self._last = self._trees()
            self._promises = promises(self._baseline)
        return self._promises.get(blob)
