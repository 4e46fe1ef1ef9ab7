"""While a request may be writing to a file, no state of that file is vouched for."""

from __future__ import annotations

import pytest

from diffkeeper.model.event import PENDING_ENDS, Kind
from diffkeeper.model.node import PENDING
from diffkeeper.model.observation import Flag, RequestSeen
from unit.test_model_resolve import Scene, inode

F = inode(3, size=8)


@pytest.fixture
def scene() -> Scene:
    """Return a fresh scene."""
    return Scene()


def request(scene: Scene, of: int, is_over: bool = False) -> list[int]:
    events = scene.feed(RequestSeen, inode=F, offset=0, length=0, of=of, is_over=is_over)
    assert all(event.kind == Kind.PENDING for event in events)
    return [event.detail for event in events]


def doubt(scene: Scene) -> str:
    node = scene.tree.lookup(b"f")
    assert node is not None
    return node.inexact


def test_a_file_is_in_doubt_until_the_last_request_has_ended(scene: Scene) -> None:
    assert request(scene, 1) == [0]
    assert request(scene, 2) == []
    assert request(scene, 1, is_over=True) == []
    assert doubt(scene) == PENDING
    assert request(scene, 2, is_over=True) == [PENDING_ENDS]
    assert not doubt(scene)


def test_a_write_meanwhile_neither_ends_the_doubt_nor_adds_another(scene: Scene) -> None:
    request(scene, 1)
    scene.write(F, 0, b"all of it")
    assert doubt(scene) == PENDING
    request(scene, 1, is_over=True)
    assert not doubt(scene)
    assert scene.read(b"f") == b"all of it"


def test_other_reasons_to_doubt_outlive_the_request(scene: Scene) -> None:
    request(scene, 1)
    scene.write(F, 1, b"AAA", flags=Flag.AMBIGUOUS)
    request(scene, 1, is_over=True)
    assert doubt(scene)
    assert PENDING not in doubt(scene)


def test_the_end_of_a_request_whose_begin_was_not_seen_ends_nothing(scene: Scene) -> None:
    request(scene, 1)
    assert request(scene, 7, is_over=True) == []
    assert doubt(scene) == PENDING
