"""Saved trees: the state after an event, so that "state at T" need not replay the whole trace.

A checkpoint is a list of parts, each a frame of columns (columns.py) with rows of one table; part 0 is the header.
Numbers of columns are part of the format: never reuse one.
"""

from __future__ import annotations

import contextlib
import gc
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import TypeVar

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.node import Node
from diffkeeper.model.tree import Tree
from diffkeeper.store.columns import ColumnReader, ColumnWriter
from diffkeeper.store.format import Key
from diffkeeper.store.nameless import GONE, NUMBER, PARTS, Nameless, mentioned_at
from diffkeeper.store.rocks import RocksStore

ROWS = 16384  # in a part
PART_BYTES = 512 << 10  # of byte strings in a part; keeps its value below MAX_VALUE_BYTES

_PLACE = struct.Struct(">QI")  # event number, part: what follows the prefix in a key
_LAST_PART = 0xFFFFFFFF

TABLE = 1  # which of the tables below a part holds rows of
NODES, NAMES, EXTENTS, XATTRS = range(1, 5)

NEXT_NUMBER = 3  # HEADER, beside PARTS (the number of parts) and GONE: the tree's next_number
ROOT_NODE, ROOT_LABEL_LENGTHS, ROOT_LABELS = 4, 5, 6

DEV, INO, GENERATION, MODE, UID, GID, MTIME, NLINK, RDEV, SIZE = range(11, 21)  # NODES, beside NUMBER
TARGET_LENGTHS, TARGETS, INEXACT_LENGTHS, INEXACTS = range(21, 25)
NAME_NODE, NAME_PARENT, NAME_LENGTHS, NAME_BYTES = range(30, 34)
EXTENT_NODE, EXTENT_OFFSET, EXTENT_LENGTH, EXTENT_BLOB, EXTENT_START = range(40, 45)
XATTR_NODE, XATTR_NAME_LENGTHS, XATTR_NAMES, XATTR_VALUE_LENGTHS, XATTR_VALUES = range(50, 55)

_Row = TypeVar("_Row")
_NodeRow = tuple[int, int, int, int, int, int, int, int, int, int, int, bytes, bytes]
_ExtentRow = tuple[int, int, int, int, int]


class Checkpoints:
    """Put and get the trees of a store, by the number of the event after which they stood (0: the baseline)."""

    def __init__(self, rocks: RocksStore, first: int = 0) -> None:
        """Read trees after event ``first`` or later: of what was before it the events are not there."""
        self._rocks = rocks
        self._first = first
        self.damage: list[str] = []

    def put(self, number: int, tree: Tree) -> None:
        """Save ``tree`` as the state after event ``number``; of what has no name only what changed since the last."""
        tree.departed |= mentioned_at(self._rocks, number)  # by a tree that was saved for the same event before
        named = [node for place, node in tree.nodes.items() if place not in tree.nameless]
        parts = [(Key.CHECKPOINT, encode_nodes(named, tree.roots, tree.next_number))]
        if tree.departed - tree.nodes.keys() or tree.departed & tree.nameless:
            parts.append((Key.NAMELESS, encode_departed(tree)))
        self._rocks.put_many(
            (prefix + _PLACE.pack(number, part), value) for prefix, values in parts for part, value in enumerate(values)
        )
        tree.departed.clear()

    def nearest(self, number: int) -> int | None:
        """Return the greatest event number not above ``number`` for which a tree was saved."""
        item = self._rocks.last(Key.CHECKPOINT, at_most=_key(number, _LAST_PART))
        return _number_of(item[0]) if item else None

    def get(self, number: int) -> Tree:
        """Return the whole tree after event ``number``, for which one was saved; raises DamagedTraceError."""
        tree, nameless = self._named(number), self.nameless(number).all()
        missing = [node for place, node in nameless.items() if place not in tree.nodes]
        if not missing:
            tree.departed |= tree.nameless  # of a store that was begun when they were saved with the others
            return tree
        nodes = sorted([*tree.nodes.values(), *missing], key=attrgetter("number"))
        whole = Tree.from_nodes(tree.roots, nodes)
        whole.next_number = max(whole.next_number, tree.next_number)
        whole.departed |= tree.nameless
        return whole

    def nameless(self, number: int) -> Nameless:
        """Return what finds the files that had no name after event ``number``."""
        return Nameless(self._rocks, number, decode_tree)

    def _named(self, number: int) -> Tree:
        parts: list[bytes] = []
        for key, value in self._rocks.scan(_key(number, 0)[:-4]):
            if key != _key(number, len(parts)):
                raise DamagedTraceError(f"Part {len(parts)} of the checkpoint at event {number} is missing.")
            parts.append(value)
        return decode_tree(parts)

    def load(self, number: int) -> tuple[int, Tree]:
        """Return the nearest tree not after event ``number`` that can be read, and its number.

        What has no name is not in it: see ``nameless``. Trees that cannot be read are noted in ``damage``; raise
        DamagedTraceError where none is left.
        """
        nearest = self.nearest(number)
        while nearest is not None and nearest >= self._first:
            try:
                return nearest, self._named(nearest)
            except DamagedTraceError as error:
                words = f"The checkpoint at event {nearest} cannot be read: {error}"
                if words not in self.damage:
                    self.damage.append(words)
            nearest = self.nearest(nearest - 1) if nearest else None
        raise DamagedTraceError(f"No saved state up to event {number} can be read.")


def _key(number: int, part: int) -> bytes:
    return Key.CHECKPOINT + _PLACE.pack(number, part)


def _number_of(key: bytes) -> int:
    if len(key) != len(Key.CHECKPOINT) + _PLACE.size:
        raise DamagedTraceError("The store holds an invalid key of a checkpoint.")
    number: int = _PLACE.unpack_from(key, len(Key.CHECKPOINT))[0]
    return number


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the garbage collector: looking again and again at 100,000 new nodes takes longer than to build them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def encode_tree(tree: Tree) -> list[bytes]:
    """Return the parts of a tree, with all that is in it."""
    return encode_nodes(list(tree.nodes.values()), tree.roots, tree.next_number)


def encode_departed(tree: Tree) -> list[bytes]:
    """Return the parts of what changed in a tree without having a name, in the header what is gone."""
    nodes = [tree.nodes[number] for number in sorted(tree.departed & tree.nameless)]
    return encode_nodes(nodes, (), 0, tree.departed - tree.nodes.keys())


@_without_collection()
def encode_nodes(
    nodes: Sequence[Node], roots: Iterable[tuple[bytes, int]], next_number: int, gone: Iterable[int] = ()
) -> list[bytes]:
    """Return the parts of some nodes."""
    parts = [*_parts(map(_node_row, nodes), lambda row: len(row[11]) + len(row[12]), _node_part)]
    parts += _parts(_name_rows(nodes), lambda row: len(row[2]), _name_part)
    parts += _parts(_extent_rows(nodes), lambda row: 0, _extent_part)
    parts += _parts(_xattr_rows(nodes), lambda row: len(row[1]) + len(row[2]), _xattr_part)
    writer = ColumnWriter()
    writer.numbers(PARTS, [len(parts) + 1])
    writer.numbers(NEXT_NUMBER, [next_number])
    writer.numbers(ROOT_NODE, [number for _, number in roots])
    writer.strings(ROOT_LABEL_LENGTHS, ROOT_LABELS, (label for label, _ in roots))
    writer.numbers(GONE, sorted(gone), differences=True)
    return [writer.to_bytes(), *parts]


def _parts(
    rows: Iterable[_Row], weight: Callable[[_Row], int], part: Callable[[ColumnWriter, Sequence[_Row]], None]
) -> Iterator[bytes]:
    for chunk in _chunks(iter(rows), weight):
        writer = ColumnWriter()
        part(writer, chunk)
        yield writer.to_bytes()


def _chunks(rows: Iterator[_Row], weight: Callable[[_Row], int]) -> Iterator[list[_Row]]:
    """Cut rows into parts of at most ROWS, and about PART_BYTES of strings."""
    while chunk := list(islice(rows, ROWS)):
        begin, held = 0, 0
        for place, row in enumerate(chunk):
            held += weight(row)
            if held > PART_BYTES:
                yield chunk[begin : place + 1]
                begin, held = place + 1, 0
        if begin < len(chunk):
            yield chunk[begin:]


def _node_row(node: Node) -> _NodeRow:
    meta = node.meta
    size = -1 if node.content is None else node.content.size
    numbers = (meta.mode, meta.uid, meta.gid, meta.mtime_ns, meta.nlink, meta.rdev, size)
    return (node.number, *node.identity, *numbers, node.target, node.inexact.encode("utf-8", "surrogateescape"))


def _node_part(writer: ColumnWriter, rows: Sequence[_NodeRow]) -> None:
    *numbers, targets, inexacts = zip(*rows, strict=True)
    writer.numbers(TABLE, [NODES])
    for column, values in zip(range(NUMBER, SIZE + 1), numbers, strict=True):
        writer.numbers(column, values, differences=column in (NUMBER, INO, MTIME))
    writer.strings(TARGET_LENGTHS, TARGETS, targets)
    writer.strings(INEXACT_LENGTHS, INEXACTS, inexacts)


def _name_rows(nodes: Iterable[Node]) -> Iterator[tuple[int, int, bytes]]:
    for node in nodes:
        for parent, name in sorted(node.names):
            yield node.number, parent, name


def _name_part(writer: ColumnWriter, rows: Sequence[tuple[int, int, bytes]]) -> None:
    nodes, parents, names = zip(*rows, strict=True)
    writer.numbers(TABLE, [NAMES])
    writer.numbers(NAME_NODE, nodes, differences=True)
    writer.numbers(NAME_PARENT, parents, differences=True)
    writer.strings(NAME_LENGTHS, NAME_BYTES, names)


def _extent_rows(nodes: Iterable[Node]) -> Iterator[_ExtentRow]:
    for node in nodes:
        if node.content is not None:
            for offset, length, blob, start in node.content.extents():
                yield node.number, offset, length, blob, start


def _extent_part(writer: ColumnWriter, rows: Sequence[_ExtentRow]) -> None:
    columns = range(EXTENT_NODE, EXTENT_START + 1)
    writer.numbers(TABLE, [EXTENTS])
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        writer.numbers(column, values, differences=column in (EXTENT_NODE, EXTENT_BLOB))


def _xattr_rows(nodes: Iterable[Node]) -> Iterator[tuple[int, bytes, bytes]]:
    for node in nodes:
        for name, value in node.xattrs.items():
            yield node.number, name, value


def _xattr_part(writer: ColumnWriter, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
    nodes, names, values = zip(*rows, strict=True)
    writer.numbers(TABLE, [XATTRS])
    writer.numbers(XATTR_NODE, nodes, differences=True)
    writer.strings(XATTR_NAME_LENGTHS, XATTR_NAMES, names)
    writer.strings(XATTR_VALUE_LENGTHS, XATTR_VALUES, values)


@_without_collection()
def decode_tree(parts: Sequence[bytes]) -> Tree:
    """Return the tree of those parts; raise DamagedTraceError where they are not all those of one sound tree."""
    readers = [ColumnReader(part) for part in parts]
    if not readers or list(readers[0].all_numbers(PARTS)) != [len(readers)]:
        raise DamagedTraceError("Parts of a checkpoint are missing.")
    tables: dict[int, list[ColumnReader]] = {NODES: [], NAMES: [], EXTENTS: [], XATTRS: []}
    for reader in readers[1:]:
        for table in reader.all_numbers(TABLE):
            tables.setdefault(table, []).append(reader)
    return _built(readers[0], tables)


def _built(header: ColumnReader, tables: dict[int, list[ColumnReader]]) -> Tree:
    contents = _read_contents(tables[EXTENTS])
    nodes: dict[int, Node] = {}
    for reader in tables[NODES]:
        for node in _read_nodes(reader, contents):
            nodes[node.number] = node
    _read_xattrs(tables[XATTRS], nodes)
    roots = list(zip(header.strings(ROOT_LABEL_LENGTHS, ROOT_LABELS), header.all_numbers(ROOT_NODE), strict=False))
    _read_names(tables[NAMES], nodes)
    _check_names(nodes, {number for _, number in roots})
    tree = Tree.from_nodes(roots, nodes.values())
    tree.next_number = max([tree.next_number, *header.all_numbers(NEXT_NUMBER)])
    return tree


def _read_contents(readers: Iterable[ColumnReader]) -> dict[int, list[tuple[int, int, int, int]]]:
    """Return the extents of each file."""
    contents: dict[int, list[tuple[int, int, int, int]]] = {}
    for reader in readers:
        count = len(reader.all_numbers(EXTENT_NODE))
        columns = [reader.numbers(column, count) for column in range(EXTENT_NODE, EXTENT_START + 1)]
        for number, rows in groupby(zip(*columns, strict=True), key=lambda row: row[0]):
            contents.setdefault(number, []).extend(row[1:] for row in rows)
    return contents


def _read_nodes(reader: ColumnReader, contents: dict[int, list[tuple[int, int, int, int]]]) -> Iterator[Node]:
    count = len(reader.all_numbers(NUMBER))
    columns = [reader.numbers(column, count) for column in range(NUMBER, SIZE + 1)]
    targets = reader.strings(TARGET_LENGTHS, TARGETS) or [b""] * count
    inexacts = reader.strings(INEXACT_LENGTHS, INEXACTS) or [b""] * count
    if len(targets) != count or len(inexacts) != count or (count and min(columns[0]) <= 0):
        raise DamagedTraceError("The nodes of a checkpoint are invalid.")
    for row in zip(*columns, targets, inexacts, strict=True):
        number, dev, ino, generation, mode, uid, gid, mtime, nlink, rdev, size, target, inexact = row
        if not 0 <= mode < 1 << 32:
            raise DamagedTraceError(f"Node {number} of a checkpoint has an invalid mode.")
        content = None if size < 0 else _content(size, contents.get(number, ()))
        meta = Meta(mode, uid, gid, mtime, nlink, rdev)
        doubt = inexact.decode("utf-8", "surrogateescape") if inexact else ""
        yield Node(number, (dev, ino, generation), meta, content=content, target=target, inexact=doubt)


def _content(size: int, extents: Sequence[tuple[int, int, int, int]]) -> ExtentMap:
    at = 0
    for offset, length, blob, start in extents:
        if offset < at or length <= 0 or blob < 0 or start < 0:
            raise DamagedTraceError("The extents of a checkpoint are invalid.")
        at = offset + length
    if at > size:
        raise DamagedTraceError("The extents of a checkpoint are invalid.")
    return ExtentMap(size, extents)


def _read_xattrs(readers: Iterable[ColumnReader], nodes: dict[int, Node]) -> None:
    for reader in readers:
        names = reader.strings(XATTR_NAME_LENGTHS, XATTR_NAMES)
        values = reader.strings(XATTR_VALUE_LENGTHS, XATTR_VALUES) or [b""] * len(names)
        if len(names) != len(values):
            raise DamagedTraceError("The attributes of a checkpoint are invalid.")
        for number, name, value in zip(reader.numbers(XATTR_NODE, len(names)), names, values, strict=True):
            _node_of(nodes, number).xattrs[name] = value


def _read_names(readers: Iterable[ColumnReader], nodes: dict[int, Node]) -> None:
    for reader in readers:
        names = reader.strings(NAME_LENGTHS, NAME_BYTES)
        owners, parents = (reader.numbers(column, len(names)) for column in (NAME_NODE, NAME_PARENT))
        for number, parent, name in zip(owners, parents, names, strict=True):
            if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                raise DamagedTraceError("A name of a checkpoint is invalid.")
            if _node_of(nodes, parent).children is None:
                raise DamagedTraceError("A name of a checkpoint is in something that is no directory.")
            _node_of(nodes, number).names.add((parent, name))


def _node_of(nodes: dict[int, Node], number: int) -> Node:
    node = nodes.get(number)
    if node is None:
        raise DamagedTraceError(f"A checkpoint refers to node {number}, which it does not have.")
    return node


def _check_names(nodes: dict[int, Node], roots: set[int]) -> None:
    """See to it that roots are directories without names, and that every other one leads up to a root or to nowhere."""
    for number in roots:
        root = _node_of(nodes, number)
        if root.names:
            raise DamagedTraceError("A root of a checkpoint has a name.")
    given = [name for node in nodes.values() for name in node.names]
    if len(given) != len(set(given)):
        raise DamagedTraceError("A name of a checkpoint leads to two nodes.")
    known: set[int] = set(roots)
    for node in nodes.values():
        if node.children is not None:
            _check_above(node, nodes, known)


def _check_above(directory: Node, nodes: dict[int, Node], known: set[int]) -> None:
    """Walk up from a directory to one that is known to be sound; raise DamagedTraceError where that goes in circles."""
    above: set[int] = set()
    while directory.number not in known:
        if directory.number in above or len(directory.names) > 1:
            raise DamagedTraceError("The directories of a checkpoint are no tree.")
        above.add(directory.number)
        if not directory.names:
            break
        directory = nodes[next(iter(directory.names))[0]]
    known |= above
