"""The states of a trace and the bytes in them: the nearest checkpoint, what came after it, and where content is.

Loaded when a state is asked for: a timeline needs none.
"""

from __future__ import annotations

import os

from diffkeeper.base import Base
from diffkeeper.model.promised import is_promised
from diffkeeper.model.tree import Tree
from diffkeeper.processing.known_bytes import Bytes
from diffkeeper.processing.untouched import named_base, recorded_base, seen_until_ns
from diffkeeper.store.checkpoint import Checkpoints
from diffkeeper.store.content import ContentReader
from diffkeeper.store.eventlog import EventReader
from diffkeeper.store.format import SessionFacts
from diffkeeper.store.rocks import RocksStore


class States:
    """Give the tree after any event."""

    def __init__(
        self, rocks: RocksStore, events: EventReader, facts: SessionFacts, base: str | None, *, is_lossless: bool
    ) -> None:
        """Take an opened store; ``base`` as Trace.open takes it."""
        self._events = events
        self._facts = facts
        self._checkpoints = Checkpoints(rocks)
        self.content = Bytes(ContentReader(rocks), self._base(base, is_lossless=is_lossless))

    def close(self) -> None:
        """Close what is open of the base."""
        self.content.base.close()

    @property
    def damage(self) -> list[str]:
        """Return in words which saved trees could not be read."""
        return self._checkpoints.damage

    def tree(self, number: int) -> Tree:
        """Return the tree after an event: the nearest checkpoint, and what came after it."""
        nearest, tree = self._checkpoints.load(number)
        for event in self._events.events(nearest + 1, number) if nearest < number else ():
            tree.apply(event)
        return tree

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
        """Return the baseline and the last state."""
        return self.tree(0), self.tree(self._events.count)
