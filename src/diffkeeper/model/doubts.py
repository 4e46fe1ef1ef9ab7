"""Which bytes of a file are in doubt, so that reading just these again ends it, while the recording goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from diffkeeper.model import mapped
from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.event import RESYNC_CONFIRMED, RESYNC_EXTENT, RESYNC_NO_XATTR, Data, Kind
from diffkeeper.model.late import Late
from diffkeeper.model.ledger import Ledger, meta_of
from diffkeeper.model.node import Node
from diffkeeper.model.observation import Flag, HoleReread
from diffkeeper.model.settling import joined
from diffkeeper.model.tree import UNEXPLAINED

END = 1 << 64


class Doubts:
    """Remember doubtful ranges by node; a node in doubt without one may differ anywhere, its attributes included."""

    def __init__(self) -> None:
        """Start with none."""
        self._ranges: dict[int, tuple[int, int]] = {}

    def add(self, node: Node, begin: int, end: int, *, was_certain: bool) -> None:
        """Note that bytes are in doubt from here on; ``was_certain``: nothing of the node was before."""
        number = node.number
        if was_certain:
            self._ranges[number] = begin, end
        elif number in self._ranges:
            first, last = self._ranges[number]
            self._ranges[number] = min(first, begin), max(last, end)

    def add_all(self, number: int) -> None:
        """Note that anything of a node may differ."""
        self._ranges.pop(number, None)

    def are_covered(self, node: Node, seen: HoleReread) -> bool:
        """Say whether what was read again is all that is in doubt."""
        if node.number not in self._ranges and seen.xattr_names is None:
            return False
        first, last = self._ranges.get(node.number, (0, END))
        return seen.offset <= first and min(last, seen.inode.size) <= seen.offset + seen.length


class Settling:
    """End doubts by readings that nothing disturbed; all others are as if they had not been."""

    def __init__(self, ledger: Ledger, doubts: Doubts, content: ContentLog) -> None:
        """Put bytes that turn out to differ into ``content``."""
        self._ledger = ledger
        self._doubts = doubts
        self._content = content

    def settle(self, seen: HoleReread, late: Iterable[Late], is_exact: bool) -> None:
        """Take in a reading of what was in doubt: at its end the file was as it says."""
        node = self._ledger.find(seen.inode)
        if node is None or node.content is None or not node.inexact or UNEXPLAINED in node.inexact:
            return  # what no call explains is read again on its own
        if not is_exact or seen.flags & Flag.HOLE or not self._doubts.are_covered(node, seen):
            return
        text, is_all = joined(seen.offset, late)
        if is_all and len(text) == min(seen.length, max(0, seen.inode.size - seen.offset)):
            self._confirm(seen, node, text)

    def _confirm(self, seen: HoleReread, node: Node, text: bytes) -> None:
        assert node.content is not None, "only regular files have bytes"
        ledger, size = self._ledger, seen.inode.size
        fields: dict[str, Any] = {"node": node.number, "path": ledger.path(node), "size": size}
        for name in sorted(node.xattrs.keys() - (node.xattrs.keys() if seen.xattr_names is None else seen.xattr_names)):
            ledger.emit(seen, Kind.RESYNC, detail=RESYNC_NO_XATTR, text=name, **fields)
        data = tuple(self._differing(node, seen.offset, text))
        meta = meta_of(seen.inode, node.meta)
        if data or meta is not node.meta or size != node.content.size:
            place = {"offset": seen.offset, "length": sum(piece.length for piece in data)}
            ledger.emit(seen, Kind.RESYNC, detail=RESYNC_EXTENT, data=data, meta=meta, **place, **fields)
        ledger.emit(seen, Kind.RESYNC, detail=RESYNC_CONFIRMED, **fields)

    def _differing(self, node: Node, offset: int, text: bytes) -> Iterator[Data]:
        assert node.content is not None, "only regular files have bytes"
        for at, data in list(mapped.differing(node.content, offset, text, self._content.peek)):
            blob, start = self._content.append(node.number, data)
            self._content.read_back(node.number, bool(node.meta.mode & 0o111))
            yield Data(at, len(data), blob, start)
