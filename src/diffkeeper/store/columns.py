"""Columns of integers and of byte strings in one compressed frame: how events and trees are laid out on disk.

    frame (inside one zstd frame), little endian:
    u16 number of columns, then per column: u8 id | u8 layout | u32 count | u32 bytes, then the bytes of all in order
    layouts: 0 constant (one i128)  1 u8  2 i16  3 i32  4 i64  5 i128  6 bytes as they are
             +128: each number is the difference from the one before, the first from 0

A reader passes over ids that it does not know and takes a missing column for zeros: columns can be added, never reused.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import sub

from diffkeeper.errors import DamagedTraceError
from diffkeeper.store import zstd

MAX_FRAME_BYTES = 32 << 20
MAX_COUNT = 1 << 20  # numbers in a column

_CONSTANT, _WIDE, _BYTES, _DIFFERENCES = 0, 5, 6, 128
_CODES = {1: "B", 2: "h", 3: "i", 4: "q"}
_LAYOUTS = {1: 1, 2: 2, 4: 3, 8: 4}  # by the bytes of an entry
_SIZES = {_CONSTANT: 16, 1: 1, 2: 2, 3: 4, 4: 8, _WIDE: 16}  # bytes an entry, of those that hold numbers
_COUNT = struct.Struct("<H")
_COLUMN = struct.Struct("<BBII")


class ColumnWriter:
    """Collect columns and turn them into a frame."""

    def __init__(self) -> None:
        self._heads: list[tuple[int, int, int, int]] = []
        self._bodies: list[bytes] = []

    def numbers(self, column: int, values: Sequence[int], differences: bool = False) -> None:
        """Add a column of numbers, of as few bytes as hold them all; ``differences`` suits those that grow slowly."""
        if not values:
            return
        packed = _packed_natively(values, differences) if isinstance(values, array) else None
        if packed is not None:
            self._add(column, packed[0], len(values), packed[1])
            return
        flag = 0
        if differences:
            values = [values[0], *map(sub, values[1:], values)]
            flag = _DIFFERENCES
        layout, body = _packed(values)
        self._add(column, layout | flag, len(values), body)

    def constant(self, column: int, value: int, count: int) -> None:
        """Add a column of ``count`` numbers that are all the same."""
        self._add(column, _CONSTANT, count, value.to_bytes(16, "little", signed=True))

    def heap(self, column: int, data: bytes) -> None:
        """Add a column of bytes."""
        if data:
            self._add(column, _BYTES, len(data), data)

    def strings(self, lengths: int, heap: int, values: Iterable[bytes]) -> None:
        """Add byte strings as two columns: their lengths and their bytes."""
        values = list(values)
        self.numbers(lengths, list(map(len, values)))
        self.heap(heap, b"".join(values))

    def _add(self, column: int, layout: int, count: int, body: bytes) -> None:
        self._heads.append((column, layout, count, len(body)))
        self._bodies.append(body)

    def to_bytes(self) -> bytes:
        """Return all columns as one compressed frame."""
        heads = b"".join(_COLUMN.pack(*head) for head in self._heads)
        return zstd.compress(_COUNT.pack(len(self._heads)) + heads + b"".join(self._bodies))


def _packed_natively(values: array[int], differences: bool) -> tuple[int, bytes] | None:
    """Return layout and bytes of numbers of 64 bits, None where native code cannot do it."""
    from diffkeeper import native  # readers need none

    library = native.columns_library()
    if library is None or values.typecode != "q" or sys.byteorder == "big":
        return None
    out = array("b", bytes(8 * len(values)))
    width = library.dk_pack(values.buffer_info()[0], len(values), differences, out.buffer_info()[0])
    if width < 0:
        return None
    flag = _DIFFERENCES if differences else 0
    if not width:
        value = int.from_bytes(out[:8].tobytes(), "little", signed=True)
        return _CONSTANT | flag, value.to_bytes(16, "little", signed=True)
    return _LAYOUTS[width] | flag, out[: width * len(values)].tobytes()


def _packed(values: Sequence[int]) -> tuple[int, bytes]:
    first = values[0]
    if values.count(first) == len(values):
        return _CONSTANT, first.to_bytes(16, "little", signed=True)
    for layout, code in _CODES.items():
        try:
            numbers = array(code, values)
        except OverflowError:
            continue
        return layout, _little_endian(numbers).tobytes()
    # Wider than 64 bits are times after 2262, which some file systems hold.
    return _WIDE, b"".join(value.to_bytes(16, "little", signed=True) for value in values)


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":  # pragma: no cover
        numbers.byteswap()
    return numbers


class ColumnReader:
    """Read the columns of a frame; each is decoded when it is asked for."""

    def __init__(self, frame: bytes) -> None:
        """Take a frame apart; raise DamagedTraceError where it is none."""
        self._data = zstd.decompress(frame, MAX_FRAME_BYTES)
        self._columns: dict[int, tuple[int, int, int, int]] = {}
        if len(self._data) < _COUNT.size:
            raise DamagedTraceError("A frame of columns is cut short.")
        (number,) = _COUNT.unpack_from(self._data)
        position = _COUNT.size + number * _COLUMN.size
        if position > len(self._data):
            raise DamagedTraceError("A frame of columns is cut short.")
        for column, layout, count, size in _COLUMN.iter_unpack(self._data[_COUNT.size : position]):
            self._columns[column] = (layout, count, position, position + size)
            position += size
        if position > len(self._data):
            raise DamagedTraceError("A frame of columns is cut short.")

    def numbers(self, column: int, count: int) -> Sequence[int]:
        """Return the ``count`` numbers of a column; raise DamagedTraceError where it holds another number of them."""
        if column not in self._columns:
            return _constant(0, count)
        layout, held, start, end = self._columns[column]
        if held != count or count > MAX_COUNT:
            raise DamagedTraceError(f"Column {column} has {held} entries, not {count}.")
        values = _unpacked(layout & ~_DIFFERENCES, count, self._data[start:end])
        return _summed(values) if layout & _DIFFERENCES else values

    def all_numbers(self, column: int) -> Sequence[int]:
        """Return the numbers of a column, as many as there are."""
        return self.numbers(column, self._columns[column][1]) if column in self._columns else []

    def heap(self, column: int) -> bytes:
        """Return the bytes of a column of bytes."""
        if column not in self._columns:
            return b""
        layout, _, start, end = self._columns[column]
        if layout != _BYTES:
            raise DamagedTraceError(f"Column {column} does not hold bytes.")
        return self._data[start:end]

    def strings(self, lengths: int, heap: int) -> list[bytes]:
        """Return the byte strings of two columns: their lengths and their bytes."""
        sizes, data = self.all_numbers(lengths), self.heap(heap)
        ends = list(accumulate(sizes))
        if sizes and (min(sizes) < 0 or ends[-1] != len(data)):
            raise DamagedTraceError("Byte strings have not the length that they should have.")
        return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _unpacked(layout: int, count: int, body: bytes) -> Sequence[int]:
    entries = 1 if layout == _CONSTANT else count
    if layout not in _SIZES or len(body) != entries * _SIZES[layout]:
        raise DamagedTraceError("A column has not the length that it should have.")
    if layout == _CONSTANT:
        return _constant(int.from_bytes(body, "little", signed=True), count)
    if layout == _WIDE:
        return [int.from_bytes(body[at : at + 16], "little", signed=True) for at in range(0, len(body), 16)]
    return _little_endian(array(_CODES[layout], body))


def _constant(value: int, count: int) -> Sequence[int]:
    if not 0 <= count <= MAX_COUNT:
        raise DamagedTraceError(f"A column cannot have {count} entries.")
    return [value] * count


def _summed(values: Sequence[int]) -> Sequence[int]:
    sums = list(accumulate(values))
    try:
        return array("q", sums)
    except OverflowError:
        return sums
