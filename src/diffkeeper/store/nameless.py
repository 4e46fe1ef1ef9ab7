"""Files without a name that may still be open: kept apart from saved trees, so that these do not grow with the run.

    m:k<number><part>  the tree after event ``number``, of all that has a name
    m:n<number><part>  what has none and lost its last, or changed, since the tree before it; in the same tables
                       (checkpoint.py), with a list of those that are gone in part 0

Nobody sees such files. But a write may come to one, another may be copied from it, and a link may give it a name again:
then replay looks for it here, from the nearest saved tree back to the first that mentions it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.node import Node
from diffkeeper.model.tree import Tree
from diffkeeper.store.columns import ColumnReader
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore

PARTS, GONE, NUMBER = 2, 7, 10  # columns of checkpoint.py: of part 0; of nodes

_PLACE = struct.Struct(">QI")
_LAST_PART = 0xFFFFFFFF

Decode = Callable[[Sequence[bytes]], Tree]


class _Lot:
    """Hold what was saved at one event: which nodes those are at once, the nodes when one is asked for."""

    def __init__(self, parts: Sequence[bytes], decode: Decode | None) -> None:
        self._parts = list(parts)
        self._decode = decode
        self._nodes: dict[int, Node] | None = None
        readers = [ColumnReader(part) for part in parts]
        count = list(readers[0].all_numbers(PARTS)) if readers else []
        if len(count) != 1 or not 0 < count[0] <= len(readers):
            raise DamagedTraceError("Parts of what had no name are missing.")
        del self._parts[count[0] :], readers[count[0] :]  # left over from a longer one for the same event
        self.gone = frozenset(readers[0].all_numbers(GONE))
        self.numbers = frozenset(number for reader in readers[1:] for number in reader.all_numbers(NUMBER))

    @property
    def nodes(self) -> dict[int, Node]:
        if self._nodes is None:
            assert self._decode is not None, "who asks for nodes says how to read them"
            self._nodes = self._decode(self._parts).nodes
        return self._nodes


class Nameless:
    """Find the files that had no name when a tree was saved."""

    def __init__(self, rocks: RocksStore, number: int, decode: Decode) -> None:
        """Look from event ``number`` back; ``decode`` is checkpoint.decode_tree."""
        self._rocks = rocks
        self._decode = decode
        self._next: int | None = number
        self._read: list[_Lot] = []  # from the latest back

    def find(self, number: int) -> Node | None:
        """Return a node, None if none of that number is there; raises DamagedTraceError."""
        for lot in self._lots():
            if number in lot.gone:
                return None
            if number in lot.numbers:
                return lot.nodes.get(number)
        return None

    def all(self) -> dict[int, Node]:
        """Return all of them; raises DamagedTraceError."""
        found: dict[int, Node] = {}
        for lot in reversed(list(self._lots())):
            found = {number: node for number, node in found.items() if number not in lot.gone}
            found |= lot.nodes
        return found

    def _lots(self) -> Iterator[_Lot]:
        yield from list(self._read)
        while self._next is not None:
            lot = self._earlier(self._next)
            if lot is not None:
                self._read.append(lot)
                yield lot

    def _earlier(self, number: int) -> _Lot | None:
        last = self._rocks.last(Key.NAMELESS, at_most=Key.NAMELESS + _PLACE.pack(number, _LAST_PART))
        if last is None:
            self._next = None
            return None
        saved_at = int.from_bytes(last[0][len(Key.NAMELESS) :][:8], "big")
        self._next = saved_at - 1 if saved_at else None
        return _lot_at(self._rocks, saved_at, self._decode)


def mentioned_at(rocks: RocksStore, number: int) -> frozenset[int]:
    """Return the nodes that were saved, or noted to be gone, for exactly one event."""
    if not rocks.contains(Key.NAMELESS + _PLACE.pack(number, 0)):
        return frozenset()
    lot = _lot_at(rocks, number, None)
    return lot.numbers | lot.gone


def _lot_at(rocks: RocksStore, number: int, decode: Decode | None) -> _Lot:
    prefix = Key.NAMELESS + _PLACE.pack(number, 0)[:8]
    return _Lot([value for _, value in rocks.scan(prefix)], decode)
