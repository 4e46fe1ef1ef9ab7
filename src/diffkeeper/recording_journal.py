"""Keep the engine in free segments while it drains, and have the filled ones processed.

The engine must never wait for the disk to make room: some free segments are always ahead of it. When much has piled up,
a worker process begins to process while the command still runs, and hands back segments that may be used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from diffkeeper.engines.protocol import Engine, Progress
from diffkeeper.store.format import STORE_NAME, SessionFacts
from diffkeeper.store.journal import SegmentPool, remove_journal

if TYPE_CHECKING:
    from diffkeeper.processing.background import Background

_AHEAD_AT_FIRST = 2  # many recordings do not fill one
_AHEAD = 4  # at 200 MB/s a segment of 16 MiB lasts 80 ms, three ticks of the helper
_WORKER_AFTER_SEGMENTS = 8


class RingJournal:
    """Be the ring's side of the journal of one recording; a context manager."""

    def __init__(self, trace_dir: Path, trace_id: int, engine: Engine) -> None:
        """Own nothing yet."""
        self._trace_dir = trace_dir
        self._engine = engine
        self._pool = SegmentPool(trace_dir)
        self._free = 0
        self._filled = 0
        self._worker: Background | None = None

    def __enter__(self) -> RingJournal:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker, if one still runs."""
        if self._worker is not None:
            self._worker.close()
        self._pool.close()

    def first_segments(self) -> tuple[tuple[int, int], ...]:
        """Return the segments that the engine starts with."""
        self._free += _AHEAD_AT_FIRST
        return tuple(self._pool.create(_AHEAD_AT_FIRST))

    def feed(self) -> Progress:
        """Take the engine's news and make up for the segments that it filled."""
        progress = self._engine.progress()
        self._account(progress)
        if self._filled and self._free < _AHEAD:
            self._give(self._pool.create(_AHEAD - self._free))
        return progress

    def tick(self) -> None:
        """Let the worker go on, and start it once much has been filled."""
        if self._worker is None and self._filled >= _WORKER_AFTER_SEGMENTS:
            from diffkeeper.processing.background import Background  # most recordings never come here

            self._worker = Background(self._trace_dir)
        if self._worker is not None:
            self._give([(number, self._pool.recycle(number)) for number in self._worker.advance()])

    def stop(self) -> Mapping[str, int]:
        """End the capture; return what was lost, by channel."""
        progress = self._engine.stop()
        self._account(progress)
        return progress.lost

    def process(self, facts: SessionFacts) -> None:
        """Process what the journal holds into the store, and add what was counted to the facts."""
        if self._worker is not None:
            facts.counters.update(self._worker.finish())
        else:
            from diffkeeper.processing.processor import Processor  # RocksDB, which nothing needs before

            with Processor(self._trace_dir, self._trace_dir / STORE_NAME) as processor:
                facts.counters.update(processor.finish().summary())

    def remove(self) -> None:
        """Remove the journal of a trace that was sealed with all of it processed."""
        self._pool.close()
        remove_journal(self._trace_dir)

    def _account(self, progress: Progress) -> None:
        self._free -= len(progress.filled)
        self._filled += len(progress.filled)

    def _give(self, segments: list[tuple[int, int]]) -> None:
        if segments:
            self._engine.add_segments(segments)
            self._free += len(segments)
