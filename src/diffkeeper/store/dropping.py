"""Drop the oldest history from a store, so that what remains is exact: the tree after some event is the new beginning.

What goes: the events up to that one, the trees saved before it, and the content that neither that tree nor any later
event refers to, unless a chunk that stays is a difference from it. So does the content of files that had no name at
the new beginning and that no later event is about: nobody sees them, and on file systems that never use an inode's
number again there is no other word of their end; what still came of one would be marked unknown. The baseline's tree
stays without its content: it says what an untouched file was, wherever that still is. All of it goes in one write, so
that after a kill either all of it is gone or nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.tree import Tree
from diffkeeper.store.beginning import Beginning
from diffkeeper.store.checkpoint import Checkpoints, encode_departed
from diffkeeper.store.content import Table
from diffkeeper.store.eventblock import EventBlock, encode_block
from diffkeeper.store.eventlog import BlockFacts, EventReader
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore

_Needed = dict[int, list[tuple[int, int]]]  # of each blob that may go: [start, end) of what stays, sorted and apart
_NUMBER_BYTES = 8


def drop_before(rocks: RocksStore, number: int, limit_bytes: int, growing: set[int], live: Sequence[Tree]) -> None:
    """Let the history in a store begin after event ``number``, after which a tree was saved and a block ends.

    All that was written must have been put. ``growing`` are blobs that nothing of may go, ``live`` trees that will be
    gone on with. Raises DamagedTraceError, with nothing changed, where what is needed for it cannot be read.
    """
    events, trees = EventReader(rocks), Checkpoints(rocks)
    if events.damage:
        raise DamagedTraceError("; ".join(events.damage))
    assert all(facts.last <= number or facts.first > number for facts in events.index), "a block ends there"
    before, first = trees.get(events.beginning.number), trees.get(number)
    needed = _mentioned(before, events, number, growing)
    ended = _ended(first, events, number)
    for tree in (first, *live):
        _note(needed, _of_tree(tree, ended))
    for block in _blocks(events, number + 1, events.count):
        _note(needed, _of_events(block, needed))
    needed = {blob: _joined(sorted(wanted)) for blob, wanted in needed.items()}
    keys, freed = _of_blobs(rocks, needed)
    freed = _unneeded(rocks, freed, needed)
    keys += [prefix + digest for digest in freed for prefix in (Key.CHUNK, Key.BASE, Key.IMPROVE)]
    dropped = [facts for facts in events.index if facts.last <= number]
    keys += [prefix + _number(facts.first) for facts in dropped for prefix in (Key.EVENTS, Key.TOUCHED, Key.INDEX)]
    keys += _between(rocks, Key.CHECKPOINT, 1, number) + _between(rocks, Key.NAMELESS, 0, number + 1)
    if rocks.damage:
        raise DamagedTraceError("; ".join(rocks.damage))
    beginning = Beginning(number, dropped[-1].reach_ns, limit_bytes)
    _forget(first, ended)
    rocks.replace_many(keys, [beginning.to_item(), *_row(beginning), *_nameless(first, number)])
    for tree in live:
        _forget(tree, ended)


def _ended(first: Tree, events: EventReader, number: int) -> set[int]:
    """Return the files without a name that no event after that one is about, as far as they have bytes."""
    nodes = first.nodes
    ended = {one for one in first.nameless if (content := nodes[one].content) is not None and content.count}
    for block in _blocks(events, number + 1, events.count) if ended else ():
        for field in ("node", "source", "replaced"):
            ended.difference_update(block.column(field))
    return ended


def _forget(tree: Tree, ended: set[int]) -> None:
    for number in ended:
        node = tree.nodes.get(number)
        if node is not None and node.content is not None and not node.names:
            node.content = ExtentMap.unknown(node.content.size)
            tree.departed.add(number)


def _nameless(first: Tree, number: int) -> list[tuple[bytes, bytes]]:
    """Return all files without a name as one lot (nameless.py), in place of those that were saved with each tree."""
    first.departed = set(first.nameless)
    place = Key.NAMELESS + _number(number)
    parts = encode_departed(first) if first.departed else []
    return [(place + part.to_bytes(4, "big"), value) for part, value in enumerate(parts)]


def _row(beginning: Beginning) -> list[tuple[bytes, bytes]]:
    row = beginning.row()
    return [
        (Key.EVENTS + _number(row.number), encode_block([row])),
        BlockFacts.of(row.number, [row], beginning.t_ns).to_item(),
    ]


def _number(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _between(rocks: RocksStore, prefix: bytes, first: int, end: int) -> list[bytes]:
    """Return the keys with a number from ``first`` on and below ``end``."""
    keys = []
    for key, _ in rocks.scan(prefix, prefix + _number(first)):
        if key[len(prefix) :][:_NUMBER_BYTES] >= _number(end):
            break
        keys.append(key)
    return keys


def _blocks(events: EventReader, first: int, last: int) -> Iterator[EventBlock]:
    yield from events.blocks(first, last)
    if events.damage:
        raise DamagedTraceError("; ".join(events.damage))


def _mentioned(before: Tree, events: EventReader, number: int, growing: set[int]) -> _Needed:
    """Return the blobs that what is dropped refers to."""
    blobs = {blob for blob, _, _ in _of_tree(before)}
    for block in _blocks(events, events.beginning.number + 1, number):
        blobs.update(block.blobs())
    return {blob: [] for blob in blobs - growing if blob > 0}


def _of_tree(tree: Tree, ended: Collection[int] = ()) -> Iterator[tuple[int, int, int]]:
    for node in tree.nodes.values():
        if node.content is not None and (node.names or node.number not in ended):
            for _, length, blob, start in node.content.extents():
                yield blob, start, length


def _of_events(block: EventBlock, needed: _Needed) -> Iterator[tuple[int, int, int]]:
    if needed.keys().isdisjoint(block.blobs()):
        return
    for event in block.events(block.first, block.last):
        for piece in event.data:
            yield piece.blob, piece.start, piece.length


def _note(needed: _Needed, ranges: Iterable[tuple[int, int, int]]) -> None:
    for blob, start, length in ranges:
        wanted = needed.get(blob)
        if wanted is not None and length:
            wanted.append((start, start + length))


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in ranges:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _of_blobs(rocks: RocksStore, needed: _Needed) -> tuple[list[bytes], set[bytes]]:
    """Return the keys of tables that may go, and the chunks of which some blob needs no byte."""
    keys, freed = list[bytes](), set[bytes]()
    for blob, wanted in needed.items():
        prefix, table = Key.BLOB + _number(blob), Table()
        own = []
        for key, part in rocks.scan(prefix):
            own.append(key)
            table.read(part)
        freed.update(_outside(table, wanted))
        if not wanted:
            keys += own
    return keys, freed


def _outside(table: Table, wanted: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the chunks of a blob of which nothing is wanted."""
    for start, end, digest in table.chunks():
        if not _is_wanted(start, end, wanted):
            yield digest


def _is_wanted(start: int, end: int, wanted: Sequence[tuple[int, int]]) -> bool:
    place = bisect_right(wanted, (start, 1 << 64)) - 1  # the last range that begins at or before ``start``
    if place >= 0 and wanted[place][1] > start:
        return True
    return place + 1 < len(wanted) and wanted[place + 1][0] < end


def _unneeded(rocks: RocksStore, freed: set[bytes], needed: _Needed) -> set[bytes]:
    """Return which chunks may go: those that no blob needs any more, nor any chunk that stays."""
    freed = _with_bases(rocks, freed)
    if not freed:
        return freed
    _keep_wanted(rocks, freed, needed)
    differences = [(key[len(Key.BASE) :], base) for key, base in rocks.scan(Key.BASE) if base in freed]
    while kept := {base for digest, base in differences if base in freed and digest not in freed}:
        freed -= kept
    return freed


def _with_bases(rocks: RocksStore, freed: set[bytes]) -> set[bytes]:
    """Add the chunks that those which may go are differences from: nobody else may need them any more."""
    found, fresh = set(freed), freed
    while fresh:
        bases = {base for digest in fresh if (base := rocks.get(Key.BASE + digest)) is not None}
        fresh = bases - found
        found |= fresh
    return found


def _keep_wanted(rocks: RocksStore, freed: set[bytes], needed: _Needed) -> None:
    """Take out of ``freed`` what a blob that stays needs; of one that is not in ``needed`` that is all of it."""
    at = len(Key.BLOB)
    for key, part in rocks.scan(Key.BLOB):
        wanted = needed.get(int.from_bytes(key[at : at + _NUMBER_BYTES], "big"))
        table = Table([int.from_bytes(key[at + _NUMBER_BYTES :], "big")])
        if wanted is None or wanted:
            table.read(part)
        for start, end, digest in table.chunks():
            if digest in freed and (wanted is None or _is_wanted(start, end, wanted)):
                freed.discard(digest)
