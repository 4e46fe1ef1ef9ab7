"""What is made of looks at the files: only what is news, and always inexact."""

from __future__ import annotations

import stat
from typing import Any

import pytest

from diffkeeper.model.event import (
    LOOK_APPEARED,
    LOOK_MOVED,
    RESYNC_CONTENT,
    RESYNC_EXTENT,
    RESYNC_NO_XATTR,
    RESYNC_REMOVED,
    RESYNC_XATTR,
    Event,
    Kind,
    Mark,
)
from diffkeeper.model.observation import Base, Flag, Inode, Looked, LookOp, Read
from unit.test_model_resolve import ROOT, START, SUB, Scene


@pytest.fixture
def scene() -> Scene:
    """Return a fresh scene: a root, a folder "sub" and a file "f" that holds "old data"."""
    return Scene()


def inode(number: int, size: int = 0) -> Inode:
    """Return a regular file as the scene's has it."""
    return Inode(1, number, -1, stat.S_IFREG | 0o644, 1, 0, 0, size, 0)


def feed(scene: Scene, **fields: Any) -> list[Event]:
    scene.sequence += 1
    t_ns = START + 10 * scene.sequence
    return scene.resolver.feed(Looked(scene.sequence, t_ns, t_ns - 5, t_ns, 0, 0, Flag(0), 0, **fields))


def look(scene: Scene, op: LookOp, of: Inode, name: bytes = b"", parent: Base = ROOT, **more: Any) -> list[Event]:
    events = feed(scene, op=op, inode=of, parent=parent, name=name, **more)
    assert all(event.kind == Kind.CHANGED and event.marks & Mark.INEXACT and not event.process for event in events)
    return events


def found(scene: Scene, of: Inode, name: bytes, data: bytes | None = None, **more: Any) -> list[Event]:
    if data:
        assert look(scene, LookOp.BYTES, of, data=data, read=Read.WHOLE) == []
    read = Read.AS_KNOWN if data is None else Read.WHOLE
    return look(scene, LookOp.FOUND, of, name, **({"read": read} | more))


def test_a_new_file_appeared_with_its_bytes(scene: Scene) -> None:
    (event,) = found(scene, inode(9, size=3), b"new", b"abc", parent_mtime_ns=77)
    assert (event.detail, event.path, event.size, event.length) == (LOOK_APPEARED, b"new", 3, 3)
    assert scene.read(b"new") == b"abc"
    node = scene.tree.lookup(b"new")
    assert node is not None
    assert node.inexact
    root = scene.tree.lookup(b"")
    assert root is not None
    assert root.meta.mtime_ns == 77


def test_what_is_as_it_was_is_no_news(scene: Scene) -> None:
    known = inode(3, size=8)
    assert found(scene, known, b"f") == []
    assert found(scene, known, b"f", b"old data") == []
    assert scene.read(b"f") == b"old data"


def test_other_bytes_are_news_and_replace_all(scene: Scene) -> None:
    (event,) = found(scene, inode(3, size=3), b"f", b"NEW")
    assert (event.detail, event.size) == (RESYNC_CONTENT, 3)
    assert scene.read(b"f") == b"NEW"


def test_extents_replace_what_was_there_and_the_size_is_told(scene: Scene) -> None:
    look(scene, LookOp.BYTES, inode(3, size=6), data=b"NEW", read=Read.EXTENTS, offset=0)
    (event,) = look(scene, LookOp.FOUND, inode(3, size=6), b"f", read=Read.EXTENTS)
    assert (event.detail, event.length, event.size) == (RESYNC_EXTENT, 3, 6)
    assert scene.read(b"f") == b"NEW da"


def test_bytes_that_may_not_be_read_are_unknown(scene: Scene) -> None:
    (event,) = look(scene, LookOp.FOUND, inode(3, size=8), b"f", read=Read.UNREADABLE)
    assert event.marks == Mark.INEXACT | Mark.UNKNOWN_DATA
    (event,) = look(scene, LookOp.FOUND, inode(9, size=5), b"secret", read=Read.UNREADABLE)
    assert event.marks & Mark.UNKNOWN_DATA


def test_metadata_alone_is_told_without_bytes(scene: Scene) -> None:
    node = scene.tree.lookup(b"f")
    assert node is not None
    changed = Inode(*inode(3, size=8).identity, stat.S_IFREG | 0o600, 1, 0, 0, 8, 0)
    (event,) = found(scene, changed, b"f")
    assert (event.detail, event.data) == (0, ())
    assert node.meta.mode == stat.S_IFREG | 0o600


def test_a_name_that_is_gone_takes_its_file_along(scene: Scene) -> None:
    (event,) = look(scene, LookOp.GONE, inode(3), b"f")
    assert (event.detail, event.path) == (RESYNC_REMOVED, b"f")
    assert scene.tree.lookup(b"f") is None
    assert look(scene, LookOp.GONE, inode(3), b"f") == []
    (event,) = found(scene, inode(3, size=2), b"again", b"xy")
    assert event.detail == LOOK_APPEARED


def test_a_file_under_another_name_has_moved_or_has_one_more(scene: Scene) -> None:
    (event,) = found(scene, inode(3, size=8), b"g", parent2=ROOT, name2=b"f")
    assert (event.detail, event.path, event.path2) == (LOOK_MOVED, b"f", b"g")
    assert scene.paths() == {b"sub", b"g"}
    twice = Inode(*inode(3, size=8).identity, stat.S_IFREG | 0o644, 2, 0, 0, 8, 0)
    (event,) = found(scene, twice, b"h", parent=SUB)
    assert (event.detail, event.path) == (0, b"sub/h")
    assert scene.paths() == {b"sub", b"g", b"sub/h"}
    assert scene.read(b"sub/h") == b"old data"


def test_a_moved_file_takes_the_place_of_another(scene: Scene) -> None:
    found(scene, inode(9, size=3), b"tmp", b"new")
    (event,) = found(scene, inode(9, size=3), b"f", parent2=ROOT, name2=b"tmp")
    assert event.detail == LOOK_MOVED
    assert scene.paths() == {b"sub", b"f"}
    assert scene.read(b"f") == b"new"


def test_an_inode_number_that_was_used_again_is_another_link(scene: Scene) -> None:
    link = Inode(1, 9, -1, stat.S_IFLNK | 0o777, 1, 0, 0, 1, 0)
    look(scene, LookOp.FOUND, link, b"l", data=b"a")
    (event,) = look(scene, LookOp.FOUND, link, b"l", data=b"b")
    assert event.detail == LOOK_APPEARED
    node = scene.tree.lookup(b"l")
    assert node is not None
    assert node.target == b"b"


def test_extended_attributes_are_those_that_were_found(scene: Scene) -> None:
    events = look(scene, LookOp.FOUND, inode(3, size=8), b"f", xattrs=((b"user.a", b"1"), (b"user.b", b"2")))
    assert [(event.detail, event.text) for event in events] == [(RESYNC_XATTR, b"user.a"), (RESYNC_XATTR, b"user.b")]
    (event,) = look(scene, LookOp.FOUND, inode(3, size=8), b"f", xattrs=((b"user.a", b"1"),))
    assert (event.detail, event.text) == (RESYNC_NO_XATTR, b"user.b")
    assert look(scene, LookOp.FOUND, inode(3, size=8), b"f", xattrs=None) == []


def test_an_entry_of_an_unknown_folder_is_unresolved(scene: Scene) -> None:
    events = feed(scene, op=LookOp.FOUND, inode=inode(9), parent=Base(1, 777, -1), name=b"lost")
    assert [event.marks for event in events] == [Mark.UNRESOLVED]


def test_rounds_and_failures_are_counted(scene: Scene) -> None:
    look(scene, LookOp.ROUND, inode(3))
    look(scene, LookOp.FAILED, inode(3))
    assert (scene.resolver.counters["looks"], scene.resolver.counters["unlooked"]) == (1, 1)
