"""What a loss makes doubtful, from when on, and what takes the doubt away."""

from __future__ import annotations

import pytest

from diffkeeper.model.event import RESYNC_CONFIRMED, RESYNC_EXTENT, Data, Event, Kind
from diffkeeper.model.extents import UNKNOWN
from diffkeeper.model.late import LateReadings
from diffkeeper.model.losses import FILE_IN_DOUBT, TREE_IN_DOUBT
from diffkeeper.model.observation import Base, DataOp, DataWritten, EventsLost, Flag, Held, LateData, Lost
from diffkeeper.trace.view import TreeView
from unit.test_model_resolve import START, Scene, inode

FILE = Base(1, 3, 0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def lose(scene: Scene, what: Lost, file: Base | None = FILE, count: int = 1, **fields: int) -> Event:
    (event,) = scene.feed(EventsLost, channel="ring", count=count, from_ns=START, what=what, file=file, **fields)
    return event


def f(scene: Scene):
    return scene.tree.lookup(b"r/f") or scene.tree.lookup(b"f")


def test_lost_bytes_of_a_known_file_are_unknown_and_the_rest_of_the_tree_is_exact(scene: Scene) -> None:
    event = lose(scene, Lost.BYTES, offset=2, length=3)
    assert (event.path, event.value, event.detail) == (b"f", b"bytes", 1)
    assert [tuple(piece)[:3] for piece in f(scene).content.pieces() if piece.blob == UNKNOWN] == [(2, 3, UNKNOWN)]
    assert f(scene).inexact == FILE_IN_DOUBT
    view = TreeView(scene.tree, scene.blobs)
    assert view.doubt == ""
    assert {entry.path: entry.content.value for entry in view.entries()} == {b"f": "unknown", b"sub": "exact"}


def test_what_is_written_within_the_window_may_have_come_before_what_was_lost(scene: Scene) -> None:
    lose(scene, Lost.BYTES, offset=0, length=8)
    scene.write(inode(3), 0, b"new data")
    assert f(scene).inexact == ""
    end = lose(scene, Lost.BYTES, count=0, offset=0, length=8)
    assert end.detail == 0
    assert f(scene).inexact == FILE_IN_DOUBT
    assert f(scene).content.has_unknown
    scene.write(inode(3), 0, b"new data")
    assert (f(scene).inexact, f(scene).content.has_unknown) == ("", False)


@pytest.mark.parametrize("what", [Lost.NAME, Lost.OPEN, Lost.UNKNOWN])
def test_a_loss_of_which_no_file_is_known_makes_every_entry_doubtful(scene: Scene, what: Lost) -> None:
    lose(scene, what, None)
    view = TreeView(scene.tree, scene.blobs)
    assert view.doubt == TREE_IN_DOUBT
    assert {entry.reason for entry in view.entries()} == {TREE_IN_DOUBT}
    assert view.stat(b"f").content.value == "inexact"
    root = scene.tree.roots[0][1]
    scene.tree.apply(Event(9, 0, Kind.RESYNC, 0, 0, 0, node=root, detail=RESYNC_CONFIRMED))
    assert TreeView(scene.tree, scene.blobs).doubt == ""


def test_a_loss_of_a_file_that_is_not_known_is_one_of_the_tree(scene: Scene) -> None:
    lose(scene, Lost.BYTES, Base(1, 99, 0), offset=0, length=1)
    assert TreeView(scene.tree, scene.blobs).doubt == TREE_IN_DOUBT


def test_what_a_file_has_grown_by_beyond_what_was_read_again_is_unknown(scene: Scene) -> None:
    node = f(scene)
    blob, start = scene.blobs.append(node.number, b"read")
    fields = {"detail": RESYNC_EXTENT, "offset": 8, "data": (Data(8, 4, blob, start),), "size": 20}
    scene.tree.apply(Event(9, 0, Kind.RESYNC, 0, 0, 0, node=node.number, **fields))
    assert [tuple(piece)[:2] for piece in node.content.pieces() if piece.blob == UNKNOWN] == [(12, 8)]


@pytest.mark.parametrize(("ino", "doubt", "reason"), [(3, "", FILE_IN_DOUBT), (2, TREE_IN_DOUBT, "")])
def test_a_lost_hole_spoils_its_file_and_one_of_a_directory_the_tree(
    scene: Scene, ino: int, doubt: str, reason: str
) -> None:
    lose(scene, Lost.HOLE, Base(1, ino, 0))
    assert TreeView(scene.tree, scene.blobs).doubt == doubt
    assert f(scene).inexact == reason


@pytest.mark.parametrize("what", [Lost.OUTPUT, Lost.PROCESS, Lost.CLOSE])
def test_what_changes_no_file_spoils_none(scene: Scene, what: Lost) -> None:
    lose(scene, what, None)
    assert TreeView(scene.tree, scene.blobs).doubt == ""
    assert scene.resolver.counters["lost_ring"] == 1


@pytest.mark.parametrize(("file", "is_exact"), [(FILE, False), (None, False), (Base(1, 77, 0), True)])
def test_a_late_reading_that_a_loss_may_have_changed_is_not_exact(file: Base | None, is_exact: bool) -> None:
    write = DataWritten(1, 100, 90, 110, 5, 5, Flag.BY_REFERENCE, 4, DataOp.WRITE, inode(3), 0, 4, ())
    reading = LateData(-1, 200, 190, 200, 5, 5, Flag(0), 0, 1, inode(3), 0, b"data", 190, 200, failed=False)
    lost = EventsLost(0, 150, 150, 160, 7, 7, Flag(0), 0, "ring", 1, 150, Lost.BYTES, file, 0, 4)
    readings = LateReadings()
    readings.note([write, reading, lost])
    assert [settled[2] for settled in readings.join([write])] == [is_exact]


def test_what_the_recorder_tells_of_itself_makes_no_process(scene: Scene) -> None:
    (held,) = scene.resolver.feed(Held(1, START + 5, START, START + 5, 0, 0, Flag(0), 0))
    assert held.process == 0
    assert not any(process.pid == 0 for process in scene.resolver.processes.values())
