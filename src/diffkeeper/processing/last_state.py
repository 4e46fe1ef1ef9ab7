"""The last state of a recording that was processed, open to be corrected by what is found on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffkeeper.model.blobs import BlobSink
from diffkeeper.model.event import Event, Kind
from diffkeeper.model.tree import Tree
from diffkeeper.model.verdict import judge
from diffkeeper.processing.known_bytes import Bytes
from diffkeeper.processing.processor import Processor
from diffkeeper.processing.totals import Totals
from diffkeeper.processing.untouched import recorded_base, seen_until_ns
from diffkeeper.store.content import ContentReader
from diffkeeper.store.format import read_session


class LastState:
    """Hold what a Processor has finished; ``tree`` is the state as readers will see it, to be changed by ``resync``."""

    def __init__(self, processor: Processor, trace_dir: Path) -> None:
        self._processor = processor
        self._trace_dir = trace_dir
        self._output = processor._output
        self._end_ns = _end_ns(processor, trace_dir)
        self.tree: Tree = processor._tree
        self.totals: Totals = processor._totals
        self.sink: BlobSink = self._output.content  # for bytes that are read back
        self._is_amended = False

    def reader(self) -> Bytes:
        """Return a reader of all content, that of untouched files included, as far as they are still as they were."""
        facts = read_session(self._trace_dir)
        losses = judge({**facts.counters, **self.totals.summary()}).losses
        until_ns = seen_until_ns(facts, is_lossless=not losses)
        base = recorded_base(facts, lambda: (self._output.baseline(), self.tree), until_ns)
        return Bytes(ContentReader(self._output._rocks), base)

    def resync(self, **fields: Any) -> Event:
        """Append a RESYNC event and apply it; see Event for the fields and Tree for its details."""
        event = Event(self._output.count + 1, self._end_ns, Kind.RESYNC, 0, 0, 0, **fields)
        self.tree.apply(event)
        self._processor._store([event])
        self._is_amended = True
        return event

    def commit(self) -> None:
        """Put what ``resync`` appended into the store, all of it or, after a kill, nothing."""
        if self._is_amended:
            self._processor._commit()
            self._is_amended = False


def _end_ns(processor: Processor, trace_dir: Path) -> int:
    """Return when the recording ended: with the command, or with the last event after that."""
    assert processor._resolver is not None, "there is a resolver once everything is processed"
    facts = read_session(trace_dir)
    return max(processor._resolver._ledger._last_ns, (facts.end_monotonic_ns or 0) - facts.start_monotonic_ns)
