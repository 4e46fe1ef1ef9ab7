"""Trees: names apart from nodes, folded from events."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from diffkeeper.model.event import Data, Event, Kind, Mark, Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.tree import Node, Tree

FOLDER = Meta(stat.S_IFDIR | 0o755, 0, 0, 1)
FILE = Meta(stat.S_IFREG | 0o644, 0, 0, 1)


@pytest.fixture
def tree() -> Tree:
    """Return a tree of sub/ (2), sub/a (3) and b (4)."""
    tree = Tree()
    root = tree.add_root(b"root", (1, 1, 0), FOLDER)
    sub = tree.add(root.number, b"sub", (1, 2, 0), FOLDER)
    tree.add(sub.number, b"a", (1, 3, 0), FILE)
    tree.add(root.number, b"b", (1, 4, 0), FILE)
    return tree


def apply(tree: Tree, kind: Kind, **fields: Any) -> None:
    """Apply an event of which only the given fields matter."""
    tree.apply(Event(1, 0, kind, 1, 1, 1, **fields))


def content_of(tree: Tree, number: int) -> ExtentMap:
    content = tree.nodes[number].content
    assert content is not None
    return content


def paths(tree: Tree) -> dict[bytes, int]:
    """Return the node number of every path."""
    return {path: node.number for path, node in tree.walk()}


def test_walk_yields_parents_first_in_byte_order(tree: Tree) -> None:
    assert list(paths(tree).items()) == [(b"", 1), (b"b", 4), (b"sub", 2), (b"sub/a", 3)]


def test_several_roots_begin_with_their_labels(tree: Tree) -> None:
    tree.add_root(b"etc", (2, 1, 0), FOLDER)
    assert [path for path, _ in tree.walk()] == [b"etc", b"root", b"root/b", b"root/sub", b"root/sub/a"]
    node = tree.lookup(b"root/sub/a")
    assert node is not None
    assert tree.path_of(node) == b"root/sub/a"
    assert tree.lookup(b"nowhere/sub") is None


def test_a_rename_replaces_and_keeps_the_node(tree: Tree) -> None:
    apply(tree, Kind.RENAME, node=3, parent=2, name=b"a", parent2=1, name2=b"b", replaced=4)
    assert paths(tree) == {b"": 1, b"b": 3, b"sub": 2}
    assert tree.nodes[4].names == set(), "an open file lives on"


def test_exchanged_entries_swap_their_names(tree: Tree) -> None:
    apply(tree, Kind.EXCHANGE, node=2, parent=1, name=b"sub", parent2=1, name2=b"b", replaced=4)
    assert paths(tree) == {b"": 1, b"b": 2, b"b/a": 3, b"sub": 4}


def test_a_directory_cannot_be_moved_below_itself(tree: Tree) -> None:
    apply(tree, Kind.RENAME, node=2, parent=1, name=b"sub", parent2=2, name2=b"x")
    assert paths(tree)[b"sub/a"] == 3


def test_a_file_that_lost_one_of_two_names_stays_in_the_tree(tree: Tree) -> None:
    apply(tree, Kind.LINK, node=3, parent2=1, name2=b"c")
    apply(tree, Kind.UNLINK, node=3, parent=2, name=b"a")
    assert paths(tree)[b"c"] == 3


def test_a_file_whose_last_link_is_outside_is_dropped(tree: Tree) -> None:
    outside = Meta(FILE.mode, 0, 0, 1, nlink=1)
    apply(tree, Kind.UNLINK, node=3, parent=2, name=b"a", meta=outside)
    assert 3 not in tree.nodes


def test_what_leaves_the_tree_takes_along_what_is_below(tree: Tree) -> None:
    apply(tree, Kind.LINK, node=3, parent2=1, name2=b"c")
    apply(tree, Kind.EXPORT, node=2, parent=1, name=b"sub")
    assert paths(tree) == {b"": 1, b"b": 4, b"c": 3}
    assert 2 not in tree.nodes


def test_a_copy_takes_the_source_as_it_is_then(tree: Tree) -> None:
    apply(tree, Kind.WRITE, node=3, offset=0, length=4, data=(Data(0, 4, 9, 0),))
    apply(tree, Kind.COPY, node=4, source=3, source_offset=1, offset=2, length=3)
    apply(tree, Kind.TRUNCATE, node=3, size=0)
    content = tree.nodes[4].content
    assert content is not None
    assert [tuple(piece) for piece in content.extents()] == [(2, 3, 9, 1)]


def test_a_copy_of_what_is_not_in_the_tree_is_unknown(tree: Tree) -> None:
    apply(tree, Kind.COPY, node=4, source=99, offset=0, length=3)
    content = tree.nodes[4].content
    assert content is not None
    assert content.has_unknown


def test_copies_that_double_a_file_end_in_unknown_bytes_and_not_in_a_full_memory(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffkeeper.model.tree.MOST_EXTENTS", 1000)
    apply(tree, Kind.WRITE, node=4, offset=0, length=1, data=(Data(0, 1, 7, 0),))
    apply(tree, Kind.WRITE, node=4, offset=2, length=1, data=(Data(2, 1, 8, 5),))
    for _ in range(60):
        size = content_of(tree, 4).size
        apply(tree, Kind.COPY, node=4, source=4, source_offset=0, offset=size + 1, length=size)
    content = content_of(tree, 4)
    assert content.count < 2000
    assert content.has_unknown


def test_doubts_stay_until_the_whole_file_is_new(tree: Tree) -> None:
    apply(tree, Kind.WRITE, node=3, offset=0, length=4, data=(Data(0, 4, 9, 0),), marks=Mark.INEXACT)
    assert "later" in tree.nodes[3].inexact
    apply(tree, Kind.WRITE, node=3, offset=0, length=2, data=(Data(0, 2, 9, 4),))
    assert tree.nodes[3].inexact
    apply(tree, Kind.TRUNCATE, node=3, size=0)
    assert tree.nodes[3].inexact == ""


def test_a_copied_tree_changes_on_its_own(tree: Tree) -> None:
    twin = tree.copy()
    apply(tree, Kind.WRITE, node=3, offset=0, length=4, data=(Data(0, 4, 9, 0),))
    apply(tree, Kind.RMDIR, node=2, parent=1, name=b"sub")
    assert paths(twin) == {b"": 1, b"b": 4, b"sub": 2, b"sub/a": 3}
    assert twin.nodes[3].content is not None
    assert twin.nodes[3].content.size == 0
    assert twin.next_number == 5


def test_a_tree_is_rebuilt_from_nodes_and_their_names(tree: Tree) -> None:
    nodes = []
    for old in tree.nodes.values():
        node = Node(old.number, old.identity, old.meta)
        node.names = set(old.names)
        nodes.append(node)
    assert paths(Tree.from_nodes(tree.roots, nodes)) == paths(tree)


def test_a_resync_of_a_lost_name_removes_it(tree: Tree) -> None:
    apply(tree, Kind.RESYNC, node=4, parent=1, name=b"b", detail=1)
    assert b"b" not in paths(tree)
