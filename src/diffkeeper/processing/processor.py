"""Process a journal into a store: the baseline first, then the ring's batches, committing on the way.

    batches ─▶ decode ─▶ window ─▶ resolver ─▶ events, content ─▶ commit: checkpoint, events, progress

``advance`` takes what the journal holds by now and may be called while it grows; ``finish`` takes the rest and counts.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from diffkeeper.engines.decoder import MOST_BATCHES_OF_A_RECORD, Decoder
from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import LIMIT_FAILED, LIMIT_STOPPED, Event, Kind
from diffkeeper.model.late import Settled
from diffkeeper.model.observation import EventsLost, Flag, Observation
from diffkeeper.model.resolve import BlobSink, Resolver
from diffkeeper.patience import Patience
from diffkeeper.processing import plain_rows
from diffkeeper.processing.baseline_load import BaselineLoader
from diffkeeper.processing.before_images import load_images
from diffkeeper.processing.bounded import Bound, free_segments
from diffkeeper.processing.limits import MEMORY_BYTES
from diffkeeper.processing.output import Output
from diffkeeper.processing.plain_rows import PlainRun, Taken
from diffkeeper.processing.resolver_state import restore, state_of
from diffkeeper.processing.totals import Totals
from diffkeeper.processing.untouched import (
    StillThere,
    count_missing,
    promised_in,
    promises,
    recorded_folders,
    without_name,
)
from diffkeeper.processing.window import Window
from diffkeeper.rules import Rules
from diffkeeper.store.eventblock import EventColumns
from diffkeeper.store.format import FAIL, STORE_NAME, SessionFacts, read_session
from diffkeeper.store.journal import Batch, JournalReader
from diffkeeper.store.rocks import RocksStore

if TYPE_CHECKING:
    from diffkeeper.processing.excluding import Excluding

EVENTS_PER_CHECKPOINT = 20_000
BYTES_PER_COMMIT = 128 << 20  # of the journal, whose segments may be used again after a commit
SETTLED_AT_ONCE = 4_096
NEVER_NS = 1 << 62  # a command that never started: everything is baseline
_KIND_RECORDS = 1
_KIND_END = 4


class Processor:
    """Process the journal of a trace into a store; use as a context manager."""

    def __init__(
        self,
        trace_dir: Path,
        store_path: Path,
        opened: RocksStore | None = None,
        *,
        takes_runs: bool = True,
        patience: Patience | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """Open the store unless it is ``opened``, going on where a former worker was stopped.

        All that processes raises OutOfTimeError when ``patience`` ends; the journal must then be kept. What waits is
        kept to ``memory_bytes`` with all else but the tree.
        Without ``takes_runs`` everything goes one by one, as it does where there is no native library.
        """
        self._trace_dir = trace_dir
        self._check_time = (patience or Patience()).check
        facts = self._facts()
        is_own = store_path.parent == trace_dir  # a reader's cache is elsewhere
        self._bound = Bound.of(trace_dir, facts) if is_own else None
        drops = self._bound is not None and self._bound.drops
        self._output = Output(store_path, opened, memory_bytes, is_bounded=drops, flushes=self._bound is not None)
        self._progress = self._output.progress
        self._former = replace(self._progress)  # what the store held when it was opened
        self._tree = self._output.tree()  # as it is shown
        self._excluding = self._excluding_of(facts)
        self._whole = self._tree if self._excluding is None else self._excluding.whole  # as it is
        self._takes_runs = takes_runs and self._excluding is None and plain_rows.is_available()
        self._journal = JournalReader(trace_dir, facts.trace_id)
        self._loader = BaselineLoader(self._whole, self._output.content, facts.roots)
        self._window = Window(
            memory_bytes=memory_bytes,
            released_to_ns=self._former.released_to_ns,
            most_bytes=None if self._bound is None else self._bound.most_waiting_bytes,
        )
        self._totals = Totals.from_json(self._former.totals) if self._is_resumed else Totals()
        self._resolver: Resolver | None = None
        self._start_ns = 0
        self._baseline_read = 0
        self._read = self._window.covered = self._former.covered
        self._checkpoint_at = self._former.number if self._is_resumed else -1
        self._is_due = False
        self._committed_at = self._former.number
        self._uncommitted_bytes = 0
        self._read_bytes = 0
        self._left: tuple[int, set[int]] = (0, set())  # the beginning, and the promised blobs of its tree
        self._is_growing = True  # the journal may still be written to
        self.on_safe: Callable[[list[int]], None] = lambda numbers: None  # told of segments early, in a bounded trace
        self.on_full: Callable[[], None] = lambda: None  # and that it is too large, though nothing is left to drop
        self._images: Counter[str] = Counter()  # what the holders of leases did
        self._decoder = Decoder()
        self._whole_to = self._read
        self._reached_ns = 0  # time of the last batch

    def __enter__(self) -> Processor:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the store; what was not committed is lost, and processed again by the next one."""
        self._output.close()

    @classmethod
    def of_trace(cls, trace_dir: Path, memory_bytes: int = MEMORY_BYTES) -> Processor:
        """Process a trace into its own store, as the recorder's side does."""
        return cls(trace_dir, trace_dir / STORE_NAME, memory_bytes=memory_bytes)

    @property
    def _is_resumed(self) -> bool:
        return self._former.baseline_is_whole

    def _excluding_of(self, facts: SessionFacts) -> Excluding | None:
        rules = Rules.from_patterns(facts.excludes)
        if not rules:
            return None
        from diffkeeper.processing.excluding import Excluding  # most recordings have no rules

        seen = int(self._former.resolver["number"]) if self._is_resumed else 0
        keeps = self._output.path.parent == self._trace_dir  # a reader's cache is elsewhere
        return Excluding(self._trace_dir, rules.is_excluded, seen, is_resumed=self._is_resumed, keeps_tree=keeps)

    @property
    def damage(self) -> list[str]:
        """Return what of the journal could not be read."""
        return self._progress.damage

    @property
    def has_end(self) -> bool:
        """Say whether the journal reaches the end of the recording."""
        return self._progress.has_end

    def advance(self) -> None:
        """Process what the journal holds by now."""
        with _uncollected():
            self._advance()

    def _advance(self) -> None:
        if not self._progress.baseline_is_whole:
            self._load_baseline()
        if self._progress.baseline_is_whole and self._resolver is None:
            self._begin(self._facts().start_monotonic_ns)
        if self._resolver is not None:
            self._take_ring()

    def recyclable(self) -> list[int]:
        """Return the ring segments, told of once each, that the recorder may use again."""
        return self._output.recyclable(self._journal)

    def finish(self) -> Totals:
        """Process the rest of the journal, which has ended, commit all and return what was counted."""
        with _uncollected():
            self._finish()
        return self._totals

    def _finish(self) -> None:
        self._is_growing = False
        if self._bound is not None:
            self._bound.finishing()
        if not self._progress.baseline_is_whole:
            self._load_baseline()
        still = self._still_there()
        self._load_images(lambda blob: not still.holds(blob))
        self._advance()
        if self._resolver is None:
            if not self._progress.baseline_is_whole:
                self.damage.append("the journal does not hold the whole baseline")
                self._loader.finish()
                self._progress.baseline_is_whole = True
            self._begin(self._facts().start_monotonic_ns or NEVER_NS)
            self._take_ring()
        assert self._resolver is not None, "the resolver exists once the baseline is whole"
        self._lose_the_end()
        self._resolve(self._window.drain())
        self._resolver.finish()
        self._note_survivors()
        self._note_limit()
        self._checkpoint_baseline()
        self._load_images(lambda blob: still.was_held(blob) and not still.is_whole(blob))
        still.close()
        self._count_missing()
        self._progress.damage += [words for words in self._journal.damage if words not in self.damage]
        self._progress.is_finished = True
        self._commit()

    def _still_there(self) -> StillThere:
        """Return which files are as they were: what was copied of them in case is not needed."""
        facts = self._facts()
        return StillThere(recorded_folders(facts), self._whole, self._promised(), facts.baseline_realtime_ns)

    def _load_images(self, is_needed: Callable[[int], bool]) -> None:
        def is_wanted(blob: int) -> bool:
            return self._may_be_asked_for(blob) and is_needed(blob)

        self._images.update(load_images(self._trace_dir, self._facts().trace_id, self._output.content, is_wanted))

    def _may_be_asked_for(self, promised: int) -> bool:
        """Say whether the history that is left has bytes of a promised blob: all of them come from its first tree."""
        first = self._output.beginning().number
        if first and self._left[0] != first:
            self._left = first, promised_in(self._output.first_tree())
        return not first or promised in self._left[1]

    def _promised(self) -> dict[int, int]:
        """Return the promised blobs of the baseline by node."""
        if not self._is_resumed:
            return self._loader.promised
        return {node.number: blob for blob, node in promises(self._output.baseline()).items()}

    def _note_survivors(self) -> None:
        """Count the command's processes that had not ended when the engine was stopped."""
        assert self._resolver is not None, "the resolver exists once the baseline is whole"
        processes = self._resolver.processes.values()
        living = sum(one.end_ns is None and not one.is_outsider for one in processes)
        is_whole = self._progress.has_end and self._facts().full_monotonic_ns is None
        self._resolver.counters["living_on"] = living if is_whole else 0

    def _note_limit(self) -> None:
        """Say on the timeline that the recording ended before the command, as the trace was full."""
        facts = self._facts()
        if facts.full_monotonic_ns is None:
            return
        assert self._resolver is not None, "all is resolved"
        t_ns = max(self._resolver._ledger._last_ns, facts.full_monotonic_ns - self._start_ns)
        detail = LIMIT_FAILED if facts.on_full == FAIL else LIMIT_STOPPED
        number = self._output.count + 1
        self._store([Event(number, t_ns, Kind.LIMIT, 0, 0, 0, detail=detail, size=facts.max_bytes)])

    def _lose_the_end(self) -> None:
        """Note that the journal ended before the command; of a recorder that was killed nothing else is expected."""
        facts = self._facts()
        is_expected = facts.state == "sealed" or self._output.path.parent == self._trace_dir
        if facts.end_monotonic_ns and is_expected and not self._progress.has_end:
            self._window.add(self._read, facts.end_monotonic_ns, self._losses("queue", 1, facts.end_monotonic_ns))

    def _facts(self) -> SessionFacts:
        return read_session(self._trace_dir)

    def _load_baseline(self) -> None:
        for batch in self._journal.batches("b", self._baseline_read):
            self._baseline_read = batch.sequence
            self._check_time()
            if batch.kind == _KIND_END:
                self._loader.finish()
                self._progress.baseline_is_whole = True
                return
            with self._damage_noted(f"baseline batch {batch.sequence}"):
                self._loader.load(batch)

    def _begin(self, start_ns: int) -> None:
        if start_ns:
            self._start_ns = start_ns
            paths = {os.fsencode(root.label): os.fsencode(root.path) for root in self._facts().roots}
            sink: BlobSink = self._output.content
            if self._excluding is not None:
                self._tree, sink = self._excluding.begin(self._tree, sink, self._output.count)
            self._resolver = Resolver(self._whole, start_ns, sink, paths)
            if self._is_resumed:
                restore(self._resolver, self._former.resolver, self._output.processes())

    def _take_ring(self) -> None:
        for batch in self._journal.batches("r", self._read):
            self._check_time()
            missing, self._read = batch.sequence - self._read - 1, batch.sequence
            if batch.kind == _KIND_RECORDS:
                lost = self._losses("queue", missing, batch.t_ns)
                observations, taken = self._observations(batch)
                self._window.add(batch.sequence, batch.t_ns, [*lost, *observations], len(batch.payload), taken)
                self._uncommitted_bytes += len(batch.payload)
                self._read_bytes += len(batch.payload)
                self._resolve(self._window.release())
            elif batch.kind == _KIND_END:
                self._progress.has_end = True
        self._resolve(self._window.release_all_due())

    def _observations(self, batch: Batch) -> tuple[Sequence[Observation], Taken | None]:
        observations: Sequence[Observation] = ()
        is_seen_before = self._is_resumed and batch.sequence <= self._former.read
        taken = plain_rows.take_apart(batch.payload) if self._takes_runs and not is_seen_before else None
        try:
            observations = self._decoder.decode(batch.payload, None if taken is None else taken.others)
        except DamagedTraceError as error:
            self.damage.append(f"batch {batch.sequence} of the journal cannot be read: {error}")
            observations, taken = self._losses("decode", 1, batch.t_ns), None
        self._reached_ns = batch.t_ns
        self._note_pieces(batch.sequence)
        if is_seen_before:
            observations = [one for one in observations if one.t_ns > self._former.released_to_ns]
        return observations, taken

    def _losses(self, channel: str, batches: int, until_ns: int) -> list[Observation]:
        """Return the loss of batches since the last that was read, if any are missing; what they held is not known."""
        from_ns = max(self._reached_ns, self._start_ns)
        lost = EventsLost(0, from_ns, from_ns, max(from_ns, until_ns), 0, 0, Flag(0), 0, channel, batches, from_ns)
        return [lost] if batches > 0 else []

    def _note_pieces(self, sequence: int) -> None:
        """Remember from which batch on the decoder holds parts of a record that is still to come."""
        if not self._decoder._pieces or sequence - self._whole_to > MOST_BATCHES_OF_A_RECORD:
            self._whole_to = sequence

    def _resolve(self, released: Iterable[Settled | PlainRun]) -> None:
        for some in _portions(released):
            self._check_time()
            self._feed(some)
            if self._is_commit_worthwhile():
                self._checkpoint()
                self._is_due = True
                if self._bound is not None:
                    self._uncommitted_bytes = 0  # the more trees, the finer what may be dropped
        if self._is_due and self._is_commit_due():
            self._commit()

    def _is_commit_due(self) -> bool:
        """Say whether as much has come as a commit must write of all that was ever touched: that grows with the run."""
        assert self._resolver is not None, "commits begin with the ring"
        if self._excluding is not None or self._bound is not None or self._uncommitted_bytes >= BYTES_PER_COMMIT:
            return True
        known = len(self._totals.nodes) + len(self._resolver.processes)
        return self._output.count - self._committed_at >= known // 8

    def _is_commit_worthwhile(self) -> bool:
        if self._uncommitted_bytes >= self._bytes_per_commit():
            return True
        hidden = 0 if self._excluding is None else self._excluding.since_commit
        return max(hidden, self._output.count - max(self._checkpoint_at, 0)) >= self._interval()

    def _bytes_per_commit(self) -> int:
        """Return how much of the journal is worth a saved tree."""
        tree_bytes = 4096 * len(self._whole.nodes)
        if self._bound is None:
            return max(BYTES_PER_COMMIT, tree_bytes)
        return max(self._bound.bytes_per_commit, min(tree_bytes, 2 * self._bound.bytes_per_commit))

    def _feed(self, settled: Sequence[Settled | PlainRun]) -> None:
        assert self._resolver is not None, "batches are read once the resolver exists"
        feed, events = self._resolver.feed, list[Event | EventColumns]()
        if self._checkpoint_at < 0:
            settled = self._feed_baseline(settled)
        for item in settled:
            if isinstance(item, PlainRun):
                events += self._feed_run(item)
            else:
                observation, late, is_exact = item
                events += feed(observation, late, is_exact)
        self._store(events if self._excluding is None else self._excluding.take())

    def _feed_run(self, run: PlainRun) -> Iterable[Event | EventColumns]:
        assert self._resolver is not None, "batches are read once the resolver exists"
        resolved = self._resolver.feed_run(run)
        if resolved is not None:
            return (run.events(resolved),)
        feed = self._resolver.feed
        return [event for observation in run.observations() for event in feed(observation)]

    def _feed_baseline(self, settled: Sequence[Settled | PlainRun]) -> Sequence[Settled | PlainRun]:
        """Fold what happened before the start; return what is left, with a checkpoint of the baseline before it."""
        assert self._resolver is not None, "the resolver exists"
        for at, item in enumerate(settled):
            before, after = _cut(item, self._start_ns)
            for observation, late, is_exact in before:
                self._resolver.feed(observation, late, is_exact)
            if after:
                self._checkpoint_baseline()
                return [*after, *settled[at + 1 :]]
        return ()

    def _store(self, events: Sequence[Event | EventColumns]) -> None:
        self._totals.add(events)
        self._output.append(events)

    def _count_missing(self) -> None:
        """Count before-images, and the files that were changed and whose bytes from before that nobody kept."""
        assert self._resolver is not None, "what was changed is known once all is resolved"
        self._resolver.counters.update(self._images)
        if self._facts().baseline == "touched":
            promised = self._promised()
            # What another one was renamed over is on the timeline under that one's number.
            promised = {number: blob for number, blob in promised.items() if self._may_be_asked_for(blob)}
            changed = self._totals.nodes & promised.keys() | without_name(self._tree, promised)
            touched = {number: promised[number] for number in changed}
            self._resolver.counters["no_before_image"] = count_missing(touched, self._tree, self._output.content.has)

    def _interval(self) -> int:
        """Return how many events a checkpoint should spare readers: the more, the more costly it is."""
        return max(EVENTS_PER_CHECKPOINT, 2 * (len(self._whole.nodes) - len(self._whole.nameless)))

    def _checkpoint(self) -> None:
        self._output.checkpoint(self._tree)
        self._checkpoint_at = self._output.count
        if self._bound is not None:
            self._bound.saved(self._output.count, self._read_bytes)

    def _checkpoint_baseline(self) -> None:
        if self._checkpoint_at < 0:
            assert self._output.count == 0, "the baseline comes before the first event"
            self._checkpoint()

    def _commit(self) -> None:
        """Put a checkpoint and all before it into the store, and how far that is."""
        assert self._resolver is not None, "commits begin with the ring"
        progress, self._totals.counters = self._progress, dict(self._resolver.counters)
        if self._checkpoint_at != self._output.count:
            self._checkpoint()
        progress.covered, progress.read = min(self._window.covered, self._whole_to), self._read
        progress.released_to_ns, progress.number = self._window.released_to_ns, self._output.count
        progress.totals, progress.resolver = self._totals.to_json(), state_of(self._resolver)
        if self._excluding is not None and not progress.is_finished:
            self._excluding.save()
        is_flushed = self._output.commit(self._resolver.processes.values())
        if self._excluding is not None and is_flushed:
            self._excluding.forget(is_finished=progress.is_finished)
        self._is_due = False
        self._committed_at = self._output.count
        self._uncommitted_bytes = 0
        if self._bound is not None:
            self._bound.look(self._output, [self._tree, self._whole], self._recycle)
            if dropped := self._output.beginning().number:
                self._totals.counters["dropped_events"] = dropped
            if self._bound.is_hopeless and self._is_growing:
                self.on_full()

    def _recycle(self) -> None:
        if self._is_growing:
            self.on_safe(self.recyclable())
        else:
            free_segments(self._trace_dir, self.recyclable())

    @contextlib.contextmanager
    def _damage_noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except DamagedTraceError as error:
            self.damage.append(f"{what} of the journal cannot be read: {error}")


def _portions(released: Iterable[Settled | PlainRun]) -> Iterator[list[Settled | PlainRun]]:
    """Yield what was released in lists of SETTLED_AT_ONCE observations, runs cut where such a list is full."""
    some: list[Settled | PlainRun] = []
    room = SETTLED_AT_ONCE
    for item in released:
        begin, count = 0, item.count if isinstance(item, PlainRun) else 1
        while begin < count:
            end = min(count, begin + room)
            some.append(item.part(begin, end) if isinstance(item, PlainRun) else item)
            begin, room = end, room - (end - begin)
            if not room:
                yield some
                some, room = [], SETTLED_AT_ONCE
    if some:
        yield some


def _cut(item: Settled | PlainRun, start_ns: int) -> tuple[list[Settled], list[Settled | PlainRun]]:
    """Return what of an item was before a time, a run's writes one by one, and what was not."""
    if not isinstance(item, PlainRun):
        return ([item], []) if item[0].t_ns < start_ns else ([], [item])
    (count,) = item.cut_by([(start_ns, 0)])
    before: list[Settled] = [(observation, (), True) for observation in item.part(0, count).observations()]
    return before, [item.part(count, item.count)] if count < item.count else []


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector off: values hold no cycles, and to look for some takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
