"""Any bytes into a decoder give a value or DamagedTraceError, and what was encoded comes back."""

import contextlib
import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkeeper.errors import DamagedTraceError, TraceError
from diffkeeper.model.event import Data, Event, Kind, Mark, Meta
from diffkeeper.model.tree import Tree
from diffkeeper.store import bsdiff, deltas, zstd
from diffkeeper.store.checkpoint import decode_tree, encode_tree
from diffkeeper.store.columns import ColumnReader, ColumnWriter
from diffkeeper.store.eventblock import EventBlock, encode_block
from diffkeeper.store.eventlog import BlockFacts
from diffkeeper.store.format import parse_session
from diffkeeper.store.journal import BatchHeader
from diffkeeper.store.processtable import decode_process
from diffkeeper.store.touched import Touched

BASE = b"the base of a delta " * 20


def _decode_columns(data: bytes) -> None:
    reader = ColumnReader(data)
    for column in range(60):
        with contextlib.suppress(DamagedTraceError):
            reader.all_numbers(column)
        with contextlib.suppress(DamagedTraceError):
            reader.heap(column)
        with contextlib.suppress(DamagedTraceError):
            reader.strings(column, column + 1)
    reader.numbers(1, 5)


def _decode_block(data: bytes) -> None:
    list(EventBlock(1, 3, data).events(1, 3))


def _decode_touched(data: bytes) -> None:
    touched = Touched(data)
    for read in (touched.paths, touched.nodes, touched.pids, touched.marks):
        with contextlib.suppress(DamagedTraceError):
            read()


DECODERS: list[Callable[[bytes], object]] = [
    parse_session,
    BatchHeader.from_bytes,
    lambda data: deltas.decode(deltas.parse(data), BASE),
    lambda data: bsdiff.apply_patch(BASE, data, 100),
    lambda data: zstd.decompress(data, 1000),
    lambda data: zstd.decompress(data, 1000, BASE),
    _decode_columns,
    lambda data: _decode_columns(zstd.compress(data)),
    _decode_block,
    lambda data: _decode_block(zstd.compress(data)),
    _decode_touched,
    lambda data: _decode_touched(zstd.compress(data)),
    lambda data: BlockFacts.from_item(b"m:i" + data[:8], data[8:]),
    lambda data: decode_process(1, data),
    lambda data: decode_tree([data, data]),
    lambda data: decode_tree([zstd.compress(data)]),
]


@pytest.mark.parametrize("decoder", DECODERS, ids=range(len(DECODERS)))
@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_any_bytes_give_a_value_or_a_trace_error(decoder: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(TraceError):
        decoder(data)


NUMBERS = st.integers(0, 2**62) | st.integers(0, 300)
SHORT = st.binary(max_size=6)
METAS = st.builds(Meta, st.integers(0, 2**32 - 1), NUMBERS, NUMBERS, st.integers(-(2**66), 2**66), NUMBERS, NUMBERS)
DATA = st.builds(Data, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
EVENTS = st.builds(
    Event,
    number=st.just(0),
    t_ns=st.integers(-(2**62), 2**62),
    kind=st.sampled_from(Kind),
    pid=NUMBERS,
    tid=NUMBERS,
    process=NUMBERS,
    marks=st.integers(0, 63).map(Mark),
    enter_ns=NUMBERS,
    exit_ns=NUMBERS,
    node=NUMBERS,
    parent=NUMBERS,
    name=SHORT,
    parent2=NUMBERS,
    name2=SHORT,
    replaced=NUMBERS,
    path=SHORT,
    path2=SHORT,
    meta=st.none() | METAS,
    parent_mtime_ns=st.integers(-(2**66), 2**66),
    parent2_mtime_ns=NUMBERS,
    offset=st.integers(0, 2**63 - 1),
    length=NUMBERS,
    size=st.integers(0, 2**63 - 1),
    data=st.lists(DATA, max_size=3).map(tuple),
    source=NUMBERS,
    source_offset=NUMBERS,
    detail=st.integers(-(2**31), 2**31),
    text=SHORT,
    value=SHORT,
)


def numbered(events: list[Event]) -> list[Event]:
    for number, event in enumerate(events, 1):
        object.__setattr__(event, "number", number)
    return events


@given(st.lists(EVENTS, min_size=1, max_size=8).map(numbered))
@settings(max_examples=50, deadline=None)
def test_any_events_survive_a_block(events: list[Event]) -> None:
    assert list(EventBlock(1, len(events), encode_block(events)).events(1, len(events))) == events


@given(st.lists(st.integers(-(2**126), 2**126) | st.integers(-400, 400), max_size=20), st.booleans())
@settings(max_examples=50, deadline=None)
def test_any_numbers_survive_a_column(values: list[int], differences: bool) -> None:
    writer = ColumnWriter()
    writer.numbers(1, values, differences)
    assert list(ColumnReader(writer.to_bytes()).all_numbers(1)) == values


def _spoiled(data: bytes, chance: random.Random) -> bytes:
    """Change some bytes of what is inside a frame, so that more than the frame's own check is met."""
    inner = bytearray(zstd.decompress(data, 1 << 20))
    for _ in range(chance.randint(1, 4)):
        inner[chance.randrange(min(len(inner), 400))] = chance.choice((0, 1, 2, 3, 4, 5, 6, 127, 128, 255))
    return zstd.compress(bytes(inner[: chance.choice((len(inner), chance.randint(0, len(inner))))]))


@given(st.lists(EVENTS, min_size=3, max_size=3).map(numbered), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_a_spoiled_block_gives_events_or_a_trace_error(events: list[Event], chance: random.Random) -> None:
    with contextlib.suppress(TraceError):
        _decode_block(_spoiled(encode_block(events), chance))


@given(st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_a_spoiled_checkpoint_gives_a_sound_tree_or_a_trace_error(chance: random.Random) -> None:
    tree = Tree()
    root = tree.add_root(b"", (5, 2, 0), Meta(0o40755, 1, 2, 3))
    below = tree.add(root.number, b"a", (5, 3, 0), Meta(0o40755, 1, 2, 3), xattrs={b"x": b"y"})
    tree.add(below.number, b"b", (5, 4, 0), Meta(0o100644, 1, 2, 3))
    tree.add(root.number, b"c", (5, 5, 0), Meta(0o120777, 1, 2, 3), target=b"b")
    parts = encode_tree(tree)
    spoiled = chance.randrange(len(parts))
    parts[spoiled] = _spoiled(parts[spoiled], chance)
    with contextlib.suppress(TraceError):
        found = decode_tree(parts)
        for path, node in found.walk():
            assert found.lookup(path) is node
        for node in found.nodes.values():
            found.path_of(node)


@given(st.binary(max_size=3000), st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=40)), max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_bytes_survive_encoding_against_any_base(base: bytes, edits: list[tuple[int, bytes]]) -> None:
    raw = base
    for place, data in edits:
        raw = raw[:place] + data + raw[place + len(data) // 2 :]
    encoded = deltas.parse(deltas.encode(raw, deltas.Base(hashlib.sha256(base).digest(), base, 3)))
    assert deltas.decode(encoded, base) == raw


@given(st.binary(max_size=400), st.binary(max_size=400), st.integers(-500, 500))
@settings(max_examples=50, deadline=None)
def test_adding_differences_is_done_byte_by_byte(differences: bytes, base: bytes, position: int) -> None:
    places = range(position, position + len(differences))
    window = [base[place] if 0 <= place < len(base) else 0 for place in places]
    expected = bytes((left + right) % 256 for left, right in zip(differences, window, strict=True))
    assert bsdiff._sum(differences, base, position) == expected
