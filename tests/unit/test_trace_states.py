"""The state after any event is the fold of the events up to it, whatever trees were saved on the way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from diffkeeper.model.event import Data, Event, Kind, Meta
from diffkeeper.model.tree import Tree
from diffkeeper.store.checkpoint import Checkpoints
from diffkeeper.store.eventlog import EventReader, EventWriter
from diffkeeper.store.format import Key, SessionFacts
from diffkeeper.store.rocks import RocksStore
from diffkeeper.trace.states import States

ROOT = 1
FILE = 0o100644
EVENTS = 400


class Play:
    """Make events at random, many of them about files that have no name any more."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.tree = Tree()
        self.tree.add_root(b"", (5, 2, 0), Meta(0o40755, 0, 0, 1))
        self.events: list[Event] = []
        self._names = 0

    def baseline(self) -> Tree:
        """Return the tree before the first event."""
        tree = Tree()
        tree.add_root(b"", (5, 2, 0), Meta(0o40755, 0, 0, 1))
        return tree

    def step(self) -> None:
        """Do one thing."""
        files = [node.number for node in self.tree.nodes.values() if node.content is not None]
        named = [number for number in files if self.tree.nodes[number].names]
        action = self.chance.choice([self._create, self._write, self._copy, self._unlink, self._link, self._replace])
        if len(named) < 3:
            action = self._create
        action(files, named)

    def _emit(self, kind: Kind, node: int, **fields: object) -> None:
        number = len(self.events) + 1
        links = len(self.tree.nodes[node].names) if node in self.tree.nodes else 1
        meta = Meta(FILE, 1, 1, number, max(0, links - (kind == Kind.UNLINK) + (kind == Kind.LINK)))
        event = Event(number, number, kind, 1, 1, 1, node=node, meta=meta, **fields)  # type: ignore[arg-type]
        self.tree.apply(event)
        self.events.append(event)

    def _name(self) -> bytes:
        self._names += 1
        return b"f%d" % self._names

    def _create(self, files: list[int], named: list[int]) -> None:
        self._emit(Kind.CREATE, self.tree.next_number, parent=ROOT, name=self._name())

    def _write(self, files: list[int], named: list[int]) -> None:
        offset, number = self.chance.randrange(50), len(self.events) + 1
        data = (Data(offset, 10, number, 0),)
        self._emit(Kind.WRITE, self.chance.choice(files), offset=offset, length=10, data=data)

    def _copy(self, files: list[int], named: list[int]) -> None:
        source = self.chance.choice(files)
        size = self.tree.nodes[source].content.size  # type: ignore[union-attr]
        self._emit(Kind.COPY, self.chance.choice(files), source=source, offset=0, length=size)

    def _unlink(self, files: list[int], named: list[int]) -> None:
        node = self.chance.choice(named)
        parent, name = min(self.tree.nodes[node].names)
        self._emit(Kind.UNLINK, node, parent=parent, name=name)

    def _link(self, files: list[int], named: list[int]) -> None:
        self._emit(Kind.LINK, self.chance.choice(files), parent2=ROOT, name2=self._name())

    def _replace(self, files: list[int], named: list[int]) -> None:
        node, other = self.chance.sample(named, 2)
        (parent, name), (parent2, name2) = min(self.tree.nodes[node].names), min(self.tree.nodes[other].names)
        names = {"parent": parent, "name": name, "parent2": parent2, "name2": name2}
        self._emit(Kind.RENAME, node, **names, replaced=other)


def _seen(tree: Tree) -> object:
    return [(path, node.number, node.meta, node.content) for path, node in tree.walk()]


@pytest.mark.parametrize("seed", range(4))
def test_every_state_is_the_fold_of_its_events(tmp_path: Path, seed: int) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    play, saved, writer = Play(seed), Checkpoints(rocks), EventWriter(rocks)
    saved.put(0, play.tree)
    while len(play.events) < EVENTS:
        play.step()
        if play.chance.random() < 0.05:
            saved.put(len(play.events), play.tree)
    writer.append(play.events)
    writer.flush()
    states = States(rocks, EventReader(rocks), SessionFacts(1), "", is_lossless=True)
    folded = play.baseline()
    for event in play.events:
        folded.apply(event)
        assert _seen(states.tree(event.number)) == _seen(folded), event.number
    assert states.damage == []
    assert list(rocks.scan(Key.NAMELESS)), "some files had no name when a tree was saved"


def test_files_without_a_name_that_cannot_be_read_are_told_of(tmp_path: Path) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    play, saved, writer = Play(1), Checkpoints(rocks), EventWriter(rocks)
    for _ in range(3):
        play._create([], [])
    node = next(number for number in play.tree.nodes if number != ROOT)
    play._unlink([], [node])
    saved.put(len(play.events), play.tree)
    play._link([node], [])
    writer.append(play.events)
    writer.flush()
    rocks.put_many((key, b"damaged") for key, _ in list(rocks.scan(Key.NAMELESS)))
    states = States(rocks, EventReader(rocks), SessionFacts(1), "", is_lossless=True)
    states.tree(len(play.events))
    assert ["without a name" in words for words in states.damage] == [True]
