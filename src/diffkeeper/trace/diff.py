"""What differs between the tree at two instants, by name and by node: a file that only moved is one rename."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from diffkeeper.model.answers import Change, Entry, Exactness
from diffkeeper.model.tree import Node
from diffkeeper.model.values import dataclass
from diffkeeper.trace.view import SLICE_BYTES, TreeView

_Link = tuple[int, bytes]  # directory node, name


@dataclass(slots=True)
class _Side:
    """Hold one tree as names: where each stands, and of which node."""

    view: TreeView
    paths: dict[_Link, bytes] = field(default_factory=dict)
    nodes: dict[_Link, Node] = field(default_factory=dict)
    names: dict[int, list[_Link]] = field(default_factory=dict)

    def entry(self, link: _Link) -> Entry:
        return self.view.entry_of(self.paths[link], self.nodes[link])


def changes(before: TreeView, after: TreeView) -> list[Change]:
    """Return what differs, ordered by path: A, D, R by names, T, M, U where a name stands on both sides."""
    old, new = _side(before), _side(after)
    found = [change for link in new.nodes.keys() & old.nodes.keys() if (change := _changed(old, link, new, link))]
    gone, come = old.nodes.keys() - new.nodes.keys(), new.nodes.keys() - old.nodes.keys()
    moved = dict(_moved(old, new, gone, come))
    found += [_renamed(old, source, new, link) for link, source in moved.items()]
    found += [Change("A", new.paths[link], after=new.entry(link)) for link in come - moved.keys()]
    found += [Change("D", old.paths[link], before=old.entry(link)) for link in gone - set(moved.values())]
    return sorted(found, key=lambda change: (change.path, change.path2, change.letter))


def _side(view: TreeView) -> _Side:
    side = _Side(view)
    directories = {path: node.number for path, node in view.tree.walk() if node.children is not None}
    directories.setdefault(b"", 0)
    for path, node in view.tree.walk():
        if path:
            parent, _, name = path.rpartition(b"/")
            link = (directories[parent], name)
            side.paths[link], side.nodes[link] = path, node
            side.names.setdefault(node.number, []).append(link)
    return side


def _moved(old: _Side, new: _Side, gone: set[_Link], come: set[_Link]) -> Iterator[tuple[_Link, _Link]]:
    """Pair each new name with a name of the same node that is no more."""
    free = set(gone)
    for link in sorted(come, key=new.paths.__getitem__):
        source = next((name for name in sorted(old.names.get(new.nodes[link].number, ())) if name in free), None)
        if source is not None:
            free.discard(source)
            yield link, source


def _renamed(old: _Side, source: _Link, new: _Side, link: _Link) -> Change:
    return Change("R", old.paths[source], new.paths[link], old.entry(source), new.entry(link))


def _changed(old: _Side, link: _Link, new: _Side, new_link: _Link) -> Change | None:
    if _is_unchanged(old.nodes[link], new.nodes[new_link]):
        return None  # most are; whether their bytes can be had is not even asked
    before, after = old.entry(link), new.entry(new_link)
    letter = _letter(old.view, before, new.view, after)
    return Change(letter, after.path, before=before, after=after) if letter else None


def _is_unchanged(old: Node, new: Node) -> bool:
    is_same = old.meta == new.meta and old.content == new.content and old.inexact == new.inexact
    return is_same and old.target == new.target and old.xattrs == new.xattrs


def _letter(old: TreeView, before: Entry, new: TreeView, after: Entry) -> str:
    if before.kind != after.kind:
        return "T"
    if before.target != after.target or (before.kind == "f" and not _same_bytes(old, before, new, after)):
        return "M"
    return "U" if _metadata(before) != _metadata(after) else ""


def _metadata(entry: Entry) -> tuple[object, ...]:
    """Return what counts as metadata; a directory's mtime follows from its entries and says nothing of its own."""
    meta = entry.meta
    mtime_ns = 0 if entry.kind == "d" else meta.mtime_ns
    return meta.mode, meta.uid, meta.gid, meta.rdev, mtime_ns, dict(entry.xattrs)


def _same_bytes(old: TreeView, before: Entry, new: TreeView, after: Entry) -> bool:
    if before.size != after.size:
        return False
    if old.recipe(before) == new.recipe(after):
        return True
    if Exactness.UNKNOWN in (before.content, after.content):
        return False
    starts = range(0, before.size, SLICE_BYTES)
    return all(old.slice(before, at, SLICE_BYTES) == new.slice(after, at, SLICE_BYTES) for at in starts)
