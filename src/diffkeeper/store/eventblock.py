"""A block of events in columns: Event values to bytes and back, and single columns without building any Event."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum, IntFlag
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, TypeVar, cast

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Data, Event, Kind, Mark, Meta
from diffkeeper.store.columns import ColumnReader, ColumnWriter

BLOCK_EVENTS = 4096
DATA_BYTES = 32  # that a piece of data adds to a block, about

_E = TypeVar("_E", bound=IntEnum | IntFlag)


class Column:
    """Number the columns of a block of events. Numbers are part of the format: never reuse one."""

    # One entry an event:
    KIND, T, PID, TID, PROCESS, MARKS, NODE, PARENT, PARENT2, REPLACED = range(1, 11)
    OFFSET, LENGTH, SIZE, SOURCE, SOURCE_OFFSET, DETAIL = range(11, 17)
    NAME, NAME2, PATH, PATH2, TEXT, VALUE = range(17, 23)  # numbers of strings
    PRESENT = 23  # Present bits: which of the columns below have an entry for the event
    DATA_COUNT = 24
    # One entry for each event that has one:
    ENTER, EXIT = 25, 26  # ns before and after T
    MODE, UID, GID, MTIME, NLINK, RDEV = range(27, 33)
    PARENT_MTIME, PARENT2_MTIME = 33, 34
    # One entry for each piece of data; the first two relative to the event's offset and length:
    DATA_OFFSET, DATA_LENGTH, DATA_BLOB, DATA_START = range(35, 39)
    # The strings of the block, each once; number 0 is the empty one:
    STRING_LENGTHS, STRINGS = 39, 40


class Present:
    """Name the bits of Column.PRESENT."""

    ENTER, EXIT, META, PARENT_MTIME, PARENT2_MTIME = 1, 2, 4, 8, 16


_PLAIN = {
    "kind": Column.KIND,
    "pid": Column.PID,
    "process": Column.PROCESS,
    "marks": Column.MARKS,
    "node": Column.NODE,
    "parent": Column.PARENT,
    "parent2": Column.PARENT2,
    "replaced": Column.REPLACED,
    "offset": Column.OFFSET,
    "length": Column.LENGTH,
    "size": Column.SIZE,
    "source": Column.SOURCE,
    "source_offset": Column.SOURCE_OFFSET,
    "detail": Column.DETAIL,
}
_STRINGS = {
    "name": Column.NAME,
    "name2": Column.NAME2,
    "path": Column.PATH,
    "path2": Column.PATH2,
    "text": Column.TEXT,
    "value": Column.VALUE,
}
_META = {
    "mode": Column.MODE,
    "uid": Column.UID,
    "gid": Column.GID,
    "mtime_ns": Column.MTIME,
    "nlink": Column.NLINK,
    "rdev": Column.RDEV,
}
_COLUMNS = {"t_ns": Column.T, **_PLAIN, **_STRINGS}
_PARENTS = {"parent_mtime_ns": Present.PARENT_MTIME, "parent2_mtime_ns": Present.PARENT2_MTIME}
_SPARSE: dict[int, tuple[int, ...]] = {
    Present.ENTER: (Column.ENTER,),
    Present.EXIT: (Column.EXIT,),
    Present.META: tuple(_META.values()),
    Present.PARENT_MTIME: (Column.PARENT_MTIME,),
    Present.PARENT2_MTIME: (Column.PARENT2_MTIME,),
}
_PRESENT_BITS = sum(_SPARSE)
_FLAG_OF = {bit: bytes(int(bool(value & bit)) for value in range(256)) for bit in _SPARSE}
_FIELDS = [field.name for field in dataclasses.fields(Event)]
_DATA = (Column.DATA_OFFSET, Column.DATA_LENGTH, Column.DATA_BLOB, Column.DATA_START)
_SPARSE_TIMES = {Column.ENTER: Present.ENTER, Column.EXIT: Present.EXIT}
_GROWING = frozenset({Column.T, Column.PARENT_MTIME, Column.PARENT2_MTIME, Column.MTIME, Column.DATA_BLOB})
_ORDER = (  # in which columns are written
    *(Column.T, Column.TID, *_PLAIN.values()),
    *(Column.ENTER, Column.EXIT, Column.PARENT_MTIME, Column.PARENT2_MTIME, Column.PRESENT),
    *(*_META.values(), Column.DATA_COUNT, *_DATA),
)
_Strings = Callable[[dict[bytes, int], int], Sequence[int]]  # numbers so far, a column → its numbers
_get_numbers = attrgetter(
    "t_ns", "tid", "enter_ns", "exit_ns", "parent_mtime_ns", "parent2_mtime_ns", "meta", "data", *_PLAIN
)
_get_strings = attrgetter(*_STRINGS)
_get_meta = attrgetter(*_META)


class EventColumns:
    """Hold events as columns; PATH holds places in ``paths``, and the other strings are empty.

    ``columns`` are arrays of signed 64-bit numbers, absolute ones, with an entry for each event, but ENTER and EXIT,
    which have one where PRESENT says so; ``constants`` are columns whose entries are all the same.
    """

    def __init__(
        self,
        number: int,
        count: int,
        columns: Mapping[int, array[int]],
        constants: Mapping[int, int],
        paths: Sequence[bytes],
    ) -> None:
        """Begin with event ``number``."""
        self.number = number
        self.count = count
        self.columns = columns
        self.constants = constants
        self.paths = paths

    def part(self, begin: int, end: int) -> EventColumns:
        """Return the events from place ``begin`` to before ``end``."""
        if (begin, end) == (0, self.count):
            return self
        columns = {
            column: values[begin:end]
            for column, values in self.columns.items()
            if column not in (Column.ENTER, Column.EXIT)
        }
        columns |= {column: self._sparse(column, bit, begin, end) for column, bit in _SPARSE_TIMES.items()}
        return EventColumns(self.number + begin, end - begin, columns, self.constants, self.paths)

    def _sparse(self, column: int, bit: int, begin: int, end: int) -> array[int]:
        values = self.columns[column]
        if len(values) == self.count:
            return values[begin:end]
        present = self.columns[Column.PRESENT]
        first = sum(1 for bits in present[:begin] if bits & bit)
        return values[first : first + sum(1 for bits in present[begin:end] if bits & bit)]

    def used_paths(self) -> set[bytes]:
        """Return the paths that its events have."""
        if len(self.paths) == 1:
            return {self.paths[0]}
        return {self.paths[place] for place in set(self.columns[Column.PATH])}

    def string_bytes(self, begin: int, end: int) -> int:
        """Return about how many bytes these events add to their block beside their numbers."""
        if len(self.paths) == 1:
            return (end - begin) * (len(self.paths[0]) + DATA_BYTES)
        lengths = list(map(len, self.paths))
        return sum(map(lengths.__getitem__, self.columns[Column.PATH][begin:end])) + (end - begin) * DATA_BYTES


def encode_block(events: Sequence[Event | EventColumns]) -> bytes:
    """Return events as one block; their numbers must follow each other and are not part of it."""
    writer = ColumnWriter()
    parts = [*_parts(events)]
    for column in _ORDER:
        _write_column(writer, column, parts)
    _write_strings(writer, parts)
    return writer.to_bytes()


class _Part:
    """Hold some events of a block: the numbers of all its columns but strings, and those."""

    def __init__(
        self, count: int, columns: Mapping[int, Sequence[int]], constants: Mapping[int, int], strings: _Strings
    ) -> None:
        self.count = count
        self.columns = columns
        self.constants = constants
        self.strings = strings


def _parts(events: Sequence[Event | EventColumns]) -> Iterator[_Part]:
    for is_run, some in groupby(events, lambda one: isinstance(one, EventColumns)):
        if is_run:
            yield from (_part_of_run(cast(EventColumns, run)) for run in some)
        else:
            yield _part_of_events(cast("list[Event]", list(some)))


def _part_of_run(run: EventColumns) -> _Part:
    places, paths = run.columns[Column.PATH], run.paths

    def strings(numbers: dict[bytes, int], column: int) -> Sequence[int]:
        if column != Column.PATH:
            return [0] * run.count
        if len(paths) == 1:
            return [numbers.setdefault(paths[0], len(numbers))] * run.count
        number_of = {place: numbers.setdefault(paths[place], len(numbers)) for place in dict.fromkeys(places)}
        return [number_of[place] for place in places]

    return _Part(run.count, run.columns, run.constants, strings)


def _part_of_events(events: Sequence[Event]) -> _Part:
    t, tid, enter, exit_, parent_mtime, parent2_mtime, metas, data, *plain = zip(
        *map(_get_numbers, events), strict=True
    )
    fields = dict(zip(_PLAIN, plain, strict=True))
    columns: dict[int, Sequence[int]] = {Column.T: t, Column.TID: list(map(int.__sub__, tid, fields["pid"]))}
    columns |= {column: fields[name] for name, column in _PLAIN.items()}
    columns |= _sparse_columns(t, enter, exit_, parent_mtime, parent2_mtime)
    bits = columns[Column.PRESENT]
    columns[Column.PRESENT] = [bit | Present.META * (meta is not None) for bit, meta in zip(bits, metas, strict=True)]
    columns |= _meta_columns([meta for meta in metas if meta is not None])
    columns |= _data_columns(fields["offset"], fields["length"], data)
    texts = dict(zip(_STRINGS.values(), zip(*map(_get_strings, events), strict=True), strict=True))

    def strings(numbers: dict[bytes, int], column: int) -> Sequence[int]:
        return [numbers.setdefault(value, len(numbers)) for value in texts[column]]

    return _Part(len(events), columns, {}, strings)


def _write_column(writer: ColumnWriter, column: int, parts: Sequence[_Part]) -> None:
    differences = column in _GROWING
    if len(parts) == 1:
        (part,) = parts
        if column not in part.constants:
            writer.numbers(column, part.columns.get(column, ()), differences)
        else:
            writer.constant(column, part.constants[column], part.count)
        return
    writer.numbers(column, _joined([_entries(part, column) for part in parts]), differences)


def _entries(part: _Part, column: int) -> Sequence[int]:
    if column in part.constants:
        return [part.constants[column]] * part.count
    return part.columns.get(column, ())


def _joined(pieces: Sequence[Sequence[int]]) -> Sequence[int]:
    joined = array("q")
    try:
        for piece in pieces:
            joined.extend(piece)
    except OverflowError:
        return [number for piece in pieces for number in piece]
    return joined


def _sparse_columns(
    t: Sequence[int],
    enter: Sequence[int],
    exit_: Sequence[int],
    parent_mtime: Sequence[int],
    parent2_mtime: Sequence[int],
) -> dict[int, Sequence[int]]:
    """Return the columns that only some events have, and which those are as Present bits."""
    return {
        Column.ENTER: [at - before for at, before in zip(t, enter, strict=True) if before],
        Column.EXIT: [after - at for at, after in zip(t, exit_, strict=True) if after],
        Column.PARENT_MTIME: [mtime for mtime in parent_mtime if mtime],
        Column.PARENT2_MTIME: [mtime for mtime in parent2_mtime if mtime],
        Column.PRESENT: [
            Present.ENTER * (a != 0)
            | Present.EXIT * (b != 0)
            | Present.PARENT_MTIME * (c != 0)
            | Present.PARENT2_MTIME * (d != 0)
            for a, b, c, d in zip(enter, exit_, parent_mtime, parent2_mtime, strict=True)
        ],
    }


def _meta_columns(metas: Sequence[Meta]) -> dict[int, Sequence[int]]:
    if not metas:
        return {}
    return dict(zip(_META.values(), zip(*map(_get_meta, metas), strict=True), strict=True))


def _data_columns(
    offsets: Sequence[int], lengths: Sequence[int], data: Sequence[tuple[Data, ...]]
) -> dict[int, Sequence[int]]:
    rows = zip(offsets, lengths, data, strict=True)
    flat = [
        (piece.offset - offset, piece.length - length, piece.blob, piece.start)
        for offset, length, pieces in rows
        for piece in pieces
    ]
    columns: dict[int, Sequence[int]] = {Column.DATA_COUNT: list(map(len, data))}
    return columns | (dict(zip(_DATA, zip(*flat, strict=True), strict=True)) if flat else {})


def _write_strings(writer: ColumnWriter, parts: Sequence[_Part]) -> None:
    numbers: dict[bytes, int] = {b"": 0}
    for column in _STRINGS.values():
        writer.numbers(column, [number for part in parts for number in part.strings(numbers, column)])
    writer.strings(Column.STRING_LENGTHS, Column.STRINGS, numbers)


class EventBlock:
    """Read a block: whole columns for filters, events for what is shown. Everything is decoded when first asked for."""

    def __init__(self, first: int, count: int, value: bytes) -> None:
        """Take the block of ``count`` events from number ``first`` on; raise DamagedTraceError where it is none."""
        if not 0 < count <= BLOCK_EVENTS:
            raise DamagedTraceError(f"A block of events cannot hold {count}.")
        self.first = first
        self.count = count
        self._reader = ColumnReader(value)
        self._columns: dict[str, Sequence[int]] = {}
        self._strings: list[bytes] | None = None
        self._rows: _Rows | None = None

    @property
    def last(self) -> int:
        """Return the number of the last event."""
        return self.first + self.count - 1

    @property
    def strings(self) -> list[bytes]:
        """Return the strings of the block; columns like "path" hold positions in this list."""
        if self._strings is None:
            self._strings = self._reader.strings(Column.STRING_LENGTHS, Column.STRINGS) or [b""]
        return self._strings

    def column(self, name: str) -> Sequence[int]:
        """Return one entry an event of the field ``name`` of Event; for byte strings, positions in ``strings``.

        Known are kind, t_ns, pid, tid, process, marks, node, parent, parent2, replaced, offset, length, size, source,
        source_offset, detail, name, name2, path, path2, text and value.
        """
        if name not in self._columns:
            self._columns[name] = self._read_column(name)
        return self._columns[name]

    def _read_column(self, name: str) -> Sequence[int]:
        if name == "tid":
            pairs = zip(self.column("pid"), self._reader.numbers(Column.TID, self.count), strict=True)
            return [pid + beyond for pid, beyond in pairs]
        values = self._reader.numbers(_COLUMNS[name], self.count)
        if name in _STRINGS and (min(values) < 0 or max(values) >= len(self.strings)):
            raise DamagedTraceError("A block of events refers to strings that it does not have.")
        return values

    def blobs(self) -> Sequence[int]:
        """Return the blobs that the events of the block have bytes in, one entry for each piece."""
        return self._reader.all_numbers(Column.DATA_BLOB)

    def event(self, number: int) -> Event:
        """Return the event of that number."""
        return self.take([number - self.first])[0]

    def events(self, first: int, last: int) -> Iterator[Event]:
        """Yield the events of the block from ``first`` to ``last``."""
        begin, end = max(first, self.first) - self.first, min(last, self.last) - self.first + 1
        return iter(self.take(range(begin, max(begin, end))))

    def take(self, rows: Sequence[int]) -> list[Event]:
        """Return the events at some places in the block, in the order given."""
        return list(map(Event, *self._all_rows().fields(rows)))

    def metas(self, rows: Sequence[int]) -> list[Meta | None]:
        """Return what the events at some places say of the metadata."""
        return self._all_rows().metas(rows)

    def _all_rows(self) -> _Rows:
        if self._rows is None:
            self._rows = _Rows(self, self._reader)
        return self._rows


class _Rows:
    """Turn rows of a block's columns into what the fields of Event hold."""

    def __init__(self, block: EventBlock, reader: ColumnReader) -> None:
        self._block = block
        present = [bits & _PRESENT_BITS for bits in reader.numbers(Column.PRESENT, block.count)]
        self._flags = {bit: bytes(present).translate(_FLAG_OF[bit]) for bit in _SPARSE}  # 1 for a row with entries
        self._places: dict[int, Sequence[int]] = {}  # of each row, in the columns of a bit
        self._sparse: dict[int, Sequence[int]] = {}
        for bit, columns in _SPARSE.items():
            held = sum(self._flags[bit])
            self._sparse |= {column: reader.numbers(column, held) for column in columns}
        self._piece_counts = reader.numbers(Column.DATA_COUNT, block.count)
        if min(self._piece_counts) < 0:
            raise DamagedTraceError("A block of events has a negative number of pieces.")
        self._piece_places = [0, *accumulate(self._piece_counts)]
        self._pieces = [reader.numbers(column, self._piece_places[-1]) for column in _DATA]

    def fields(self, rows: Sequence[int]) -> list[Sequence[Any]]:
        """Return a list for each field of Event, in the order of the fields, with an entry for each row."""
        block, strings, first = self._block, self._block.strings, self._block.first
        columns: dict[str, Sequence[Any]] = {
            name: _picked(block.column(name), rows) for name in ("t_ns", "tid", *_PLAIN)
        }
        columns |= {name: [strings[place] for place in _picked(block.column(name), rows)] for name in _STRINGS}
        columns["number"] = [first + row for row in rows]
        columns["kind"] = _members(Kind, columns["kind"])
        columns["marks"] = _members(Mark, columns["marks"])
        (enter,) = self._entries(Present.ENTER, rows)
        (exit_,) = self._entries(Present.EXIT, rows)
        times = columns["t_ns"]
        columns["enter_ns"] = [0 if gap is None else at - gap for at, gap in zip(times, enter, strict=True)]
        columns["exit_ns"] = [0 if gap is None else at + gap for at, gap in zip(times, exit_, strict=True)]
        for name, bit in _PARENTS.items():
            columns[name] = [mtime or 0 for mtime in self._entries(bit, rows)[0]]
        columns["meta"] = self.metas(rows)
        columns["data"] = self._data(rows, columns["offset"], columns["length"])
        return [columns[name] for name in _FIELDS]

    def metas(self, rows: Sequence[int]) -> list[Meta | None]:
        """Return the metadata of rows, None for those that have none."""
        modes, *others = self._entries(Present.META, rows)
        if any(mode is not None and not 0 <= mode < 1 << 32 for mode in set(modes)):
            raise DamagedTraceError("An event has an invalid mode.")
        return [None if row[0] is None else Meta(*row) for row in zip(modes, *others, strict=True)]

    def _entries(self, bit: int, rows: Sequence[int]) -> list[Sequence[int | None]]:
        """Return the entries of rows in the columns of ``bit``, None for a row that has none."""
        flags, columns = self._flags[bit], [self._sparse[column] for column in _SPARSE[bit]]
        if not columns[0]:
            return [[None] * len(rows)] * len(columns)
        if len(columns[0]) == len(flags):
            return [_picked(column, rows) for column in columns]
        if bit not in self._places:
            self._places[bit] = [0, *accumulate(flags)]
        places = self._places[bit]
        return [[column[places[row]] if flags[row] else None for row in rows] for column in columns]

    def _data(self, rows: Sequence[int], offsets: Sequence[int], lengths: Sequence[int]) -> list[tuple[Data, ...]]:
        counts, places = self._piece_counts, self._piece_places
        return [
            tuple(self._piece(place, offset, length) for place in range(places[row], places[row + 1]))
            if counts[row]
            else ()
            for row, offset, length in zip(rows, offsets, lengths, strict=True)
        ]

    def _piece(self, place: int, offset: int, length: int) -> Data:
        at, more, blob, start = self._pieces
        return Data(at[place] + offset, more[place] + length, blob[place], start[place])


def _picked(values: Sequence[int], rows: Sequence[int]) -> Sequence[int]:
    if isinstance(rows, range):
        return values[rows.start : rows.stop]
    return [values[row] for row in rows]


def _members(kind: type[_E], values: Sequence[int]) -> list[_E]:
    """Return ``values`` as members of ``kind``, looking each distinct one up once."""
    try:
        members = {value: kind(value) for value in set(values)}
    except ValueError as error:
        raise DamagedTraceError(f"A block of events holds something unknown: {error}.") from error
    return [members[value] for value in values]
