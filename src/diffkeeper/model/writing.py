"""Put the bytes of one write into blobs, and say of which bytes nothing is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.event import Data, Mark
from diffkeeper.model.extents import UNKNOWN, ExtentMap
from diffkeeper.model.late import Late
from diffkeeper.model.observation import DataWritten, LateData, OutputWritten
from diffkeeper.model.tree import fallocate

ALL_MARKS = [Mark(bits) for bits in range(256)]
_Chunk = tuple[int, bytes]  # offset in the file, bytes


def fill(
    content: ContentLog, node: int, seen: DataWritten, late: Iterable[Late], is_exact: bool
) -> tuple[tuple[Data, ...], int]:
    """Return where the bytes of a write are, without gaps, and the marks that this brings (as bits)."""
    offset, end = seen.offset, seen.offset + seen.length
    inline = list(_clipped(((offset + at, data) for at, data in seen.payload), offset, end))
    readings = [one for one in late if isinstance(one, LateData) and not one.failed]
    read = list(_uncovered(_clipped(((one.offset, one.data) for one in readings), offset, end), inline))
    data, knows_all = _append(content, node, sorted(inline + read, key=lambda chunk: chunk[0]), offset, end)
    bits = Mark(0) if knows_all else Mark.UNKNOWN_DATA
    if read and not is_exact:
        bits |= Mark.INEXACT
    if any(piece.blob for piece in data):
        content.written.add(node)
    return data, int(bits)


def fill_output(content: ContentLog, seen: OutputWritten) -> tuple[tuple[Data, ...], int]:
    """Return where the bytes of an output are, offsets counted from its begin, and the marks that this brings."""
    chunks = list(_clipped(seen.payload, 0, seen.length))
    data, knows_all = _append(content, -abs(seen.stream), chunks, 0, seen.length)
    return data, 0 if knows_all else int(Mark.UNKNOWN_DATA)


def _clipped(chunks: Iterable[_Chunk], offset: int, end: int) -> Iterator[_Chunk]:
    """Yield chunks cut to [offset, end), each beginning where the one before it ended or later."""
    at = offset
    for begin, data in sorted(chunks, key=lambda chunk: chunk[0]):
        cut = data[max(0, at - begin) : max(0, end - begin)]
        if cut:
            begin = max(begin, at)
            yield begin, cut
            at = begin + len(cut)


def _uncovered(chunks: Iterable[_Chunk], taken: list[_Chunk]) -> Iterator[_Chunk]:
    """Yield what of the chunks lies outside of those taken."""
    for begin, data in chunks:
        at = begin
        for other, other_data in taken:
            if other > at:
                piece = data[at - begin : other - begin]
                if piece:
                    yield at, piece
            at = max(at, other + len(other_data))
        if data[at - begin :]:
            yield at, data[at - begin :]


def _append(
    content: ContentLog, node: int, chunks: Iterable[_Chunk], offset: int, end: int
) -> tuple[tuple[Data, ...], bool]:
    pieces: list[Data] = []
    at = offset
    knows_all = True
    for begin, data in chunks:
        if begin > at:
            pieces.append(Data(at, begin - at, UNKNOWN, 0))
            knows_all = False
        blob, start = content.append(node, data)
        pieces.append(Data(begin, len(data), blob, start))
        at = begin + len(data)
    if at < end:
        pieces.append(Data(at, end - at, UNKNOWN, 0))
        knows_all = False
    return tuple(pieces), knows_all


def size_after_fallocate(size: int, mode: int, offset: int, length: int) -> int:
    """Return the size of a file after an allocation."""
    content = ExtentMap(size)
    fallocate(content, mode, offset, length)
    return content.size
