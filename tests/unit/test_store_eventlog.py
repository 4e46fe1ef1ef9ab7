import dataclasses
import struct
from pathlib import Path

import pytest

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Data, Event, Kind, Mark, Meta
from diffkeeper.model.process import Process
from diffkeeper.store import eventlog
from diffkeeper.store.eventblock import BLOCK_EVENTS, EventBlock, encode_block
from diffkeeper.store.eventlog import EventReader, EventWriter
from diffkeeper.store.format import MAX_VALUE_BYTES, Key
from diffkeeper.store.rocks import RocksStore

FULL = Event(
    number=1,
    t_ns=1000,
    kind=Kind.RENAME,
    pid=10,
    tid=11,
    process=3,
    marks=Mark.INEXACT | Mark.LATE,
    enter_ns=900,
    exit_ns=1100,
    node=5,
    parent=6,
    name=b"old",
    parent2=7,
    name2=b"new \xff",
    replaced=8,
    path=b"a/old",
    path2=b"b/new \xff",
    meta=Meta(0o100644, 1, 2, 2**63 + 5, 3, 4),
    parent_mtime_ns=12,
    parent2_mtime_ns=13,
    offset=2**40,
    length=14,
    size=2**41,
    data=(Data(2**40, 7, 15, 16), Data(2**40 + 7, 7, 0, 0)),
    source=17,
    source_offset=18,
    detail=-19,
    text=b"user.x",
    value=b"\0" * 30,
)


def event(number: int, t_ns: int | None = None, **fields: object) -> Event:
    kind = fields.pop("kind", Kind.CLOSE)
    base = Event(number, number * 10 if t_ns is None else t_ns, kind, 1, 1, 1)  # type: ignore[arg-type]
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


@pytest.fixture
def rocks(tmp_path: Path) -> RocksStore:
    return RocksStore.create(tmp_path / "store")


def log(rocks: RocksStore, events: list[Event]) -> EventReader:
    writer = EventWriter(rocks)
    writer.append(events)
    writer.flush()
    return EventReader(rocks)


def test_every_field_of_an_event_comes_back(rocks: RocksStore) -> None:
    assert all(getattr(FULL, field.name) != field.default for field in dataclasses.fields(Event))
    events = [FULL, event(2), dataclasses.replace(FULL, number=3, meta=None, data=(), enter_ns=0)]
    reader = log(rocks, events)
    assert list(reader.events()) == events
    assert type(reader.event(1).kind) is Kind
    assert type(reader.event(1).marks) is Mark
    assert type(reader.event(1).name2) is bytes
    assert type(reader.event(1).data) is tuple


def test_an_empty_log_has_no_events(rocks: RocksStore) -> None:
    reader = log(rocks, [])
    assert (reader.count, list(reader.events()), reader.number_at(5), reader.damage) == (0, [], 0, [])


def test_events_are_read_by_number_from_the_blocks_that_hold_them(rocks: RocksStore) -> None:
    events = [event(number) for number in range(1, 2 * BLOCK_EVENTS + 101)]
    reader = log(rocks, events)
    assert len(reader.index) == 3
    assert reader.count == len(events)
    for number in (1, BLOCK_EVENTS, BLOCK_EVENTS + 1, len(events)):
        assert reader.event(number) == events[number - 1]
    assert list(reader.events(4090, 4100)) == events[4089:4100]
    assert [block.first for block in reader.blocks(4097, 4097)] == [4097]
    assert list(reader.events(8290)) == events[8289:]
    assert list(reader.events(9000)) == []
    assert list(reader.events(5, 4)) == []
    for number in (0, -1, len(events) + 1):
        with pytest.raises(DamagedTraceError):
            reader.event(number)


def test_nothing_reaches_the_store_before_a_flush(rocks: RocksStore) -> None:
    writer = EventWriter(rocks)
    writer.append(event(number) for number in range(1, BLOCK_EVENTS + 10))
    assert list(rocks.scan(b"m:")) == []
    writer.flush(also=[(Key.FACT + b"progress", b"9")])
    assert EventReader(rocks).count == BLOCK_EVENTS + 9
    assert rocks.get(b"m:sprogress") == b"9"


def test_frequent_flushes_do_not_make_small_blocks(rocks: RocksStore) -> None:
    writer = EventWriter(rocks)
    for number in range(1, 101):
        writer.append([event(number)])
        writer.flush()
    reader = EventReader(rocks)
    assert [(facts.first, facts.last) for facts in reader.index] == [(1, 100)]
    assert [each.number for each in reader.events()] == list(range(1, 101))


def test_a_log_goes_on_where_it_ended(rocks: RocksStore) -> None:
    log(rocks, [event(1), event(2)])
    reader = log(rocks, [event(3)])
    assert [each.number for each in reader.events()] == [1, 2, 3]
    assert reader.number_at(25) == 2


def test_a_gap_in_the_numbers_is_a_defect(rocks: RocksStore) -> None:
    with pytest.raises(AssertionError):
        log(rocks, [event(2)])


def test_an_instant_means_the_last_event_until_then(rocks: RocksStore) -> None:
    reader = log(rocks, [event(number, t_ns=number // 2 * 100) for number in range(1, 10_001)])
    assert reader.number_at(-1) == 0
    assert reader.number_at(0) == 1
    assert reader.number_at(99) == 1
    assert reader.number_at(100) == 3
    for number in (4095, 4097, 8193, 9999):
        assert reader.number_at(number // 2 * 100) == number | 1
        assert reader.number_at(number // 2 * 100 - 1) == (number | 1) - 2
    assert reader.number_at(10**9) == 10_000


def test_the_state_at_an_instant_never_includes_what_came_later(rocks: RocksStore) -> None:
    times = [10, 20, 30, 15, 40, 35]  # the fourth and the last were late
    reader = log(rocks, [event(number, t_ns=t_ns) for number, t_ns in enumerate(times, 1)])
    assert [reader.number_at(t_ns) for t_ns in (15, 20, 30, 39, 40)] == [1, 2, 4, 4, 6]


def test_late_events_at_the_edge_of_a_block_do_not_confuse_time(rocks: RocksStore) -> None:
    events = [event(number, t_ns=number) for number in range(1, BLOCK_EVENTS + 1)]
    late = [event(BLOCK_EVENTS + 1, t_ns=5), event(BLOCK_EVENTS + 2, t_ns=5000)]
    reader = log(rocks, events + late)
    assert reader.number_at(10) == 10
    assert reader.number_at(BLOCK_EVENTS - 1) == BLOCK_EVENTS - 1
    assert reader.number_at(BLOCK_EVENTS) == BLOCK_EVENTS + 1
    assert reader.number_at(5000) == BLOCK_EVENTS + 2


def test_columns_are_read_without_building_events(rocks: RocksStore) -> None:
    events = [FULL, event(2, kind=Kind.UNLINK, path=b"x", pid=9, tid=9)]
    (block,) = log(rocks, events).blocks()
    assert list(block.column("kind")) == [Kind.RENAME, Kind.UNLINK]
    assert list(block.column("tid")) == [11, 9]
    assert list(block.column("t_ns")) == [1000, 20]
    assert [block.strings[place] for place in block.column("path")] == [b"a/old", b"x"]
    assert (block.first, block.last, block.count) == (1, 2, 2)


def test_blocks_without_a_wanted_kind_can_be_passed_over(rocks: RocksStore) -> None:
    events = [event(number, kind=Kind.OUTPUT if number == 5000 else Kind.WRITE) for number in range(1, 9001)]
    reader = log(rocks, events)
    found = list(reader.blocks(wanted=lambda facts: bool(facts.kinds >> Kind.OUTPUT & 1)))
    assert [block.first for block in found] == [4097]


def test_blocks_with_long_strings_stay_small(rocks: RocksStore) -> None:
    import random

    values = [random.Random(number).randbytes(60_000) for number in range(50)]
    events = [event(number, value=value) for number, value in enumerate(values, 1)]
    assert list(log(rocks, events).events()) == events
    assert max(len(value) for _, value in rocks.scan(Key.EVENTS)) < MAX_VALUE_BYTES


def test_a_block_that_cannot_be_read_is_passed_over_and_named(rocks: RocksStore) -> None:
    log(rocks, [event(number) for number in range(1, 2 * BLOCK_EVENTS + 1)])
    rocks.put_many([(Key.EVENTS + struct.pack(">Q", 1), b"nonsense")])
    reader = EventReader(rocks)
    assert [each.number for each in reader.events()] == list(range(BLOCK_EVENTS + 1, 2 * BLOCK_EVENTS + 1))
    assert reader.damage[0].startswith(f"Events 1 to {BLOCK_EVENTS} cannot be read")
    with pytest.raises(DamagedTraceError):
        reader.event(7)
    rocks.delete_many([Key.EVENTS + struct.pack(">Q", 1), Key.INDEX + struct.pack(">Q", 1)])
    reader = EventReader(rocks)
    assert reader.damage == [f"Events 1 to {BLOCK_EVENTS} are missing."]
    assert next(reader.events()).number == BLOCK_EVENTS + 1


def test_processes_come_back(rocks: RocksStore) -> None:
    writer = EventWriter(rocks)
    plain = Process(key=1, pid=100)
    rich = Process(2, 101, 1, 100, b"sh", b"/bin/sh", b"/w", (b"sh", b"", b"-c \xff"), 5, 6, 256, True)
    for process in (plain, rich, dataclasses.replace(plain, comm=b"later")):
        writer.put_process(process)
    writer.flush()
    reader = EventReader(rocks)
    assert list(reader.processes()) == [dataclasses.replace(plain, comm=b"later"), rich]
    assert reader.process(2) == rich
    assert reader.process(3) is None
    assert reader.process(-1) is None
    rocks.put_many([(Key.PROCESS + struct.pack(">Q", 1), b"short")])
    assert list(reader.processes()) == [rich]
    assert reader.damage == ["A process cannot be read: A process is cut short."]


def test_an_index_that_makes_no_sense_is_damage(rocks: RocksStore) -> None:
    log(rocks, [event(1)])
    for key, record in ((b"m:i", b""), (Key.INDEX + struct.pack(">Q", 9), struct.pack("<QqqqQ", 2**63, 0, 0, 0, 0))):
        rocks.put_many([(key, record)])
    reader = EventReader(rocks)
    assert reader.damage == ["The index of events holds an invalid entry."]
    assert reader.count == 1


def test_a_block_of_another_length_than_the_index_says_is_damage() -> None:
    value = encode_block([event(1), event(2, pid=7)])
    block = EventBlock(1, 3, value)
    with pytest.raises(DamagedTraceError):
        block.event(1)
    with pytest.raises(DamagedTraceError):
        EventBlock(1, BLOCK_EVENTS + 1, value)
    assert eventlog.BLOCK_BYTES < MAX_VALUE_BYTES
