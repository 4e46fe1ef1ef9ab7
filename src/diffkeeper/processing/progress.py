"""How far processing has come: the record that goes into the store together with what it speaks of.

A commit puts events and this record at once, so that after a kill the store is as it was after some commit.
From it a new worker goes on with the batches that the record does not cover, passing over the observations in them that
were resolved already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.values import dataclass
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore

_KEY = Key.FACT + b"progress"


@dataclass(slots=True)
class Progress:
    """Hold what was processed by the time of a commit."""

    baseline_is_whole: bool = False
    covered: int = 0  # every observation of the ring's batches up to this one was resolved
    read: int = 0  # the last batch that was read
    released_to_ns: int = 0  # what batches up to ``read`` hold up to this time was resolved
    number: int = 0  # the last event; there is a checkpoint just after it
    has_end: bool = False  # the end of the ring's stream was read
    is_finished: bool = False
    totals: dict[str, Any] = field(default_factory=dict)
    resolver: dict[str, Any] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)

    def to_item(self) -> tuple[bytes, bytes]:
        """Return the key and the value for the store."""
        return _KEY, json.dumps(asdict(self), separators=(",", ":")).encode("ascii")


def read_progress(rocks: RocksStore) -> Progress | None:
    """Return the record of a store, None if nothing was committed; raises DamagedTraceError."""
    value = rocks.get(_KEY)
    if value is None:
        return None
    try:
        document: Mapping[str, Any] = json.loads(value)
        return Progress(**document)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedTraceError(f"the record of what was processed cannot be read: {error}") from error
