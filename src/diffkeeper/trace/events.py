"""Find events by their columns, and build values only for those that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Event, Kind, Mark
from diffkeeper.model.timeline import ALWAYS_KINDS, LOSSES, NAMELESS_KINDS, EventFilter
from diffkeeper.processing.totals import CHANGE_KINDS
from diffkeeper.store.eventblock import EventBlock
from diffkeeper.store.eventlog import EventReader
from diffkeeper.trace.skipping import may_admit, may_name, may_touch


class TraceExtent:
    """Answer what resolving a position asks (model/positions.py's Extent)."""

    def __init__(self, reader: EventReader, end_ns: int, start_realtime_ns: int, exit_number: int | None) -> None:
        self._reader = reader
        self._end_ns = end_ns
        self._start_realtime_ns = start_realtime_ns
        self._exit_number = exit_number

    @property
    def count(self) -> int:
        """Return the number of the last event."""
        return self._reader.count

    @property
    def end_ns(self) -> int:
        """Return when the recording ended, ns since its start."""
        return self._end_ns

    @property
    def start_realtime_ns(self) -> int:
        """Return the wall clock at the start, ns since the epoch."""
        return self._start_realtime_ns

    @property
    def exit_number(self) -> int | None:
        """Return the event that is the exit of the command, None if that was not recorded."""
        return self._exit_number

    @property
    def marks(self) -> Mapping[str, int]:
        """Return the event number of each mark."""
        return {}

    def number_at(self, t_ns: int) -> int:
        """Return the last event at or before an instant."""
        return self._reader.number_at(t_ns)


class ProcessNames:
    """Tell the names of processes; those of a long timeline are read ahead, as their keys come in order."""

    _MOST_AHEAD = 1024

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader
        self._known: dict[int, bytes] = {}
        self._ahead, self._end = 1, 0  # how many were read the last time, and up to which key

    def __call__(self, key: int) -> bytes:
        """Return the name of a process by its key, an empty one where it is not known."""
        name = self._known.get(key)
        return self._read(key) if name is None else name

    def _read(self, key: int) -> bytes:
        is_next = 0 <= key - self._end <= self._ahead
        self._ahead = min(2 * self._ahead, self._MOST_AHEAD) if is_next else 1
        self._known[key] = b""
        if 0 < key < 1 << 64:
            found = islice(self._reader.processes(key), self._ahead)
            self._known.update((process.key, process.comm) for process in found)
        self._end = key + self._ahead
        return self._known[key]


Page = tuple[EventBlock, Sequence[int]]
"""A block, and the places in it of the events that were asked for."""


_PATHLESS = frozenset(map(int, LOSSES | NAMELESS_KINDS))  # shown whatever paths were asked for
_UNRESOLVED = int(Mark.UNRESOLVED)
_SHOWN = ("kind", "t_ns", "pid", "process", "marks", "path", "size", "length")


def matching(reader: EventReader, wanted: EventFilter, last: int | None = None) -> Iterator[Event]:
    """Yield the events that a filter admits, in order, or the last so many of them."""
    for block, rows in pages(reader, wanted, last):
        yield from _built(reader, block, rows)


def pages(reader: EventReader, wanted: EventFilter, last: int | None = None) -> Iterator[Page]:
    """Yield the events that a filter admits as pages, in order, or the last so many of them."""
    if last is not None:
        yield from _last_pages(reader, wanted, last)
        return
    for block in reader.blocks(wanted.first, wanted.last, may_admit(reader, wanted)):
        yield block, _rows(reader, block, wanted)


def _last_pages(reader: EventReader, wanted: EventFilter, count: int) -> Iterator[Page]:
    """Read from the end until ``count`` events are found."""
    found: list[Page] = []
    if count <= 0:
        return
    for block in _blocks_backwards(reader, wanted):
        rows = _rows(reader, block, wanted)[-count:]
        count -= len(rows)
        found.append((block, rows))
        if count <= 0:
            break
    yield from reversed(found)


def _built(reader: EventReader, block: EventBlock, rows: Sequence[int]) -> list[Event]:
    try:
        return block.take(rows) if rows else []
    except DamagedTraceError as error:
        _note(reader, block, error)
        return []


def _note(reader: EventReader, block: EventBlock, error: DamagedTraceError) -> None:
    words = f"Events {block.first} to {block.last} cannot be read: {error}"
    if words not in reader.damage:
        reader.damage.append(words)


def _blocks_backwards(reader: EventReader, wanted: EventFilter) -> Iterator[EventBlock]:
    is_wanted = may_admit(reader, wanted)
    for facts in reversed(reader.index):
        if facts.first <= wanted.last and facts.last >= wanted.first and is_wanted(facts):
            yield from reader.blocks(facts.first, facts.first)


def _rows(reader: EventReader, block: EventBlock, wanted: EventFilter) -> Sequence[int]:
    """Return the places in a block of the events that a filter admits."""
    try:
        rows = _rows_of_kinds(block, wanted)
        for name in _SHOWN if rows else ():  # what cannot be read is found here, not while it is printed
            block.column(name)
        return rows
    except DamagedTraceError as error:
        _note(reader, block, error)
        return ()


def _rows_of_kinds(block: EventBlock, wanted: EventFilter) -> Sequence[int]:
    kinds = frozenset(map(int, wanted.kinds | ALWAYS_KINDS))
    rows: Sequence[int] = [row for row, kind in enumerate(block.column("kind")) if kind in kinds]
    if wanted.pids or block.first < wanted.first or block.last > wanted.last:
        rows = _admitted_rows(block, wanted, rows)
    return rows if wanted.paths.is_everything else _rows_of_paths(block, wanted, rows)


def _admitted_rows(block: EventBlock, wanted: EventFilter, rows: Sequence[int]) -> Sequence[int]:
    kinds, pids = block.column("kind"), block.column("pid")
    return [row for row in rows if wanted.admits_row(block.first + row, kinds[row], pids[row])]


def _rows_of_paths(block: EventBlock, wanted: EventFilter, rows: Sequence[int]) -> Sequence[int]:
    kinds, marks, strings = block.column("kind"), block.column("marks"), block.strings
    paths, paths2 = block.column("path"), block.column("path2")
    matches = wanted.paths.matches
    asked = {place for place in {*paths, *paths2} if matches(strings[place])}
    second = {place for place in asked if strings[place]}  # most events have no second path
    return [
        row
        for row in rows
        if paths[row] in asked or paths2[row] in second or kinds[row] in _PATHLESS or marks[row] & _UNRESOLVED
    ]


def last_change(reader: EventReader, until: int) -> Event | None:
    """Return the last change up to event ``until`` that the recorded command's own processes made."""
    kinds = frozenset(map(int, CHANGE_KINDS))
    for facts in reversed(reader.index):
        for block in reader.blocks(facts.first, facts.first) if facts.first <= until else ():
            marks = block.column("marks")
            rows = [
                row for row, kind in enumerate(block.column("kind")) if kind in kinds and block.first + row <= until
            ]
            own = next((row for row in reversed(rows) if not marks[row] & Mark.OUTSIDER), None)
            if own is not None:
                return block.event(block.first + own)
    return None


_LOSING = frozenset({Kind.RENAME, Kind.UNLINK, Kind.RMDIR, Kind.EXPORT, Kind.EXCHANGE})


def history(reader: EventReader, path: bytes, known: Sequence[int]) -> list[Event]:
    """Return all events of the nodes that bore a path, each up to when it lost that path, under whatever name.

    ``known`` are nodes that bear the path at the start or at the end.
    """
    until = _bearers(reader, path)
    dropped = [reader.event(reader.beginning.number)] if reader.beginning.number else []
    for node in known:
        until.setdefault(node, reader.count)
    return dropped + [event for event in _events_of(reader, set(until)) if event.number <= _last_of(event, until)]


def _last_of(event: Event, until: Mapping[int, int]) -> int:
    return max(until.get(event.node, 0), until.get(event.replaced, 0))


def _bearers(reader: EventReader, path: bytes) -> dict[int, int]:
    """Return the nodes that events say bore a path, with the last event at which they did."""
    until: dict[int, int] = {}
    for block in reader.blocks(wanted=may_name(reader, path)):
        if path in block.strings:
            place = block.strings.index(path)
            columns = (block.column("path"), block.column("path2"))
            for row in range(block.count):
                if place in (columns[0][row], columns[1][row]):
                    _note_bearer(block.event(block.first + row), path, until, reader.count)
    until.pop(0, None)
    return until


def _note_bearer(event: Event, path: bytes, until: dict[int, int], end: int) -> None:
    comes, goes = event.node, 0
    if event.kind == Kind.RENAME:
        comes, goes = (event.node, event.replaced) if event.path2 == path else (0, event.node)
    elif event.kind == Kind.EXCHANGE:
        comes, goes = (event.node, event.replaced) if event.path2 == path else (event.replaced, event.node)
    elif event.kind in _LOSING:
        comes, goes = 0, event.node
    until[comes] = end
    until[goes] = event.number


def _events_of(reader: EventReader, nodes: set[int]) -> Iterator[Event]:
    for block in reader.blocks(wanted=may_touch(reader, nodes)):
        pairs = zip(block.column("node"), block.column("replaced"), strict=True)
        rows = [row for row, (node, replaced) in enumerate(pairs) if node in nodes or replaced in nodes]
        yield from _built(reader, block, rows)
