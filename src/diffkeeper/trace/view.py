"""The tree as it stood at one instant: entries, their metadata, and their bytes out of the trace's content."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Protocol

from diffkeeper.errors import NoSuchEntryError, UnknownContentError, UsageError
from diffkeeper.model.answers import Entry, Exactness
from diffkeeper.model.extents import HOLE, UNKNOWN, Piece
from diffkeeper.model.globs import PathFilter
from diffkeeper.model.losses import TREE_IN_DOUBT
from diffkeeper.model.promised import has_promised, is_promised
from diffkeeper.model.tree import Node, Tree

SLICE_BYTES = 1 << 20  # the most that is held of a file at a time

_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}


class BlobSource(Protocol):
    """Give the bytes of blobs; processing/known_bytes.py's Bytes is one."""

    def read(self, blob: int, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a blob; raises DamagedTraceError, UnknownContentError for a promised one."""

    def stream(self, blob: int, start: int, length: int) -> Iterator[bytes]:
        """Yield the same bytes in pieces of at most 1 MiB."""

    def has(self, blob: int) -> bool:
        """Say whether the bytes of a promised blob can be had."""


class TreeView:
    """Answer what the tree held at an instant. A path may be given as str (decoded with os.fsdecode) or bytes."""

    def __init__(self, tree: Tree, blobs: BlobSource, number: int = 0) -> None:
        """Show ``tree``, the state just after event ``number``."""
        self.tree = tree
        self.number = number
        self._blobs = blobs
        in_doubt = any(TREE_IN_DOUBT in tree.nodes[one].inexact for _, one in tree.roots if one in tree.nodes)
        self.doubt = TREE_IN_DOUBT if in_doubt else ""  # why nothing is certain, not even which names there are

    def entries(self, paths: str | Sequence[str] = ()) -> Iterator[Entry]:
        """Yield entries, parents before children, in byte order of their names; ``paths`` are globs, none means all."""
        wanted = PathFilter.of(paths)
        for path, node in self.tree.walk():
            if path and wanted.matches(path):
                yield self.entry_of(path, node)

    def top(self) -> Entry | None:
        """Return the only watch root itself; None where there are several, or where nothing is known of it."""
        root = self.tree.nodes.get(self.tree.roots[0][1]) if len(self.tree.roots) == 1 else None
        return self.entry_of(b"", root) if root is not None and root.meta.mtime_ns else None

    def stat(self, path: str | bytes) -> Entry:
        """Return the entry of that name; raises NoSuchEntryError."""
        as_bytes = os.fsencode(path)
        return self.entry_of(as_bytes, self._node(as_bytes))

    def entry_of(self, path: bytes, node: Node) -> Entry:
        """Return the entry of a node under one of its names."""
        kind = _KINDS.get(stat.S_IFMT(node.meta.mode), "f")
        size = node.content.size if node.content is not None else len(node.target)
        content, reason = self._exactness(node, kind)
        return Entry(path, kind, node.meta, size, node.target, node.xattrs, node.number, content, reason)

    def _exactness(self, node: Node, kind: str) -> tuple[Exactness, str]:
        if kind == "f" and (node.content is None or not all(map(self._is_known, node.content.pieces()))):
            return Exactness.UNKNOWN, _why_unknown(node)
        if node.inexact or self.doubt:
            return Exactness.INEXACT, str(node.inexact or self.doubt)
        return Exactness.EXACT, ""

    def _is_known(self, piece: Piece) -> bool:
        return piece.blob != UNKNOWN and (not is_promised(piece.blob) or self._blobs.has(piece.blob))

    def read(self, path: str | bytes, *, allow_unknown: bool = False) -> bytes:
        """Return the bytes of a regular file.

        Bytes that the trace does not hold raise UnknownContentError or, with ``allow_unknown``, read as zeros. Raises
        NoSuchEntryError, UsageError if it is not a regular file, DamagedTraceError if stored bytes cannot be read.
        """
        entry = self.stat(path)
        if entry.kind != "f":
            raise UsageError(f"{os.fsdecode(entry.path)} is not a regular file")
        return self.slice(entry, 0, entry.size, allow_unknown=allow_unknown)

    def slice(self, entry: Entry, offset: int, length: int, *, allow_unknown: bool = False) -> bytes:
        """Return up to ``length`` bytes of a regular file from ``offset``; raises as ``read`` does."""
        length = max(0, min(length, entry.size - offset))
        try:
            content = bytearray(length)
        except (MemoryError, OverflowError) as error:
            raise UsageError(
                f"{length} bytes of {os.fsdecode(entry.path)} do not fit into memory: read it in parts, or export it"
            ) from error
        for start, piece in self._data(entry, offset, length, allow_unknown):
            content[start - offset : start - offset + len(piece)] = piece
        return bytes(content)

    def recipe(self, entry: Entry) -> list[Piece]:
        """Return where the bytes of a regular file are kept; equal recipes mean equal bytes."""
        return list(self._pieces(entry, 0, entry.size))

    def data_bytes(self, entry: Entry) -> int:
        """Return how many bytes of a regular file ``chunks`` would yield at most: its size without the holes."""
        return sum(piece.length for piece in self._pieces(entry, 0, entry.size) if piece.blob not in (HOLE, UNKNOWN))

    def chunks(self, entry: Entry, *, allow_unknown: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a regular file, ascending, at most 1 MiB each; holes are left out.

        Bytes that the trace does not hold raise UnknownContentError or, with ``allow_unknown``, are left out.
        """
        return self._data(entry, 0, entry.size, allow_unknown)

    def _data(self, entry: Entry, offset: int, length: int, allow_unknown: bool) -> Iterator[tuple[int, bytes]]:
        for piece in self._pieces(entry, offset, length):
            if piece.blob == HOLE:
                continue
            if self._is_known(piece):
                yield from self._slices(piece.blob, piece.start, piece.offset, piece.length)
            elif not allow_unknown:
                raise UnknownContentError(_unknown(entry.path, piece))

    def _pieces(self, entry: Entry, offset: int, length: int) -> Iterator[Piece]:
        content = self.tree.nodes[entry.links].content
        if content is None:
            return iter([Piece(offset, length, UNKNOWN, 0)] if length else [])
        return content.pieces(offset, length)

    def _slices(self, blob: int, start: int, offset: int, length: int) -> Iterator[tuple[int, bytes]]:
        if length <= SLICE_BYTES:
            yield offset, self._blobs.read(blob, start, length)
            return
        for data in self._blobs.stream(blob, start, length):
            yield offset, data
            offset += len(data)

    def _node(self, path: bytes) -> Node:
        node = self.tree.lookup(path)
        if node is None:
            raise NoSuchEntryError(f"there is no {os.fsdecode(path)} at that point of the trace")
        return node


def _why_unknown(node: Node) -> str:
    if node.content is not None and has_promised(node.content):
        return "its bytes from before the command are neither in the trace nor, as they were, in the base"
    return "part of the bytes is not in the trace"


def _unknown(path: bytes, piece: Piece) -> str:
    what = f"{piece.length} bytes of {os.fsdecode(path)} at {piece.offset} are not in the trace"
    if is_promised(piece.blob):
        return f"{what}: they were there before the command, and the base has not that file as it was"
    return f"{what}; they were written but never read"
