"""The tree as it stood at one instant: entries, their metadata, and their bytes out of the trace's content."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Protocol

from diffkeeper.errors import NoSuchEntryError, UnknownContentError, UsageError
from diffkeeper.model.answers import Entry, Exactness
from diffkeeper.model.event import Meta
from diffkeeper.model.extents import HOLE, UNKNOWN, ExtentMap, Piece
from diffkeeper.model.globs import PathFilter
from diffkeeper.model.losses import TREE_IN_DOUBT
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
    """Give stored bytes; store/content.py's ContentReader is one."""

    def read(self, blob: int, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a blob; raises DamagedTraceError."""


class TreeView:
    """Answer what the tree held at an instant. A path may be given as str (decoded with os.fsdecode) or bytes."""

    def __init__(self, tree: Tree, blobs: BlobSource, number: int = 0) -> None:
        """Show ``tree``, the state just after event ``number``."""
        self.tree = tree
        self.number = number
        self._blobs = blobs

    @property
    def doubt(self) -> str:
        """Return why nothing in the tree is certain, not even which names there are; empty if that is not so."""
        nodes = self.tree.nodes
        return TREE_IN_DOUBT if any(TREE_IN_DOUBT in nodes[number].inexact for _, number in self.tree.roots) else ""

    def entries(self, paths: str | Sequence[str] = ()) -> Iterator[Entry]:
        """Yield entries, parents before children, in byte order of their names; ``paths`` are globs, none means all."""
        wanted, doubt = PathFilter.of(paths), self.doubt
        for path, node in self.tree.walk():
            if path and wanted.matches(path):
                yield entry_of(path, node, doubt)

    def top(self) -> Entry | None:
        """Return the only watch root itself; None where there are several, or where nothing is known of it."""
        root = self.tree.nodes.get(self.tree.roots[0][1]) if len(self.tree.roots) == 1 else None
        return entry_of(b"", root, self.doubt) if root is not None and root.meta.mtime_ns else None

    def stat(self, path: str | bytes) -> Entry:
        """Return the entry of that name; raises NoSuchEntryError."""
        as_bytes = os.fsencode(path)
        return entry_of(as_bytes, self._node(as_bytes), self.doubt)

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

    def chunks(self, entry: Entry, *, allow_unknown: bool = False) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of a regular file, ascending, at most 1 MiB each; holes are left out.

        Bytes that the trace does not hold raise UnknownContentError or, with ``allow_unknown``, are left out.
        """
        return self._data(entry, 0, entry.size, allow_unknown)

    def _data(self, entry: Entry, offset: int, length: int, allow_unknown: bool) -> Iterator[tuple[int, bytes]]:
        for piece in self._pieces(entry, offset, length):
            if piece.blob == HOLE:
                continue
            if piece.blob != UNKNOWN:
                yield from self._slices(piece.blob, piece.start, piece.offset, piece.length)
            elif not allow_unknown:
                raise UnknownContentError(_unknown(entry.path, piece.offset, piece.length))

    def _pieces(self, entry: Entry, offset: int, length: int) -> Iterator[Piece]:
        content = self.tree.nodes[entry.links].content
        if content is None:
            return iter([Piece(offset, length, UNKNOWN, 0)] if length else [])
        return content.pieces(offset, length)

    def _slices(self, blob: int, start: int, offset: int, length: int) -> Iterator[tuple[int, bytes]]:
        for done in range(0, length, SLICE_BYTES):
            count = min(SLICE_BYTES, length - done)
            yield offset + done, self._blobs.read(blob, start + done, count)

    def _node(self, path: bytes) -> Node:
        node = self.tree.lookup(path)
        if node is None:
            raise NoSuchEntryError(f"there is no {os.fsdecode(path)} at that point of the trace")
        return node


def entry_of(path: bytes, node: Node, doubt: str = "") -> Entry:
    """Return the entry of a node under one of its names; ``doubt`` is what keeps the whole tree from being exact."""
    kind = _KINDS.get(stat.S_IFMT(node.meta.mode), "f")
    size = node.content.size if node.content is not None else len(node.target)
    content, reason = _exactness(node, kind)
    if doubt and content is Exactness.EXACT:
        content, reason = Exactness.INEXACT, doubt
    return Entry(path, kind, _meta(node), size, node.target, node.xattrs, node.number, content, reason)


def _meta(node: Node) -> Meta:
    return node.meta


def _exactness(node: Node, kind: str) -> tuple[Exactness, str]:
    if kind == "f" and (node.content is None or has_unknown(node.content)):
        return Exactness.UNKNOWN, "part of the bytes is not in the trace"
    if node.inexact:
        return Exactness.INEXACT, str(node.inexact)
    return Exactness.EXACT, ""


def has_unknown(content: ExtentMap) -> bool:
    """Tell whether part of the bytes is not in the trace."""
    return any(piece.blob == UNKNOWN for piece in content.pieces(0, content.size))


def _unknown(path: bytes, offset: int, length: int) -> str:
    return f"{length} bytes of {os.fsdecode(path)} at {offset} are not in the trace; they were written but never read"
