"""Where the bytes of one file are kept: a map from ranges of the file to ranges of blobs.

What no extent covers is a hole and reads as zeros; blob ``UNKNOWN`` stands for bytes that nobody knows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

UNKNOWN = 0
HOLE = -1


class Piece(NamedTuple):
    """Say that [offset, offset+length) of a file is in ``blob`` from ``start``, or is HOLE, or UNKNOWN."""

    offset: int
    length: int
    blob: int
    start: int


_Extent = tuple[int, int, int]  # end in the file, blob, start in the blob


class ExtentMap:
    """Map a file's ranges to blobs; contiguous extents are joined, and a copy shares until one side changes."""

    __slots__ = ("_extents", "_is_shared", "_offsets", "size")

    def __init__(self, size: int = 0, extents: Iterable[tuple[int, int, int, int]] = ()) -> None:
        self.size = size
        self._offsets: list[int] = []
        self._extents: list[_Extent] = []
        self._is_shared = False
        for offset, length, blob, start in extents:
            if blob != HOLE:
                self.write(offset, length, blob, start)

    @classmethod
    def unknown(cls, size: int) -> ExtentMap:
        """Return a map of ``size`` bytes of which none is known."""
        return cls(size, [(0, size, UNKNOWN, 0)])

    def copy(self) -> ExtentMap:
        """Return an equal map in O(1)."""
        twin = ExtentMap(self.size)
        twin._offsets, twin._extents = self._offsets, self._extents
        twin._is_shared = self._is_shared = True
        return twin

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtentMap):
            return NotImplemented
        return (self.size, self._offsets, self._extents) == (other.size, other._offsets, other._extents)

    __hash__ = None  # type: ignore[assignment]  # a mutable value

    def __repr__(self) -> str:
        return f"ExtentMap({self.size}, {[tuple(piece) for piece in self.extents()]})"

    @property
    def count(self) -> int:
        """Return how many extents there are."""
        return len(self._extents)

    @property
    def has_unknown(self) -> bool:
        """Say whether any byte is unknown."""
        return any(blob == UNKNOWN for _, blob, _ in self._extents)

    @property
    def first_blob(self) -> int:
        """Return the blob of the first known extent, 0 if there is none."""
        return next((blob for _, blob, _ in self._extents if blob != UNKNOWN), 0)

    def extents(self) -> Iterator[Piece]:
        """Yield the pieces that are not holes, ascending."""
        for offset, (end, blob, start) in zip(self._offsets, self._extents, strict=True):
            yield Piece(offset, end - offset, blob, start)

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[Piece]:
        """Yield pieces that cover [offset, offset+length) without gaps, holes included, cut at the file's size."""
        at = offset
        stop = self.size if length is None else min(self.size, offset + length)
        index = max(0, bisect_right(self._offsets, at) - 1)
        while at < stop and index < len(self._offsets):
            begin, (end, blob, start) = self._offsets[index], self._extents[index]
            index += 1
            if begin >= stop:
                break
            if end <= at:
                continue
            if begin > at:
                yield Piece(at, begin - at, HOLE, 0)
                at = begin
            until = min(end, stop)
            yield Piece(at, until - at, blob, start + at - begin if blob else 0)
            at = until
        if at < stop:
            yield Piece(at, stop - at, HOLE, 0)

    def slice(self, offset: int, length: int) -> ExtentMap:
        """Return [offset, offset+length) as a map that begins at 0; it is shorter where the file ends before."""
        size = max(0, min(length, self.size - offset))
        if offset == 0 and size == self.size:
            return self.copy()
        return ExtentMap(
            size, [(at - offset, long, blob, start) for at, long, blob, start in self.pieces(offset, size)]
        )

    def write(self, offset: int, length: int, blob: int, start: int) -> None:
        """Put ``length`` bytes of ``blob`` at ``offset``; the file grows as needed."""
        if length <= 0:
            return
        if self._is_shared:
            self._unshare()
        end = offset + length
        self.size = max(self.size, end)
        extents = self._extents
        if not extents or offset > extents[-1][0]:
            self._offsets.append(offset)
            extents.append((end, blob, start))
            return
        last_end, last_blob, last_start = extents[-1]
        if offset < last_end:
            self._replace(offset, end, [(offset, (end, blob, start))])
        elif blob == last_blob and start == (last_start + offset - self._offsets[-1] if blob else start):
            extents[-1] = (end, blob, last_start)
        else:
            self._offsets.append(offset)
            extents.append((end, blob, start))

    def write_unknown(self, offset: int, length: int) -> None:
        """Note that nobody knows what was written to [offset, offset+length)."""
        self.write(offset, length, UNKNOWN, 0)

    def paste(self, offset: int, part: ExtentMap) -> None:
        """Put what ``slice`` returned at ``offset``; its holes become holes."""
        if not part.size:
            return
        if offset == 0 and self.size <= part.size:
            self._share(part)
            return
        self.punch(offset, part.size)
        self.size = max(self.size, offset + part.size)
        for at, length, blob, start in part.extents():
            self.write(offset + at, length, blob, start)

    def truncate(self, size: int) -> None:
        """Cut or grow the file to ``size`` bytes."""
        if size < self.size:
            self._unshare()
            self._replace(size, self.size, [])
        self.size = size

    def punch(self, offset: int, length: int) -> None:
        """Make [offset, offset+length) a hole; the size stays."""
        if length > 0 and self._extents and offset < self._extents[-1][0]:
            self._unshare()
            self._replace(offset, offset + length, [])

    def insert_range(self, offset: int, length: int) -> None:
        """Insert a hole of ``length`` bytes at ``offset``; what follows moves up."""
        if length <= 0 or offset >= self.size:
            return
        tail = self.slice(offset, self.size - offset)
        size = self.size + length
        self.truncate(offset)
        self.size = size
        self.paste(offset + length, tail)

    def collapse_range(self, offset: int, length: int) -> None:
        """Remove [offset, offset+length); what follows moves down."""
        if length <= 0 or offset >= self.size:
            return
        tail = self.slice(offset + length, max(0, self.size - offset - length))
        self.truncate(offset)
        self.paste(offset, tail)

    def _share(self, part: ExtentMap) -> None:
        """Become equal to ``part``, as ``copy`` does."""
        self.size = part.size
        self._offsets, self._extents = part._offsets, part._extents
        self._is_shared = part._is_shared = True

    def _unshare(self) -> None:
        if self._is_shared:
            self._offsets, self._extents = list(self._offsets), list(self._extents)
            self._is_shared = False

    def _replace(self, offset: int, end: int, new: list[tuple[int, _Extent]]) -> None:
        """Put ``new`` in the place of whatever lies in [offset, end)."""
        first = bisect_left(self._offsets, offset)
        if first and self._extents[first - 1][0] > offset:
            first -= 1
        last = bisect_left(self._offsets, end, first)
        if first < last:
            new = self._left_of(first, offset) + new + self._right_of(last - 1, end)
        if first and new:  # let the predecessor join
            first -= 1
            new = [(self._offsets[first], self._extents[first]), *new]
        if last < len(self._offsets) and new:
            new.append((self._offsets[last], self._extents[last]))
            last += 1
        new = _joined(new)
        self._offsets[first:last] = [begin for begin, _ in new]
        self._extents[first:last] = [extent for _, extent in new]

    def _left_of(self, index: int, offset: int) -> list[tuple[int, _Extent]]:
        begin, (_, blob, start) = self._offsets[index], self._extents[index]
        return [(begin, (offset, blob, start))] if begin < offset else []

    def _right_of(self, index: int, end: int) -> list[tuple[int, _Extent]]:
        begin, (until, blob, start) = self._offsets[index], self._extents[index]
        return [(end, (until, blob, start + end - begin if blob else 0))] if until > end else []


def _joined(items: list[tuple[int, _Extent]]) -> list[tuple[int, _Extent]]:
    joined: list[tuple[int, _Extent]] = []
    for begin, (end, blob, start) in items:
        if joined:
            before, (before_end, before_blob, before_start) = joined[-1]
            if before_end == begin and before_blob == blob and (not blob or before_start + begin - before == start):
                joined[-1] = (before, (end, blob, before_start))
                continue
        joined.append((begin, (end, blob, start)))
    return joined
