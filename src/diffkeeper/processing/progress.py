"""How far processing has come: the record that goes into the store together with what it speaks of.

A commit puts events and this record at once, so that after a kill the store is as it was after some commit.
From it a new worker goes on with the batches that the record does not cover, passing over the observations in them that
were resolved already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.values import dataclass
from diffkeeper.store import zstd
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore

_KEY = Key.FACT + b"progress"
_RESUME_KEY = Key.FACT + b"resume"
_RESUMED_TOTALS = ("nodes", "written", "processes")  # they grow with the trace, and readers have no use for them
_MOST_BYTES = 1 << 30


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

    def to_items(self) -> list[tuple[bytes, bytes]]:
        """Return keys and values for the store: what readers need, and what only going on needs."""
        document = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "resolver"}
        totals = document["totals"] = dict(self.totals)
        resumed = {name: totals.pop(name) for name in _RESUMED_TOTALS if name in totals}
        resume = {"totals": resumed, "resolver": self.resolver}
        return [(_KEY, _dumped(document)), (_RESUME_KEY, zstd.compress(_dumped(resume)))]


def _dumped(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def read_progress(rocks: RocksStore) -> Progress | None:
    """Return the record of a store without what only going on needs, None if nothing was committed.

    Raises DamagedTraceError.
    """
    value = rocks.get(_KEY)
    if value is None:
        return None
    try:
        document: Mapping[str, Any] = json.loads(value)
        return Progress(**document)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedTraceError(f"the record of what was processed cannot be read: {error}") from error


def read_resumable(rocks: RocksStore) -> Progress | None:
    """Return the whole record of a store, None if nothing was committed; raises DamagedTraceError."""
    progress = read_progress(rocks)
    value = rocks.get(_RESUME_KEY)
    if progress is None or value is None:
        return progress  # as stores were written before there were two records
    try:
        resume: Mapping[str, Any] = json.loads(zstd.decompress(value, _MOST_BYTES))
        progress.totals |= resume["totals"]
        progress.resolver = resume["resolver"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedTraceError(f"the record of what was processed cannot be read: {error}") from error
    return progress
