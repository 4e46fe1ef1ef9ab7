"""The pure comparison of a node with what lstat says, of names, and of groups of hard links."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace

import pytest

from diffkeeper.model.compare import LinkGroups, What, differences, missing
from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.node import Node


@dataclass(frozen=True)
class Status:
    st_mode: int = stat.S_IFREG | 0o644
    st_uid: int = 1
    st_gid: int = 2
    st_size: int = 10
    st_mtime_ns: int = 7
    st_nlink: int = 1
    st_dev: int = 8
    st_ino: int = 100


SEEN = Status()


def node(number: int = 1, names: int = 1, mode: int = SEEN.st_mode) -> Node:
    made = Node(number, (8, 100, 0), Meta(mode, 1, 2, 7, rdev=5), content=ExtentMap(10))
    made.names = {(1, b"name%d" % one) for one in range(names)}
    return made


def test_equal_metadata_does_not_differ() -> None:
    assert differences(node(), SEEN) == ()


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (replace(SEEN, st_mode=stat.S_IFREG | 0o600), (What.MODE,)),
        (replace(SEEN, st_uid=9), (What.OWNER,)),
        (replace(SEEN, st_gid=9), (What.OWNER,)),
        (replace(SEEN, st_mtime_ns=8), (What.MTIME,)),
        (replace(SEEN, st_size=11), (What.SIZE,)),
        (replace(SEEN, st_mode=stat.S_IFDIR | 0o644, st_uid=9), (What.TYPE,)),
        (replace(SEEN, st_mtime_ns=8, st_size=9, st_mode=stat.S_IFREG), (What.MODE, What.MTIME, What.SIZE)),
    ],
)
def test_every_difference_of_metadata_is_named(seen: Status, expected: tuple[What, ...]) -> None:
    assert differences(node(), seen) == expected


def test_inode_numbers_link_counts_and_sizes_of_directories_are_nobodys_business() -> None:
    directory = node(mode=stat.S_IFDIR | 0o755)
    assert differences(directory, Status(st_mode=stat.S_IFDIR | 0o755, st_size=4096, st_nlink=3, st_ino=5)) == ()


def test_another_device_number_differs() -> None:
    device = node(mode=stat.S_IFCHR | 0o644)
    seen = replace(SEEN, st_mode=stat.S_IFCHR | 0o644)
    assert differences(device, seen, 5) == ()
    assert differences(device, seen, 6) == (What.DEVICE,)


def test_missing_names_are_found_but_not_those_that_nobody_looked_at() -> None:
    directory = node(mode=stat.S_IFDIR | 0o755)
    directory.children = {b"a": 2, b"b": 3, b"hidden": 4}
    assert missing(directory, {b"a": SEEN, b"new": SEEN}, lambda name: name == b"hidden") == [b"b"]
    assert missing(directory, {b"a": SEEN, b"b": SEEN, b"hidden": SEEN}, lambda name: False) == []


def test_link_groups_fit_only_one_to_one() -> None:
    twice = replace(SEEN, st_nlink=2)
    groups = LinkGroups()
    assert groups.fits(node(1, names=2), twice)
    assert groups.fits(node(1, names=2), twice)
    assert not groups.fits(node(2), twice), "two nodes, one inode"
    assert not groups.fits(node(1, names=2), replace(SEEN, st_ino=101)), "one node, two inodes"
    assert groups.node_of(twice) == 1
    assert groups.node_of(replace(SEEN, st_ino=101)) == 0
