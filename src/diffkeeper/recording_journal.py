"""Keep the engine in free segments while it drains, and have the filled ones processed.

The engine must never wait for the disk to make room: some free segments are always ahead of it. When much has piled up,
a worker process begins to process while the command still runs, and hands back segments that may be used again.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from diffkeeper.engines.protocol import Engine, Progress
from diffkeeper.errors import TraceError
from diffkeeper.store.format import SESSION_NAME, STORE_NAME, SessionFacts, disk_bytes
from diffkeeper.store.journal import SegmentPool, most_journal_bytes, remove_journal, segment_bytes_for
from diffkeeper.verification.noting import note
from diffkeeper.verification.result import DONE, Verification

if TYPE_CHECKING:
    from diffkeeper.patience import Patience
    from diffkeeper.processing.background import Background
    from diffkeeper.processing.processor import Processor
    from diffkeeper.store.rocks import RocksStore

_AHEAD_AT_FIRST = 2  # many recordings do not fill one
_AHEAD = 4  # at 200 MB/s a segment of 16 MiB lasts 80 ms, three ticks of the helper
_SPARE = 2  # free segments beyond that, which a trace of a limited size keeps
_WORKER_AFTER_SEGMENTS = 2  # what fills more is too much to be begun after the command
PUT_OFF_SEGMENTS = 64  # a gibibyte: where the trace may not be kept, processing may be for nothing


class RingJournal:
    """Be the ring's side of the journal of one recording; a context manager."""

    def __init__(
        self,
        trace_dir: Path,
        engine: Engine,
        max_bytes: int = 0,
        *,
        drops: bool = False,
        has_worker: bool = True,
        memory_bytes: int = 256 << 20,
    ) -> None:
        """Own nothing yet; without ``has_worker`` all waits for the end, or for a reader.

        The trace may take ``max_bytes``, 0 for any; if it ``drops`` its oldest history for that, it has a worker.
        Processing keeps to ``memory_bytes``.
        """
        self._memory_bytes = memory_bytes
        self._has_worker = has_worker or drops
        self._trace_dir = trace_dir
        self._engine = engine
        self.worker_after = _WORKER_AFTER_SEGMENTS  # were filled
        self._max_bytes = max_bytes
        self._drops = drops
        self._is_stopped = False
        size = segment_bytes_for(max_bytes)
        self._most_segments = most_journal_bytes(max_bytes) // size if drops else 0
        self._pool = SegmentPool(trace_dir, size)
        self._given: list[int] = []
        self._free = 0
        self._filled = 0
        self._worker: Background | None = None
        self._store: RocksStore | None = None
        self.disturbed = 0  # opens that failed as they would not wait for a lease
        self.shortage = ""  # why segments could not be made when they were needed; the ring may have made up for it

    def __enter__(self) -> RingJournal:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker, if one still runs."""
        if self._worker is not None:
            self._worker.close()
        self._close_store()
        self._pool.close()

    def first_segments(self) -> tuple[tuple[int, int], ...]:
        """Return the segments that the engine starts with."""
        segments = self._pool.create(_AHEAD_AT_FIRST)
        self._note_given(segments)
        return tuple(segments)

    def open_store(self) -> None:
        """Open the store, which takes ten fsyncs, while nobody waits; processing needs it after the command."""
        from diffkeeper.store.rocks import RocksStore

        masks = hasattr(signal, "pthread_sigmask")
        former = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()) if masks else ()  # RocksDB's threads
        try:
            with contextlib.suppress(TraceError):  # processing tries again and says why it fails
                self._store = RocksStore.create(self._trace_dir / STORE_NAME, is_bounded=self._drops)
        finally:
            if masks:
                signal.pthread_sigmask(signal.SIG_SETMASK, former)

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def feed(self) -> Progress:
        """Take the engine's news and make up for the segments that it filled."""
        progress = self._engine.progress()
        self._make_up_for(progress)
        if self._drops and progress.filled and self._worker is not None:
            self._use_again(self._worker.advance())  # not at the next tick: there may be little room till then
        return progress

    def _make_up_for(self, progress: Progress) -> bool:
        """Give as many segments as were filled; return whether there was room. What lacks comes with the next tick."""
        self._free -= len(progress.filled)
        self._filled += len(progress.filled)
        try:
            while self._filled and self._free < _AHEAD and self._has_room:
                self._give(self._pool.create())
        except OSError as error:
            self.shortage = f"no room for the journal in {self._trace_dir}: {error.strerror}"
            return False
        return True

    @property
    def _has_room(self) -> bool:
        """Say whether there may be one more segment; without one the drain waits, and the ring fills."""
        return self._is_stopped or not self._most_segments or self._pool.count < self._most_segments

    @property
    def is_full(self) -> bool:
        """Say whether the trace has the size that it may have, and no room can be made."""
        if not self._max_bytes or self._is_stopped:
            return False
        if self._drops:
            return self._worker is not None and self._worker.is_full
        return disk_bytes(self._trace_dir) > self._max_bytes // 8 * 7  # what the ring holds is still to come

    @property
    def worker_fileno(self) -> int:
        """Return a descriptor that is readable when ``hear`` has news, -1 if there is none."""
        return -1 if self._worker is None or not self._drops else self._worker.fileno()

    def hear(self) -> bool:
        """Use again what the worker says is safe; return whether there will be more."""
        numbers = None if self._worker is None else self._worker.recyclable()
        self._use_again(numbers or [])
        return numbers is not None

    def _use_again(self, numbers: list[int]) -> None:
        """Give segments that are safe in the store to the engine, or remove them if a burst alone needed them."""
        for number in numbers:
            if self._is_stopped or (self._drops and self._free >= _AHEAD + _SPARE):
                self._pool.remove(number)
            else:
                self._give([(number, self._pool.recycle(number))])

    def tick(self) -> None:
        """Let the worker go on, and start it once much has been filled."""
        if self.shortage:
            self._make_up_for(Progress())
        if self._drops and not self._is_stopped:
            self._make_up_for(Progress())
        if self._worker is None and self._has_worker and self._filled >= self.worker_after:
            from diffkeeper.processing.background import Background  # most recordings never come here

            self._close_store()
            self._worker = Background(self._trace_dir, self._memory_bytes)
        if self._worker is not None:
            self._use_again(self._worker.advance())

    def stop(self) -> Mapping[str, int]:
        """End the capture; return what was lost, by channel."""
        self._is_stopped = True
        progress = self._engine.stop(self._make_up_for)
        for number in self._given[len(self._given) - progress.free_segments :]:
            self._pool.remove(number)  # never used: where the disk is full, this is the room that processing needs
        self.disturbed = progress.disturbed
        return progress.lost

    @property
    def is_whole(self) -> bool:
        """Say whether all that was written is still there."""
        return self._pool.is_whole and (self._trace_dir / SESSION_NAME).exists()

    def process(self, facts: SessionFacts, patience: Patience, *, verifies: bool) -> list[str]:
        """Process what the journal holds into the store, add what was counted to the facts, return what it lacks.

        With ``verifies`` the last state is then held against the live files. Raises OutOfTimeError when ``patience``
        ends before all is processed; what is verified by then is not told.
        """
        if self._worker is not None:
            return self._process_by(self._worker, facts, patience, verifies=verifies)
        from diffkeeper.processing.processor import Processor  # RocksDB, which nothing needs before

        store = self._trace_dir / STORE_NAME
        with Processor(
            self._trace_dir, store, self._store, patience=patience, memory_bytes=self._memory_bytes
        ) as processor:
            totals = processor.finish()
            facts.counters.update(totals.summary())
            if verifies:
                note(facts, lambda: _verification(processor, self._trace_dir, patience))
                if facts.verification == DONE:
                    facts.counters.update(totals.summary())  # with what was read back
            return _lacks(processor)

    def _process_by(self, worker: Background, facts: SessionFacts, patience: Patience, *, verifies: bool) -> list[str]:
        try:
            facts.counters.update(worker.finish(verifies=verifies, patience=patience))
            if verifies:
                note(facts, lambda: _verification_by(worker, facts))
        finally:
            worker.close()  # before the trace is sealed: a reader may begin as soon as it is
        return _lacks(worker)

    def remove(self) -> None:
        """Remove the journal of a trace that was sealed with all of it processed."""
        self._pool.close()
        remove_journal(self._trace_dir)

    def _give(self, segments: list[tuple[int, int]]) -> None:
        if segments:
            self._engine.add_segments(segments)
            self._note_given(segments)

    def _note_given(self, segments: list[tuple[int, int]]) -> None:
        self._given += [number for number, _ in segments]
        self._free += len(segments)


def _verification_by(worker: Background, facts: SessionFacts) -> Verification:
    document = worker.verification()
    facts.counters.update(document["counted"])
    return Verification.from_json(document["found"])


def _verification(processor: Processor, trace_dir: Path, patience: Patience) -> Verification:
    from diffkeeper.verification.run import verify  # after the command

    return verify(processor, trace_dir, patience)


def _lacks(processed: Processor | Background) -> list[str]:
    """Return in words what keeps a journal that was processed from being whole."""
    return processed.damage or ([] if processed.has_end else ["the journal did not reach the end of the recording"])
