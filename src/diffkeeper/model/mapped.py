"""What was found in a file that is mapped shared and writable: which of it is news, and where a call covers it.

A sample bears the instant before it was read. A write that had its bytes in place by then is in it, one with a later
time is replayed over it; what lies under a write that was going on at that instant is cut out: it is read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from diffkeeper.model.extents import HOLE, UNKNOWN, ExtentMap
from diffkeeper.model.observation import DataWritten

_PAGE = 4096

Peek = Callable[[int, int, int], "bytes | None"]  # blob, start, length
_Chunk = tuple[int, bytes]


def without(sample: DataWritten, ranges: Iterable[tuple[int, int]]) -> DataWritten:
    """Return a sample without the bytes of those ranges, given as (begin, end) in the file."""
    payload = [(sample.offset + at, data) for at, data in sample.payload]
    for begin, end in ranges:
        payload = [piece for at, data in payload for piece in _around(at, data, begin, end)]
    return replace(sample, payload=tuple((at - sample.offset, data) for at, data in payload))


def _around(at: int, data: bytes, begin: int, end: int) -> Iterator[_Chunk]:
    if at < begin:
        yield at, data[: begin - at]
    if at + len(data) > end:
        yield max(at, end), data[max(0, end - at) :]
    if not data:
        yield at, data


def news(content: ExtentMap, sample: DataWritten, peek: Peek) -> Iterator[_Chunk]:
    """Yield (offset, bytes) of what a file holds otherwise than a sample says, or what is not known of it."""
    for at, data in sample.payload:
        offset = sample.offset + at
        data = data[: max(0, content.size - offset)]  # a store cannot make a file longer
        yield from differing(content, offset, data, peek)


def differing(content: ExtentMap, offset: int, data: bytes, peek: Peek) -> Iterator[_Chunk]:
    """Yield (offset, bytes) of what stands otherwise in the content of a file, or is not known of it."""
    return _joined(_by_page(content, offset, data, peek))


def _by_page(content: ExtentMap, offset: int, data: bytes, peek: Peek) -> Iterator[_Chunk]:
    for at in range(0, len(data), _PAGE):
        part = data[at : at + _PAGE]
        held = _held(content, offset + at, len(part), peek)
        if held is None:
            yield offset + at, part
        elif held != part:
            first, last = _bounds(held, part)
            yield offset + at + first, part[first:last]


def _held(content: ExtentMap, offset: int, length: int, peek: Peek) -> bytes | None:
    parts: list[bytes] = []
    for piece in content.pieces(offset, length):
        if piece.blob == UNKNOWN:
            return None
        data = bytes(piece.length) if piece.blob == HOLE else peek(piece.blob, piece.start, piece.length)
        if data is None:
            return None
        parts.append(data)
    return b"".join(parts)


def _bounds(old: bytes, new: bytes) -> tuple[int, int]:
    """Return the first byte that differs, and the one after the last."""
    difference = int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
    first = ((difference & -difference).bit_length() - 1) // 8
    return first, (difference.bit_length() + 7) // 8


def _joined(chunks: Iterable[_Chunk]) -> Iterator[_Chunk]:
    """Join what follows on each other without a gap."""
    waiting: list[bytes] = []
    begin = end = 0
    for at, data in chunks:
        if waiting and at != end:
            yield begin, b"".join(waiting)
            waiting = []
        if not waiting:
            begin = at
        waiting.append(data)
        end = at + len(data)
    if waiting:
        yield begin, b"".join(waiting)
