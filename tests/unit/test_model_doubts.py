"""What is in doubt about a file, and which readings end it."""

from __future__ import annotations

from typing import Any

import pytest

from diffkeeper.model.event import RESYNC_CONFIRMED, RESYNC_EXTENT
from diffkeeper.model.observation import Base, EventsLost, Flag, HoleFound, HoleReread, Lost
from unit.test_model_resolve import ROOT, START, Scene, folder, inode, late

F = inode(3, size=8)
KNOWN = Base(1, 3, 0)


@pytest.fixture
def scene() -> Scene:
    """Return a fresh scene."""
    return Scene()


def ambiguous(scene: Scene, offset: int, data: bytes, flags: int = 0, **more: Any) -> None:
    scene.write(F, offset, data, flags=Flag.AMBIGUOUS | flags, **more)


def settle(scene: Scene, offset: int, data: bytes, is_exact: bool = True, **more: Any) -> list[int]:
    fields = {"inode": F, "parent": ROOT, "name": b"", "offset": offset, "length": len(data), "xattr_names": None}
    readings = [late(1, F, offset, data)]
    events = scene.feed(HoleReread, readings, is_exact, is_settling=True, **(fields | more))
    return [event.detail for event in events]


def doubt(scene: Scene) -> str:
    node = scene.tree.lookup(b"f")
    assert node is not None
    return node.inexact


def test_a_reading_of_what_is_in_doubt_ends_the_doubt(scene: Scene) -> None:
    ambiguous(scene, 1, b"AAA")
    ambiguous(scene, 2, b"BBB")
    assert settle(scene, 1, b"AAAB") == [RESYNC_EXTENT, RESYNC_CONFIRMED]
    assert not doubt(scene)
    assert scene.read(b"f") == b"oAAABata"


def test_only_bytes_that_differ_are_stored_again(scene: Scene) -> None:
    ambiguous(scene, 1, b"AAA")
    before = sum(map(len, scene.blobs.blobs.values()))
    assert settle(scene, 0, b"oAAA") == [RESYNC_CONFIRMED]
    assert sum(map(len, scene.blobs.blobs.values())) == before


def test_a_reading_of_less_than_is_in_doubt_ends_nothing(scene: Scene) -> None:
    ambiguous(scene, 1, b"AAA")
    ambiguous(scene, 5, b"B")
    assert settle(scene, 1, b"AAA") == []
    assert doubt(scene)


def test_a_disturbed_reading_ends_nothing(scene: Scene) -> None:
    ambiguous(scene, 1, b"AAA")
    assert settle(scene, 1, b"AAA", is_exact=False) == []
    assert settle(scene, 1, b"AAA", flags=Flag.HOLE) == []
    assert settle(scene, 1, b"AA", length=3) == []
    assert doubt(scene)


def test_a_write_without_a_place_puts_all_bytes_in_doubt(scene: Scene) -> None:
    ambiguous(scene, 1, b"AAA", flags=Flag.FROM_DESCRIPTOR)
    assert settle(scene, 1, b"AAA") == []
    assert settle(scene, 0, b"odAAdata") == [RESYNC_EXTENT, RESYNC_CONFIRMED]


def test_doubt_that_no_write_brought_may_be_about_attributes_too(scene: Scene) -> None:
    node = scene.tree.lookup(b"f")
    assert node is not None
    node.xattrs[b"user.gone"] = b"1"
    lose(scene, Lost.METADATA)
    ambiguous(scene, 1, b"AAA")
    assert settle(scene, 0, b"old data") == []
    settle(scene, 0, b"old data", xattr_names=frozenset())
    assert not doubt(scene)
    assert node.xattrs == {}


def lose(scene: Scene, what: Lost, file: Base = KNOWN, count: int = 1) -> None:
    fields = {"channel": "ring", "count": count, "from_ns": START, "what": what, "file": file}
    scene.feed(EventsLost, **fields, offset=2, length=3)


def test_bytes_that_were_lost_are_known_again_once_they_are_read(scene: Scene) -> None:
    lose(scene, Lost.BYTES)
    assert scene.read(b"f") != b"old data"
    settle(scene, 2, b"XYZ")
    assert not doubt(scene)
    assert scene.read(b"f") == b"olXYZata"


def test_doubt_about_a_change_that_no_call_explains_waits_for_its_own_reading(scene: Scene) -> None:
    node = scene.tree.lookup(b"f")
    assert node is not None
    ambiguous(scene, 1, b"AAA")
    node.inexact += "; changed by nothing that was recorded"
    assert settle(scene, 0, b"old data") == []


def test_a_hole_lost_of_a_file_outside_is_no_loss(scene: Scene) -> None:
    lose(scene, Lost.HOLE, Base(1, 77, 0))
    lose(scene, Lost.HOLE, Base(1, 77, 0), count=0)
    assert not scene.resolver.counters["lost_ring"]


def test_a_hole_lost_of_a_file_that_is_known_only_at_the_end_of_its_window_is_a_loss(scene: Scene) -> None:
    lose(scene, Lost.HOLE, Base(1, 9, 0))
    scene.open(inode(9), folder(1), b"new")
    lose(scene, Lost.HOLE, Base(1, 9, 0), count=0)
    assert scene.resolver.counters["lost_ring"] == 1
    node = scene.tree.lookup(b"new")
    assert node is not None
    assert node.inexact


def test_certain_writes_do_not_widen_what_is_in_doubt(scene: Scene) -> None:
    ambiguous(scene, 1, b"AAA")
    scene.write(F, 6, b"C")
    settle(scene, 1, b"AAA")
    assert not doubt(scene)


def test_a_write_in_doubt_after_a_hole_leaves_its_own_range_behind(scene: Scene) -> None:
    scene.feed(HoleFound, flags=Flag.HOLE, inode=F, parent=ROOT, name=b"", offset=0, length=2, count=1)
    ambiguous(scene, 4, b"AA")
    fields = {"inode": F, "parent": ROOT, "name": b"", "offset": 0, "length": 2, "xattr_names": None}
    scene.feed(HoleReread, [late(1, F, 0, b"XX")], **fields)
    settle(scene, 4, b"BB")
    assert not doubt(scene)
    assert scene.read(b"f") == b"XXd BBta"
