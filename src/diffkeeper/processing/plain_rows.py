"""Plain writes as rows of native code: never one Python object each, unless somebody asks for it.

A row is (time, sequence, address of the record); the batch's payload, in which the record stands, is held as long as a
row of it. Where there is no native library, or something is not as plain as it looks, everything goes one by one.
"""

from __future__ import annotations

import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from diffkeeper import native
from diffkeeper.engines.decoder import decode_write
from diffkeeper.model.changes import MOMENT_SHIFT, Change
from diffkeeper.model.event import Kind, Meta
from diffkeeper.model.late import Sum
from diffkeeper.model.observation import DataWritten
from diffkeeper.model.plain import Resolved, RunFile, RunWriter
from diffkeeper.model.values import dataclass
from diffkeeper.store.eventblock import Column, EventColumns

_ROW = 3  # numbers of 64 bits
_LEAST_RECORD, _LEAST_PLAIN = 32, 144  # bytes
_TASKS = 256
_GROUP = struct.Struct("<QII8Q")  # struct group of rows.c
_FILE = struct.Struct("<QII3Q6q")  # struct run_file of runs.c
_WRITER = struct.Struct("<4Q")
_TARGET = struct.Struct("<5q")
_DATA = struct.Struct("<8xQQQQ72xQQ")  # sequence t enter exit, offset length
_DATA_SIZE = 136
_MOST = (1 << 64) - 1

# In the order of runs.c's columns.
_COLUMNS = (
    *(Column.T, Column.PID, Column.TID, Column.PROCESS, Column.MARKS, Column.NODE, Column.PATH),
    *(Column.OFFSET, Column.LENGTH, Column.SIZE, Column.DATA_BLOB, Column.DATA_START, Column.PRESENT),
    *(Column.MODE, Column.UID, Column.GID, Column.MTIME, Column.NLINK, Column.RDEV, Column.ENTER, Column.EXIT),
)
_CONSTANT = {Column.KIND: int(Kind.WRITE), Column.DATA_COUNT: 1}
_CONSTANT |= dict.fromkeys((Column.PARENT, Column.PARENT2, Column.REPLACED, Column.SOURCE, Column.SOURCE_OFFSET), 0)
_CONSTANT |= dict.fromkeys((Column.DETAIL, Column.DATA_OFFSET, Column.DATA_LENGTH), 0)


def is_available() -> bool:
    """Say whether there is native code for rows."""
    return native.columns_library() is not None


def _at(memory: array[int]) -> int:
    return memory.buffer_info()[0]


def _room(numbers: int) -> array[int]:
    return array("Q", bytes(8 * numbers))


@dataclass(frozen=True, slots=True)
class Taken:
    """Hold a batch that was taken apart: rows of plain writes, and where its other records are."""

    payload: bytes
    rows: array[int]
    others: Sequence[int]
    last_exits: Sequence[tuple[int, int]]  # (tid, exit_ns) of the last call of each task
    newest_ns: int

    @property
    def count(self) -> int:
        """Return the number of rows."""
        return len(self.rows) // _ROW

    def sums(self) -> Iterator[Sum]:
        """Yield the changes that the rows are, summed up."""
        groups, order = array("B", bytes(_GROUP.size * self.count)), _room(self.count)
        library = native.columns_library()
        found = library.dk_rows_changes(_at(self.rows), self.count, MOMENT_SHIFT, _at(groups), _at(order))
        if found < 0:
            raise MemoryError
        for ino, dev, generation, moment, begin, end, enter, exit_, locked, first, count in _GROUP.iter_unpack(
            memoryview(groups)[: found * _GROUP.size]
        ):
            source = partial(_changes, self.payload, order, first, count)
            yield (dev, ino, generation), moment, begin, end, enter, exit_, locked, source


def _changes(payload: bytes, order: array[int], first: int, count: int) -> Iterator[Change]:
    """Yield single changes; ``payload`` is what their records stand in."""
    for address in order[first : first + count]:
        sequence, t_ns, enter_ns, exit_ns, offset, length = _DATA.unpack_from(native.bytes_at(address, _DATA_SIZE))
        yield Change(offset, offset + length, enter_ns, exit_ns, sequence, t_ns)


def take_apart(payload: bytes) -> Taken | None:
    """Take a batch apart, None where it had better be decoded as a whole."""
    library = native.columns_library()
    rows = _room(_ROW * (len(payload) // _LEAST_PLAIN + 1))
    others = _room(len(payload) // _LEAST_RECORD + 1)
    tids, exits, found = _room(_TASKS), _room(_TASKS), _room(5)
    arguments = _at(rows), _at(others), _at(tids), _at(exits), _TASKS, _at(found)
    if library.dk_rows_scan(payload, len(payload), *arguments):
        return None
    row_count, other_count, tasks, newest_ns, in_streaks = found
    if 2 * in_streaks < row_count + other_count:
        return None
    last_exits = list(zip(tids[:tasks], exits[:tasks], strict=True))
    return Taken(payload, rows[: _ROW * row_count], others[:other_count], last_exits, newest_ns)


class Rows:
    """Hold rows until their time has come."""

    def __init__(self) -> None:
        """Start with none."""
        self._rows = array("Q")
        self._sorted = 0
        self._payloads: deque[tuple[int, bytes]] = deque()  # newest time of a row in it

    def __len__(self) -> int:
        return len(self._rows) // _ROW

    @property
    def fresh(self) -> int:
        """Return how many were added since they were sorted."""
        return len(self) - self._sorted

    def add(self, taken: Taken) -> None:
        """Take the rows of a batch."""
        self._rows += taken.rows
        self._payloads.append((taken.newest_ns, taken.payload))

    def sort(self) -> None:
        """Put them in the order of time."""
        if self.fresh:
            native.columns_library().dk_rows_sort(_at(self._rows), self._sorted, len(self))
            self._sorted = len(self)

    @property
    def newest_ns(self) -> int:
        """Return the time of the last one, when they are sorted; 0 if there are none."""
        return self._rows[-_ROW] if self._rows else 0

    def take(self, until_ns: int) -> PlainRun:
        """Remove and return those up to a time; they are sorted."""
        assert not self.fresh, "what is taken is sorted"
        (cut,) = _positions(self._rows, [(until_ns, _MOST)])
        run = PlainRun(self._rows[: _ROW * cut], [payload for _, payload in self._payloads])
        del self._rows[: _ROW * cut]
        self._sorted = len(self)
        while self._payloads and self._payloads[0][0] <= until_ns:
            self._payloads.popleft()
        return run


def _positions(rows: array[int], keys: Iterable[tuple[int, int]]) -> array[int]:
    """Return for each key, in order, how many rows come before it."""
    flat = array("Q", [min(max(number, 0), _MOST) for key in keys for number in key])
    out = _room(len(flat) // 2)
    native.columns_library().dk_rows_positions(_at(rows), len(rows) // _ROW, _at(flat), len(out), _at(out))
    return out


class PlainRun:
    """Be a run of plain writes in the order of time (model/plain.py)."""

    def __init__(self, rows: array[int], payloads: Sequence[bytes]) -> None:
        """Hold rows, whose records stand in ``payloads``."""
        self._rows = rows
        self._payloads = payloads
        self.count = len(rows) // _ROW
        self._is_begun = False

    @property
    def first_ns(self) -> int:
        """Return the time of the first write."""
        return self._rows[0]

    @property
    def last_ns(self) -> int:
        """Return the time of the last one."""
        return self._rows[-_ROW]

    def sequences(self) -> Sequence[int]:
        """Return the sequence of each."""
        return self._rows[1::_ROW]

    def part(self, begin: int, end: int) -> PlainRun:
        """Return the writes from number ``begin`` to before ``end``."""
        return PlainRun(self._rows[_ROW * begin : _ROW * end], self._payloads)

    def cut_by(self, keys: Iterable[tuple[int, int]]) -> Sequence[int]:
        """Return for each (time, sequence), in order, how many of the writes come before it."""
        return _positions(self._rows, keys)

    def observations(self) -> Iterator[DataWritten]:
        """Yield them one by one."""
        for address in self._rows[2::_ROW]:
            yield decode_write(native.bytes_at(address, int.from_bytes(native.bytes_at(address, 4), "little")))

    @property
    def files(self) -> Sequence[RunFile]:
        """Return the files that it writes to, in the order of appearance."""
        self._begin()
        return self._files

    @property
    def writers(self) -> Sequence[RunWriter]:
        """Return the processes that write, in the order of appearance."""
        self._begin()
        return self._writers

    def _begin(self) -> None:
        if self._is_begun:
            return
        self._is_begun = True
        count = self.count
        self._files_of, self._writers_of = array("I", bytes(4 * count)), array("I", bytes(4 * count))
        self._order, found = _room(count), _room(2)
        files, writers = array("B", bytes(_FILE.size * count)), array("B", bytes(_WRITER.size * count))
        places = _at(self._files_of), _at(files), _at(self._order), _at(self._writers_of), _at(writers), _at(found)
        if native.columns_library().dk_run_begin(_at(self._rows), count, *places):
            raise MemoryError
        self._files = [_run_file(fields) for fields in _some(_FILE, files, found[0])]
        self._firsts = [fields[5] for fields in _some(_FILE, files, found[0])]
        self._writers = [
            RunWriter(pid, bool(is_outsider), t_ns, n)
            for pid, is_outsider, t_ns, n in _some(_WRITER, writers, found[1])
        ]

    def bytes_of(self, file: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return the bytes that went to a file, and where in them each write ends."""
        held = self._files[file]
        data, ends = array("B", bytes(held.length)), _room(held.count)
        native.columns_library().dk_run_bytes(*self._order_of(file), _at(data), _at(ends))
        return data, ends

    def extents_of(self, file: int) -> Iterable[tuple[int, int, int]]:
        """Return where they went: (offset, length, place in the bytes)."""
        out = _room(3 * self._files[file].count)
        count = native.columns_library().dk_run_extents(*self._order_of(file), _at(out))
        flat = iter(out[: 3 * count])
        return zip(flat, flat, flat, strict=True)

    def _order_of(self, file: int) -> tuple[int, int, int]:
        return _at(self._rows), _at(self._order) + 8 * self._firsts[file], self._files[file].count

    def events(self, resolved: Resolved) -> EventColumns:
        """Return the run's events."""
        count, found = self.count, _room(2)
        targets = array("B", b"".join(self._target(place, resolved) for place in range(len(self._files))))
        processes, out = array("q", resolved.processes), array("q", bytes(8 * len(_COLUMNS) * count))
        native.columns_library().dk_run_columns(
            *(_at(self._rows), count, resolved.start_ns, _at(self._files_of), _at(targets)),
            *(_at(self._writers_of), _at(processes), _at(out), _at(found)),
        )
        columns: dict[int, Any] = {
            column: out[place * count : (place + 1) * count] for place, column in enumerate(_COLUMNS)
        }
        columns[Column.ENTER], columns[Column.EXIT] = (
            columns[Column.ENTER][: found[0]],
            columns[Column.EXIT][: found[1]],
        )
        paths = [target.path for target in resolved.targets]
        return EventColumns(resolved.number, count, columns, _CONSTANT, paths)

    def _target(self, place: int, resolved: Resolved) -> bytes:
        target = resolved.targets[place]
        return _TARGET.pack(target.node, target.blob, place, target.size, target.start)


def _some(layout: struct.Struct, memory: array[int], count: int) -> Iterator[tuple[Any, ...]]:
    return layout.iter_unpack(memoryview(memory)[: layout.size * count])


def _run_file(fields: tuple[Any, ...]) -> RunFile:
    ino, dev, generation, count, length, _, mode, uid, gid, mtime_ns, nlink, rdev = fields
    return RunFile((dev, ino, generation), Meta(mode, uid, gid, mtime_ns, nlink, rdev), count, length)
