"""Bytes of files that are not shown, held in memory until their file is shown or others push them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from diffkeeper.model.blobs import BlobSink
from diffkeeper.model.event import Data
from diffkeeper.model.extents import HOLE, UNKNOWN, ExtentMap, Piece
from diffkeeper.model.node import Node

HELD_BYTES = 64 << 20
FIRST_HELD = 1 << 62  # blobs from here on are held; the store's numbers stay below
_BLOCK_BYTES = 64 << 10
_BLOCK_COST = 256  # of a block beside its bytes


def is_held(blob: int) -> bool:
    """Say whether a blob is held in memory, and so is not in the store."""
    return blob >= FIRST_HELD


class HeldBytes:
    """Be the resolver's BlobSink: bytes of shown nodes go to the store's, those of others are held.

    The blob of a node that is not shown is FIRST_HELD + its number. The oldest bytes go first.
    """

    def __init__(self, sink: BlobSink, is_shown: Callable[[int], bool], limit: int = HELD_BYTES) -> None:
        self._sink = sink
        self._is_shown = is_shown
        self._limit = limit
        self._blocks: dict[tuple[int, int], bytearray] = {}  # in the order in which they were begun
        self._lengths: dict[int, int] = {}
        self._endings: dict[int, tuple[int, bool]] = {}
        self._cost = 0

    def append(self, node: int, data: bytes) -> tuple[int, int]:
        """Append bytes to the node's blob and return (blob, start in it); output streams are always shown."""
        if node < 0 or self._is_shown(node):
            return self._sink.append(node, data)
        start = self._lengths.get(node, 0)
        view, at = memoryview(data), start
        while view:
            index, used = divmod(at, _BLOCK_BYTES)
            part = view[: _BLOCK_BYTES - used]
            self._hold(node, index, part)
            view, at = view[len(part) :], at + len(part)
        self._lengths[node] = at
        return FIRST_HELD + node, start

    def _hold(self, node: int, index: int, part: memoryview) -> None:
        block = self._blocks.get((node, index))
        if block is None:
            block = self._blocks[node, index] = bytearray()
            self._cost += _BLOCK_COST
        block += part
        self._cost += len(part)

    def peek(self, blob: int, start: int, length: int) -> bytes | None:
        """Return bytes of a blob, None where they were pushed out."""
        if not is_held(blob):
            return self._sink.peek(blob, start, length)
        parts = [data for _, _, data in self._read(blob - FIRST_HELD, start, length)]
        known = [data for data in parts if data is not None]
        return b"".join(known) if len(known) == len(parts) else None

    def end(self, node: int, base_blob: int, is_executable: bool) -> None:
        """End the node's blob, or remember how to when its bytes come to the store."""
        base = 0 if is_held(base_blob) else base_blob
        if node < 0 or self._is_shown(node):
            self._sink.end(node, base, is_executable)
        elif node in self._lengths:
            self._endings[node] = base, is_executable

    def hidden(self, node: int) -> None:
        """End what a node wrote while it was shown."""
        self._sink.end(node, 0, False)

    def trim(self) -> None:
        """Forget the oldest bytes beyond the limit."""
        while self._cost > self._limit:
            node, index = oldest = next(iter(self._blocks))
            self._cost -= _BLOCK_COST + len(self._blocks.pop(oldest))
            if self._lengths[node] < (index + 1) * _BLOCK_BYTES:
                self._lengths[node] = (index + 1) * _BLOCK_BYTES  # a block is never begun in its middle

    def store(self, node: Node, pieces: Iterable[Piece]) -> tuple[Data, ...]:
        """Put pieces of a node's content into the store, and its content there; holes are left out."""
        assert node.content is not None, "only regular files have bytes"
        stored: list[Data] = []
        for piece in pieces:
            if piece.blob != HOLE:
                stored += self._stored(node.number, piece)
        for data in stored:
            node.content.write(data.offset, data.length, data.blob, data.start)
        return tuple(stored)

    def store_all(self, node: Node) -> tuple[Data, ...]:
        """Put all content of a node into the store as one version of the file."""
        assert node.content is not None, "only regular files have bytes"
        stored = self.store(node, list(node.content.pieces()))
        base, is_executable = self._endings.pop(node.number, (0, bool(node.meta.mode & 0o111)))
        self._sink.end(node.number, base, is_executable)
        return stored

    def _stored(self, node: int, piece: Piece) -> Iterator[Data]:
        offset, length, blob, start = piece
        if not is_held(blob):
            yield Data(offset, length, blob, start)
            return
        for at, count, data in self._read(blob - FIRST_HELD, start, length):
            place = offset + at - start
            yield Data(place, count, *(self._sink.append(node, data) if data is not None else (UNKNOWN, 0)))

    def _read(self, node: int, start: int, length: int) -> Iterator[tuple[int, int, bytes | None]]:
        """Yield (position, count, bytes) of a held range; None for bytes that were pushed out."""
        at, end = start, start + length
        while at < end:
            index, used = divmod(at, _BLOCK_BYTES)
            count = min(_BLOCK_BYTES - used, end - at)
            block = self._blocks.get((node, index))
            yield at, count, None if block is None else bytes(block[used : used + count])
            at += count


def forget_held(content: ExtentMap) -> None:
    """Make unknown what was held by a process that has ended."""
    for piece in [piece for piece in content.extents() if is_held(piece.blob)]:
        content.write_unknown(piece.offset, piece.length)
