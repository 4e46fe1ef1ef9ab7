"""The states of a trace and the bytes in them: the nearest checkpoint, what came after it, and where content is.

Loaded when a state is asked for: a timeline needs none.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from diffkeeper.base import Base
from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Event
from diffkeeper.model.promised import is_promised
from diffkeeper.model.tree import Tree
from diffkeeper.processing.known_bytes import Bytes
from diffkeeper.processing.untouched import named_base, recorded_base, seen_until_ns
from diffkeeper.store.checkpoint import Checkpoints
from diffkeeper.store.content import ContentReader
from diffkeeper.store.eventlog import EventReader
from diffkeeper.store.format import SessionFacts
from diffkeeper.store.nameless import Nameless
from diffkeeper.store.rocks import RocksStore


class _Fetched:
    """Put files without a name into a tree when an event is about them."""

    def __init__(self, tree: Tree, nameless: Nameless, note: Callable[[DamagedTraceError], None]) -> None:
        self._tree = tree
        self._nameless = nameless
        self._note = note
        self._known = frozenset(tree.nodes)
        self._end = tree.next_number  # nodes from here on were made by events

    def before(self, event: Event) -> None:
        """Fetch what an event needs."""
        for number in (event.node, event.source):
            if 0 < number < self._end and number not in self._tree.nodes and number not in self._known:
                self._fetch(number)

    def _fetch(self, number: int) -> None:
        try:
            node = self._nameless.find(number)
        except DamagedTraceError as error:
            self._note(error)
            return
        if node is not None:
            self._tree.insert(node)


class States:
    """Give the tree after any event."""

    def __init__(
        self, rocks: RocksStore, events: EventReader, facts: SessionFacts, base: str | None, *, is_lossless: bool
    ) -> None:
        """Take an opened store; ``base`` as Trace.open takes it."""
        self._events = events
        self._facts = facts
        self._damage: list[str] = []
        self._rocks = rocks
        self._checkpoints = Checkpoints(rocks, events.beginning.number)
        self.content = Bytes(ContentReader(rocks), self._base(base, is_lossless=is_lossless))

    def close(self) -> None:
        """Close what is open of the base."""
        self.content.base.close()

    @property
    def damage(self) -> list[str]:
        """Return in words which saved trees could not be read."""
        return [*self._checkpoints.damage, *self._damage]

    def tree(self, number: int) -> Tree:
        """Return the tree after an event: the nearest checkpoint, and what came after it."""
        nearest, tree = self._checkpoints.load(number)
        if nearest < number:
            fetched = _Fetched(tree, self._checkpoints.nameless(nearest), self._note)
            for event in self._events.events(nearest + 1, number):
                fetched.before(event)
                tree.apply(event)
        return tree

    def _note(self, error: DamagedTraceError) -> None:
        words = f"Files without a name cannot be read: {error}"
        if words not in self._damage:
            self._damage.append(words)

    def has(self, blob: int) -> bool:
        """Say whether the bytes of a blob can be had."""
        return not is_promised(blob) or self.content.has(blob)

    def _base(self, folder: str | None, *, is_lossless: bool) -> Base:
        if folder == "":
            return Base((), lambda blob: None)
        if folder is not None:
            return named_base(self._facts, self._ends, os.fsencode(folder))
        return recorded_base(self._facts, self._ends, seen_until_ns(self._facts, is_lossless=is_lossless))

    def _ends(self) -> tuple[Tree, Tree]:
        """Return the baseline, which stays though its bytes may have been dropped, and the last state."""
        return Checkpoints(self._rocks).load(0)[1], self.tree(self._events.count)
