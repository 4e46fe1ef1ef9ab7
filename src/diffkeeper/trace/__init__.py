"""Open a trace and ask it: timeline, tree at an instant, differences, history, export. Nothing of it is changed.

What not every question needs (trees and bytes, export, processing) is loaded by those that do: a timeline shows its
first line in less time than that takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from diffkeeper.errors import DamagedTraceError, DroppedHistoryError, NoSuchTraceError, StillRecordingError
from diffkeeper.model.answers import Change, TraceInfo
from diffkeeper.model.event import Event, Kind
from diffkeeper.model.process import Process
from diffkeeper.model.timeline import EventFilter, PathFilter, Position, parse_position
from diffkeeper.processing.progress import Progress, read_progress
from diffkeeper.reporters.limits import full_words
from diffkeeper.store.attempts import chosen_attempt
from diffkeeper.store.eventlog import EventReader
from diffkeeper.store.format import (
    JOURNAL_NAME,
    SESSION_NAME,
    STORE_NAME,
    SessionFacts,
    is_locked,
    read_session,
    trace_state,
)
from diffkeeper.store.rocks import RocksStore
from diffkeeper.trace import events
from diffkeeper.trace.events import Page, ProcessNames, TraceExtent
from diffkeeper.trace.info import dropped_words, full_ns, info_of, losses_of

if TYPE_CHECKING:
    from diffkeeper.model.exported import ExportReport
    from diffkeeper.trace.states import States
    from diffkeeper.trace.view import TreeView

__all__ = ["Trace"]

PositionLike = str | int | Position
"""What names a position: its text, an event number (0 for the baseline), or a parsed Position."""


class Trace:
    """Read a trace; open it with ``Trace.open`` and use it as a context manager.

    A trace that its recorder did not process is processed once into a cache outside of it. ``facts``
    is what the recorder noted, ``extent`` resolves positions.
    """

    def __init__(self, path: Path, state: str, facts: SessionFacts, rocks: RocksStore, base: str | None = None) -> None:
        """Take an opened store; ``open`` is the way in."""
        self.path = path
        self.facts = facts
        self._state = state
        self._rocks = rocks
        self._damage: list[str] = []
        self._progress = self._read_progress()
        self._events = EventReader(rocks)
        self.beginning = self._events.beginning
        self._comms = ProcessNames(self._events)
        self._base = base
        self._loaded: States | None = None
        self.extent = TraceExtent(self._events, self._end_ns(), facts.start_realtime_ns, self._exit_number())

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        base: str | os.PathLike[str] | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> Trace:
        """Open the trace in a directory; of attempts (``record --repeat``) that of the one that failed.

        A trace need not hold the bytes of files that nobody touched. They are read from ``base``, a directory that has
        these files as they were; without it from where they were recorded, if they are still the same; with ``""`` from
        nowhere. A trace that its recording left unprocessed is processed now; ``announce`` is told so in a line.

        Raises NoSuchTraceError, StillRecordingError, FormatTooNewError, or DamagedTraceError if nothing can be read.
        """
        place = chosen_attempt(Path(path))
        try:
            state, facts = trace_state(place), read_session(place)
        except (DamagedTraceError, NoSuchTraceError) as error:
            return cls._open_without_session(place, error)
        folder = None if base is None else os.fspath(base)
        if state == "recording":
            raise StillRecordingError(f"{place} is still being recorded: read it when the command has ended")
        store = place / STORE_NAME
        if state == "broken" or not facts.processed or (not store.is_dir() and (place / JOURNAL_NAME).is_dir()):
            from diffkeeper.trace.cache import processed_in_cache

            store = processed_in_cache(place, facts, announce)
        elif not store.is_dir():
            raise DamagedTraceError(f"the store of {place} is missing: nothing of the trace can be read")
        return cls(place, state, facts, RocksStore.open_readonly(store), folder)

    @classmethod
    def _open_without_session(cls, place: Path, error: DamagedTraceError | NoSuchTraceError) -> Trace:
        """Open what processing left of a trace whose session.json is lost or cannot be read."""
        if isinstance(error, NoSuchTraceError) and not (place / STORE_NAME / "CURRENT").is_file():
            raise error
        if is_locked(place):
            raise StillRecordingError(f"{place} is still being recorded: read it when the command has ended")
        if not (place / STORE_NAME).is_dir():
            raise DamagedTraceError(f"nothing of the trace at {place} can be read: {error}") from error
        facts = SessionFacts(trace_id=0, state="sealed", processed=True)
        trace = cls(place, facts.state, facts, RocksStore.open_readonly(place / STORE_NAME))
        reason = error if isinstance(error, DamagedTraceError) else f"{SESSION_NAME} is missing"
        trace._damage.insert(0, f"the command, the time and the roots of the recording are lost: {reason}")
        return trace

    def __enter__(self) -> Trace:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the trace; what was read of it stays valid, except tree views."""
        if self._loaded is not None:
            self._loaded.close()
        self._rocks.close()

    @property
    def damage(self) -> list[str]:
        """Return in words what could not be read, as far as it was met by now."""
        found = [*self._damage, *self._rocks.damage, *self._events.damage]
        found += self._loaded.damage if self._loaded is not None else ()
        return list(dict.fromkeys(found))

    def info(self) -> TraceInfo:
        """Return what is known of the trace as a whole: the command, counts, sizes, and whether it is complete."""
        return info_of(self.path, self._state, self.facts, self._progress, self.damage, self.beginning)

    @property
    def losses(self) -> list[str]:
        """Return in words what happened and is not in the trace, what could not be read included; see ``damage``.

        What is there and may not be exact is not meant; ``info().defects`` names it all.
        """
        return losses_of(self.facts, self._progress, self.damage)

    def losses_at(self, position: PositionLike) -> list[str]:
        """Return what keeps the tree at a position from being known to be whole; its entries say what they lack."""
        view = self.at(position)
        losses = losses_of(self.facts, self._progress, self.damage, with_gaps=bool(view.doubt))
        return [*losses, *self.ended] if view.number == self._events.count else losses

    @property
    def ended(self) -> list[str]:
        """Return in words why nothing is known of what came after the last event, if the trace was full by then."""
        full = full_ns(self.facts)
        return [] if full is None else [full_words(full, self.facts.max_bytes)]

    def timeline(
        self,
        paths: str | Iterable[str] = (),
        ops: str | Iterable[str | Kind] = (),
        pids: int | Iterable[int] = (),
        since: PositionLike | None = None,
        until: PositionLike | None = None,
        last: int | None = None,
        output: bool = False,
    ) -> Iterator[Event]:
        """Yield events in order.

        ``paths`` are globs, ``ops`` kinds by name (``write``, ``all``), ``since`` and ``until`` positions, both
        included. Without ``ops``, processes, closes and, unless ``output``, the command's own output are left out.
        ``last`` yields only the last so many. Raises UsageError (PositionError) for what cannot be understood.
        """
        return self.events(self.filter(paths, ops, pids, since, until, output), last)

    def filter(
        self,
        paths: str | Iterable[str] = (),
        ops: str | Iterable[str | Kind] = (),
        pids: int | Iterable[int] = (),
        since: PositionLike | None = None,
        until: PositionLike | None = None,
        output: bool = False,
    ) -> EventFilter:
        """Return what ``timeline`` asks of events, for ``events`` and ``pages``."""
        return EventFilter.of(
            self.extent,
            paths=self._path_filter(paths),
            ops=(ops,) if isinstance(ops, str) else ops,
            pids=(pids,) if isinstance(pids, int) else pids,
            since=None if since is None else _position(since),
            until=None if until is None else _position(until),
            output=output,
        )

    def events(self, wanted: EventFilter, last: int | None = None) -> Iterator[Event]:
        """Yield the events that a filter admits, in order, or the last so many of them."""
        return events.matching(self._events, wanted, last)

    def pages(self, wanted: EventFilter, last: int | None = None) -> Iterator[Page]:
        """Yield the same events as columns, a block at a time with the places in it: no Event is built."""
        return events.pages(self._events, wanted, last)

    def event(self, number: int) -> Event:
        """Return the event of that number; raises DamagedTraceError where it is not there or cannot be read.

        Raises DroppedHistoryError for one before the history that is left; its first is a LIMIT.
        """
        if 0 < number < self.beginning.number:
            raise DroppedHistoryError(dropped_words(f"@{number}", self.beginning))
        return self._events.event(number)

    def data(self, event: Event) -> bytes:
        """Return the bytes that an event wrote or put out, as far as the trace holds them."""
        states = self._states
        known = (piece for piece in event.data if piece.blob and states.has(piece.blob))
        return b"".join(states.content.read(piece.blob, piece.start, piece.length) for piece in known)

    def process(self, key: int) -> Process:
        """Return the process of an event by ``event.process``; one of which nothing is known has pid 0."""
        return self._events.process(key) or Process(key, 0)

    def comm(self, key: int) -> bytes:
        """Return the name of the process of an event by ``event.process``, empty where it is not known."""
        return self._comms(key)

    def processes(self) -> Iterator[Process]:
        """Yield all processes."""
        return self._events.processes()

    def cut(self, position: PositionLike) -> int:
        """Return the number of the last event that a position covers, 0 for the baseline.

        Raises DroppedHistoryError for what is before the history that is left.
        """
        asked = _position(position)
        return self.answered(asked.resolve(self.extent).number, asked.text)

    def answered(self, number: int, text: str = "") -> int:
        """Return the number of an event after which the tree is known, named by ``text``; raises as ``cut`` does."""
        if number < self.beginning.number:
            raise DroppedHistoryError(dropped_words(text or f"@{number}", self.beginning))
        return number

    def at(self, position: PositionLike) -> TreeView:
        """Return the tree as it stood just after all that a position covers (``"2m14s"``, ``"@1281^"``, ``"end"``)."""
        from diffkeeper.trace.view import TreeView

        number, states = self.cut(position), self._states
        return TreeView(states.tree(number), states.content, number)

    def diff(self, a: PositionLike, b: PositionLike) -> list[Change]:
        """Return what differs between two positions, ordered by path."""
        from diffkeeper.trace.diff import changes

        return changes(self.at(a), self.at(b))

    def history(self, path: str | bytes) -> list[Event]:
        """Return the events of every file that bore a path, from before it was renamed to it until it lost it.

        Where older history was dropped, the LIMIT that stands for it comes first.
        """
        wanted = os.fsencode(path).strip(b"/")
        ends = (self.beginning.number, self._events.count)
        known = [self._states.tree(number).lookup(wanted) for number in ends]
        return events.history(self._events, wanted, [node.number for node in known if node is not None])

    def export(
        self,
        position: PositionLike,
        out: str | os.PathLike[str],
        paths: PathFilter | str | Iterable[str] = (),
        force: bool = False,
    ) -> ExportReport:
        """Rebuild the tree at a position in a directory, a ``.tar`` file, or ``-`` for a tar on standard output.

        Raises UsageError, before anything is written, if ``out`` is not empty and not ``force``.
        """
        from diffkeeper.export import export_tree

        wanted = paths if isinstance(paths, PathFilter) else self._path_filter(paths)
        view = self.at(position)
        report = export_tree(view, out, wanted, force=force, top=view.top())
        report.from_base = len(self._states.content.from_base)
        return report

    def last_change(self) -> Event | None:
        """Return the last change that the command's own processes made before it exited, None if that is not known."""
        if self.ended:
            return None
        return events.last_change(self._events, self.extent.exit_number or self._events.count)

    def _path_filter(self, paths: str | Iterable[str]) -> PathFilter:
        return PathFilter.of(paths, [root.path for root in self.facts.roots] if len(self.facts.roots) == 1 else ())

    @property
    def _states(self) -> States:
        if self._loaded is None:
            from diffkeeper.trace.states import States

            is_lossless = not self.losses
            self._loaded = States(self._rocks, self._events, self.facts, self._base, is_lossless=is_lossless)
        return self._loaded

    def _read_progress(self) -> Progress:
        try:
            progress = read_progress(self._rocks)
        except DamagedTraceError as error:
            self._damage.append(str(error))
            progress = None
        if progress is None or not progress.is_finished:
            self._damage.append("the record of what was counted is missing")
            return progress or Progress()
        if self._state == "sealed" and not progress.has_end:
            self._damage.append("the journal did not reach the end of the recording")
        self._damage += [words for words in progress.damage if words not in self._damage]
        return progress

    def _exit_number(self) -> int | None:
        exits = self._progress.totals.get("exits", {})
        number = exits.get(str(self.facts.command_pid))
        return None if number is None else int(number)

    def _end_ns(self) -> int:
        """Return when the recording ended; events of processes that outlived the command may be later."""
        ended = self.facts.end_monotonic_ns or self.facts.start_monotonic_ns
        last_ns = self._events.index[-1].reach_ns if self._events.index else 0
        return max(ended - self.facts.start_monotonic_ns, last_ns)


def _position(position: PositionLike) -> Position:
    if isinstance(position, int):
        return parse_position(f"@{position}" if position else "start")
    return parse_position(position) if isinstance(position, str) else position
