"""Process with exclusion: the filter behind the resolver, and the whole tree, which is kept for the next worker.

The store, which stays, must not hold the tree with what is excluded. A file ``journal/whole-N.tree`` is that tree after
its event N, as the parts of a checkpoint, each with its length. It is written before the commit that it belongs to, and
removed once a later commit is safe, or all is processed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.blobs import BlobSink
from diffkeeper.model.event import Event
from diffkeeper.model.exclusion import Exclusion, IsExcluded, WholeTree, shown_part
from diffkeeper.model.held import forget_held
from diffkeeper.model.tree import Tree
from diffkeeper.store.checkpoint import decode_tree, encode_tree
from diffkeeper.store.format import JOURNAL_NAME

_PART = struct.Struct("<II")  # length, crc32


class Excluding:
    """Hold the filter of one processing; ``whole`` is the tree for the resolver."""

    def __init__(
        self, trace_dir: Path, is_excluded: IsExcluded, seen: int, *, is_resumed: bool, keeps_tree: bool
    ) -> None:
        """Go on after event ``seen`` of the whole tree; raises DamagedTraceError where that is not known."""
        self.whole = load(trace_dir, seen) if is_resumed else WholeTree()
        self._trace_dir = trace_dir
        self._is_excluded = is_excluded
        self._is_resumed = is_resumed
        self._keeps_tree = keeps_tree
        self._committed = seen
        self._seen = seen
        self._exclusion: Exclusion | None = None

    def begin(self, shown: Tree, blobs: BlobSink, number: int) -> tuple[Tree, BlobSink]:
        """Start, the baseline being whole; return the shown tree and where the resolver is to put bytes."""
        if not self._is_resumed:
            shown = shown_part(self.whole, self._is_excluded)
        self._exclusion = Exclusion(self.whole, shown, self._is_excluded, blobs, number, self._seen)
        return shown, self._exclusion.sink

    @property
    def _started(self) -> Exclusion:
        assert self._exclusion is not None, "nothing is resolved before the baseline is whole"
        return self._exclusion

    def take(self) -> list[Event]:
        """Return the shown events since the last time."""
        return self._started.take()

    @property
    def since_commit(self) -> int:
        """Return how many events, shown or not, came since the last commit."""
        return self._started.seen - self._committed

    def save(self) -> None:
        """Keep the whole tree for a commit that comes next."""
        self._committed = self._started.seen
        if self._keeps_tree:
            save(self._trace_dir, self._committed, self.whole)

    def forget(self, *, is_finished: bool) -> None:
        """Remove what no worker will go on from."""
        if self._keeps_tree:
            forget(self._trace_dir, kept=-1 if is_finished else self._committed)


def save(trace_dir: Path, number: int, tree: Tree) -> None:
    """Keep the tree as it is after event ``number``."""
    path = _path(trace_dir, number)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        for part in encode_tree(tree):
            file.write(_PART.pack(len(part), zlib.crc32(part)) + part)
    temporary.replace(path)


def load(trace_dir: Path, number: int) -> WholeTree:
    """Return the tree after event ``number``, the bytes that were held in memory unknown; raises DamagedTraceError."""
    try:
        data = _path(trace_dir, number).read_bytes()
    except OSError as error:
        raise DamagedTraceError(f"the tree with what is excluded cannot be read: {error.strerror}") from error
    whole = WholeTree.of(decode_tree(list(_parts(data))))
    for node in whole.nodes.values():
        if node.content is not None:
            forget_held(node.content)
    return whole


def forget(trace_dir: Path, kept: int = -1) -> None:
    """Remove the trees of other events than ``kept``."""
    for path in (trace_dir / JOURNAL_NAME).glob("whole-*.t[mr]*"):
        if path != _path(trace_dir, kept):
            path.unlink(missing_ok=True)


def _parts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        head, at = data[at : at + _PART.size], at + _PART.size
        length, crc = _PART.unpack(head) if len(head) == _PART.size else (0, 1)
        part, at = data[at : at + length], at + length
        if len(part) != length or zlib.crc32(part) != crc:
            raise DamagedTraceError("the tree with what is excluded is damaged")
        yield part


def _path(trace_dir: Path, number: int) -> Path:
    return trace_dir / JOURNAL_NAME / f"whole-{number}.tree"
