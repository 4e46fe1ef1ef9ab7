"""What is made of changes that no recorded call explains, and of what was read again."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from diffkeeper.model.event import RESYNC_CONTENT, RESYNC_EXTENT, Kind, Mark
from diffkeeper.model.late import LateReadings
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    Flag,
    HoleFound,
    HoleReread,
    Inode,
    LateData,
)
from unit.test_model_resolve import ROOT, SUB, Scene, entry, folder, inode, late

HOLE = Flag.HOLE


@pytest.fixture
def scene() -> Scene:
    """Return a fresh scene."""
    return Scene()


def found(scene: Scene, of: Inode, offset: int = 0, length: int = 0, **more: Any) -> Any:
    fields = {"inode": of, "parent": ROOT, "name": b"", "offset": offset, "length": length, "count": 3}
    return scene.feed(HoleFound, flags=HOLE, **(fields | more))


def reread(scene: Scene, of: Inode, readings: Any = (), offset: int = 0, length: int = 0, **more: Any) -> Any:
    fields = {"inode": of, "parent": ROOT, "name": b"", "offset": offset, "length": length, "xattr_names": None}
    return scene.feed(HoleReread, readings, **(fields | more))


def test_from_the_change_until_the_reading_a_file_is_in_doubt(scene: Scene) -> None:
    (event,) = found(scene, inode(3, size=8), 0, 3)
    assert (event.kind, event.marks, event.path) == (Kind.RESYNC, Mark.HOLE, b"f")
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert node.inexact
    assert scene.read(b"f") == b"old data"
    (event,) = reread(scene, inode(3, size=8), [late(1, inode(3), 0, b"NEW")], 0, 3)
    assert (event.detail, event.marks) == (RESYNC_EXTENT, Mark.HOLE)
    assert not node.inexact
    assert scene.read(b"f") == b"NEW data"
    assert scene.resolver.counters["unexplained"] == 3


def test_a_disturbed_reading_leaves_doubt(scene: Scene) -> None:
    found(scene, inode(3, size=8), 0, 3)
    reread(scene, inode(3, size=8), [late(1, inode(3), 0, b"NEW")], 0, 3, is_exact=False)
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert node.inexact == "read later than it was written"


def test_a_file_that_changed_while_it_was_read_stays_in_doubt(scene: Scene) -> None:
    reread(scene, inode(3, size=8), [late(1, inode(3), 0, b"NEW")], 0, 3, flags=HOLE)
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert node.inexact


def test_what_was_not_read_of_an_extent_is_unknown(scene: Scene) -> None:
    (event,) = reread(scene, inode(3, size=8), [late(1, inode(3), 1, b"E")], 0, 4)
    assert event.marks & Mark.UNKNOWN_DATA
    assert [(piece.offset, piece.length, bool(piece.blob)) for piece in event.data] == [
        (0, 1, False),
        (1, 1, True),
        (2, 2, False),
    ]


def test_a_file_read_to_its_end_has_the_size_that_it_had_then(scene: Scene) -> None:
    (event,) = reread(scene, inode(3, size=2), [late(1, inode(3), 0, b"ab")], 0, 2, xattr_names=frozenset())
    assert event.detail == RESYNC_CONTENT
    assert scene.read(b"f") == b"ab"


def test_a_file_that_came_without_a_call_comes_into_the_tree(scene: Scene) -> None:
    core = inode(9, size=4)
    assert found(scene, core, 0, 4, parent=SUB, name=b"core") == []
    (event,) = reread(scene, core, [late(1, core, 0, b"core")], 0, 4, parent=SUB, name=b"core")
    assert (event.kind, event.path) == (Kind.RESYNC, b"sub/core")
    assert scene.read(b"sub/core") == b"core"
    assert scene.write(core, 4, b"!")[0].path == b"sub/core"


def test_of_a_file_that_came_with_one_extent_read_the_rest_is_unknown(scene: Scene) -> None:
    core = inode(9, size=8)
    (event,) = reread(scene, core, [late(1, core, 4, b"core")], 4, 4, parent=SUB, name=b"core")
    assert event.marks & Mark.UNKNOWN_DATA
    assert event.data[0].length == 4
    assert not event.data[0].blob


def test_what_could_not_be_read_again_stays_in_doubt_and_is_counted(scene: Scene) -> None:
    observation = HoleReread(1, 1010, 1005, 1010, 7, 7, Flag(0), -13, inode(3), ROOT, b"f", 0, 0, None)
    scene.resolver.feed(observation)
    assert scene.resolver.counters["unexplained_unread"] == 1
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert node.inexact


def test_a_directory_gets_the_entries_that_were_listed(scene: Scene) -> None:
    new, moved = inode(9, size=3), inode(3, size=8)
    listed = [entry(1, SUB, b"new", new), late(1, new, 0, b"new"), entry(1, SUB, b"moved", moved)]
    reread(scene, folder(2), listed)
    assert scene.paths() == {b"sub", b"f", b"sub/new", b"sub/moved"}
    reread(scene, folder(1), [entry(2, ROOT, b"sub", folder(2))])
    assert scene.paths() == {b"sub", b"sub/new", b"sub/moved"}
    assert scene.read(b"sub/new") == b"new"
    assert scene.read(b"sub/moved") == b"old data"


def test_extended_attributes_become_those_that_were_read(scene: Scene) -> None:
    one = inode(3, size=8)
    fields = {"op": AttributeOp.SETXATTR, "inode": one}
    scene.feed(AttributeChanged, xattr_name=b"user.gone", xattr_value=b"1", **fields)
    scene.feed(AttributeChanged, flags=HOLE, xattr_name=b"user.new", xattr_value=b"2", **fields)
    reread(scene, one, [late(1, one, 0, b"old data")], 0, 8, xattr_names=frozenset([b"user.new"]))
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert node.xattrs == {b"user.new": b"2"}


def test_readings_wait_for_their_rereading_though_they_stand_before_it() -> None:
    late_readings = LateReadings()
    file = Inode(1, 5, 0, stat.S_IFREG | 0o644, 1, 0, 0, 3, 0)
    reading = LateData(-15, 15, 12, 15, 0, 0, Flag(0), 0, 7, file, 0, b"abc", 12, 15, False)
    after = HoleReread(7, 20, 10, 20, 0, 0, Flag(0), 0, file, Base(1, 1, 0), b"f", 0, 3, None)
    late_readings.note([reading, after])
    assert list(late_readings.join([reading, after])) == [(after, (reading,), True)]


def test_a_hole_disturbs_a_late_reading() -> None:
    late_readings = LateReadings()
    file = Inode(1, 5, 0, stat.S_IFREG | 0o644, 1, 0, 0, 3, 0)
    reading = LateData(-15, 15, 12, 15, 0, 0, Flag(0), 0, 7, file, 0, b"abc", 12, 15, False)
    hole = HoleFound(6, 13, 13, 14, 0, 0, HOLE, 0, file, Base(1, 1, 0), b"f", 2, 9, 1)
    after = HoleReread(7, 20, 10, 20, 0, 0, Flag(0), 0, file, Base(1, 1, 0), b"f", 0, 3, None)
    late_readings.note([hole, reading, after])
    assert [is_exact for one, _, is_exact in late_readings.join([hole, reading, after]) if one is after] == [False]
