"""Strings resolved against the tree."""

from __future__ import annotations

import stat

import pytest

from diffkeeper.model.event import Meta
from diffkeeper.model.observation import Base
from diffkeeper.model.tree import Tree
from diffkeeper.model.walker import PathWalker, Spot, last_name

FOLDER = Meta(stat.S_IFDIR | 0o755, 0, 0, 0)
LINK = Meta(stat.S_IFLNK | 0o777, 0, 0, 0)
ROOT, SUB, TOP, ELSEWHERE = Base(1, 1, 0), Base(1, 2, 0), Base(9, 2, 0), Base(9, 77, 0)


@pytest.fixture
def tree() -> Tree:
    """Return /w/r with sub/deep and links to within, above and around."""
    tree = Tree()
    root = tree.add_root(b"r", (1, 1, 0), FOLDER).number
    sub = tree.add(root, b"sub", (1, 2, 0), FOLDER).number
    tree.add(sub, b"deep", (1, 3, 0), FOLDER)
    links = {
        b"in": b"sub/deep",
        b"up": b"..",
        b"back": b"/w/r/sub",
        b"out": b"/etc",
        b"loop": b"loop",
        b"far": b"../../x",
    }
    for number, (name, target) in enumerate(links.items()):
        tree.add(root, name, (1, 10 + number, 0), LINK, target=target)
    return tree


@pytest.mark.parametrize(
    ("base", "path", "parent", "name"),
    [
        (ROOT, b"new", b"", b"new"),
        (ROOT, b"sub//./deep/../x/", b"sub", b"x"),
        (SUB, b"../a", b"", b"a"),
        (SUB, b"deep/a", b"sub/deep", b"a"),
        (ROOT, b"in/a", b"sub/deep", b"a"),
        (ROOT, b"in/../a", b"sub", b"a"),
        (ROOT, b"up/r/sub/a", b"sub", b"a"),
        (ROOT, b"../../w/r/a", b"", b"a"),
        (ROOT, b"back/a", b"sub", b"a"),
        (TOP, b"/w/r/in/a", b"sub/deep", b"a"),
        (TOP, b"/w/../w//r/a", b"", b"a"),
        (SUB, b"/deep/a", b"sub/deep", b"a"),
        (ROOT, b"in", b"", b"in"),
    ],
)
def test_a_path_leads_to_a_name_in_a_directory(tree: Tree, base: Base, path: bytes, parent: bytes, name: bytes) -> None:
    spot = PathWalker(tree, {b"r": b"/w/r"}).follow(base, path)
    assert spot.parent is not None
    assert (tree.path_of(spot.parent), spot.name) == (parent, name)


@pytest.mark.parametrize(
    ("base", "path", "is_certain"),
    [
        (ROOT, b"../a", True),
        (ROOT, b"out/a", True),
        (ROOT, b"far/a", True),
        (TOP, b"/tmp/a", True),
        (ELSEWHERE, b"a", False),
    ],
)
def test_a_path_may_lead_outside(tree: Tree, base: Base, path: bytes, is_certain: bool) -> None:
    spot = PathWalker(tree, {b"r": b"/w/r"}).follow(base, path)
    assert (spot.is_outside, spot.is_certain) == (True, is_certain)


@pytest.mark.parametrize("path", [b"none/a", b"loop/a"])
def test_a_path_may_lead_nowhere(tree: Tree, path: bytes) -> None:
    assert PathWalker(tree, {b"r": b"/w/r"}).follow(ROOT, path) == Spot()


def test_the_last_symlink_is_followed_on_request(tree: Tree) -> None:
    spot = PathWalker(tree, {b"r": b"/w/r"}).follow(ROOT, b"in", follows_last=True)
    assert spot.node is not None
    assert tree.path_of(spot.node) == b"sub/deep"


def test_the_root_of_everything_may_be_watched() -> None:
    tree = Tree()
    root = tree.add_root(b"/", (1, 1, 0), FOLDER)
    assert PathWalker(tree, {b"/": b"/"}).follow(ROOT, b"/../a") == Spot(root, b"a", None)


def test_the_last_name_ends_before_trailing_slashes() -> None:
    assert [last_name(path) for path in (b"a", b"a/b//", b"/x", b"/")] == [b"a", b"b", b"x", b""]


@pytest.mark.parametrize(
    ("base", "path", "parent", "name"),
    [
        (ROOT, b"sub/mnt/a", b"mnt", b"a"),
        (SUB, b"mnt/../a", b"r/sub", b"a"),
        (Base(5, 1, 0), b"../a", b"r/sub", b"a"),
        (Base(5, 1, 0), b"../../sub/mnt/a", b"mnt", b"a"),
        (TOP, b"/w/r/sub/mnt/a", b"mnt", b"a"),
    ],
)
def test_a_path_goes_into_and_out_of_a_root_that_is_mounted_below_another(
    tree: Tree, base: Base, path: bytes, parent: bytes, name: bytes
) -> None:
    tree.add_root(b"mnt", (5, 1, 0), FOLDER)
    spot = PathWalker(tree, {b"r": b"/w/r", b"mnt": b"/w/r/sub/mnt"}).follow(base, path)
    assert spot.parent is not None
    assert (tree.path_of(spot.parent), spot.name) == (parent, name)
