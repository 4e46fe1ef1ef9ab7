"""Which blocks a question reads: those alone that may hold an answer, and no answer is missed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from diffkeeper.model.event import Event, Kind, Mark
from diffkeeper.model.globs import PathFilter
from diffkeeper.model.timeline import HIDDEN_KINDS, EventFilter
from diffkeeper.reporters.output import Output
from diffkeeper.reporters.terminal import report_classic
from diffkeeper.reporters.values import Page, Timeline
from diffkeeper.store import eventlog
from diffkeeper.store.eventblock import EventBlock
from diffkeeper.store.eventlog import EventReader, EventWriter
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore
from diffkeeper.trace import events

BLOCKS = 20
EACH = 50


class Counted(EventReader):
    """Count the blocks that are read."""

    def __init__(self, rocks: RocksStore) -> None:
        super().__init__(rocks)
        self.read: list[int] = []

    def _block(self, facts: eventlog.BlockFacts) -> EventBlock:
        self.read.append((facts.first - 1) // EACH)
        return super()._block(facts)


@pytest.fixture
def rocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RocksStore:
    monkeypatch.setattr(eventlog, "BLOCK_EVENTS", EACH)
    return RocksStore.create(tmp_path / "store")


def _event(number: int) -> Event:
    block = (number - 1) // EACH
    path = b"folder%d/file%d" % (block, number % 10)
    return Event(number, number * 1_000, Kind.WRITE, 100 + block, 1, 1, node=number, path=path)


def _reader(rocks: RocksStore, change: Callable[[Event], Event] = lambda event: event) -> Counted:
    writer = EventWriter(rocks)
    writer.append(change(_event(number)) for number in range(1, BLOCKS * EACH + 1))
    writer.flush()
    return Counted(rocks)


def _with(number: int, **fields: object) -> Callable[[Event], Event]:
    def change(event: Event) -> Event:
        if event.number != number:
            return event
        values = {name: getattr(event, name) for name in Event.__slots__} | fields
        return Event(**values)

    return change


def _numbers(reader: EventReader, wanted: EventFilter, last: int | None = None) -> list[int]:
    return [event.number for event in events.matching(reader, wanted, last)]


def test_a_path_is_looked_for_only_in_blocks_that_name_it(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    found = _numbers(reader, EventFilter(paths=PathFilter.of("folder7/file3")))
    assert found == [number for number in range(7 * EACH + 1, 8 * EACH + 1) if number % 10 == 3]
    assert reader.read == [7]


def test_a_glob_reads_the_blocks_of_what_it_matches(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    assert len(_numbers(reader, EventFilter(paths=PathFilter.of("folder1?/file0")))) == 50
    assert reader.read == list(range(10, 20))
    reader.read.clear()
    assert _numbers(reader, EventFilter(paths=PathFilter.of("nothing"))) == []
    assert reader.read == []


def test_what_left_a_name_is_found_by_both_names(rocks: RocksStore) -> None:
    reader = _reader(rocks, _with(205, kind=Kind.RENAME, path2=b"elsewhere"))
    assert _numbers(reader, EventFilter(paths=PathFilter.of("elsewhere"))) == [205]
    assert reader.read == [4]


def test_a_process_is_looked_for_only_in_blocks_in_which_it_did_something(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    assert _numbers(reader, EventFilter(pids=frozenset({103, 115}))) == [*range(151, 201), *range(751, 801)]
    assert reader.read == [3, 15]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": Kind.GAP, "path": b"", "pid": 0},
        {"marks": Mark.UNRESOLVED | Mark.OUTSIDER, "path": b"../x"},
    ],
)
def test_what_is_shown_whatever_the_paths_is_found_without_its_path(
    rocks: RocksStore, fields: dict[str, object]
) -> None:
    reader = _reader(rocks, _with(333, **fields))
    assert _numbers(reader, EventFilter(paths=PathFilter.of("nothing"))) == [333]


def test_a_process_that_ends_is_found_whatever_the_paths(rocks: RocksStore) -> None:
    reader = _reader(rocks, _with(333, kind=Kind.EXIT, path=b""))
    everything = EventFilter(paths=PathFilter.of("nothing"), kinds=frozenset(Kind))
    assert _numbers(reader, everything) == [333]
    assert reader.read == [6]
    assert _numbers(reader, EventFilter(paths=PathFilter.of("nothing"), pids=frozenset({106}), kinds=HIDDEN_KINDS)) == [
        333
    ]


def test_the_last_events_of_a_path_are_found_from_the_end(rocks: RocksStore) -> None:
    reader = _reader(rocks, _with(120, path=b"seldom"))
    assert _numbers(reader, EventFilter(paths=PathFilter.of("seldom", "/")), last=1) == [120]
    assert reader.read == [2]
    reader.read.clear()
    assert _numbers(reader, EventFilter(), last=3) == [998, 999, 1000]
    assert reader.read == [19]


def test_a_range_reads_its_own_blocks(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    assert _numbers(reader, EventFilter(first=149, last=152)) == [149, 150, 151, 152]
    assert reader.read == [2, 3]


def test_the_first_event_is_known_before_the_second_block_is_read(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    found = events.matching(reader, EventFilter())
    assert next(found).number == 1
    assert reader.read == [0]
    block, rows = next(events.pages(reader, EventFilter()))
    assert (block.first, len(rows)) == (1, EACH)


def test_the_history_of_a_file_reads_the_blocks_that_touch_it(rocks: RocksStore) -> None:
    reader = _reader(rocks, _with(777, node=42, path=b"folder0/file2"))
    found = events.history(reader, b"folder0/file2", [])
    assert [event.number for event in found] == [2, 12, 22, 32, 42, 777]
    assert set(reader.read) == {0, 15}


def test_a_trace_without_summaries_answers_the_same(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    rocks.delete_many([key for key, _ in rocks.scan(Key.TOUCHED)])
    assert len(_numbers(reader, EventFilter(paths=PathFilter.of("folder7/file3")))) == 5
    assert reader.read == list(range(20))


def test_a_summary_that_cannot_be_read_hides_nothing(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    rocks.put_many((key, b"damaged") for key, _ in list(rocks.scan(Key.TOUCHED)))
    assert len(_numbers(reader, EventFilter(paths=PathFilter.of("folder7/file3")))) == 5


class Closed(io.StringIO):
    """Be a reader that has seen enough after the first page."""

    def write(self, text: str) -> int:
        if self.tell() > 1_000:
            raise BrokenPipeError
        return super().write(text)


def test_a_reader_who_has_seen_enough_is_not_read_for(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    pages = (Page(block, rows) for block, rows in events.pages(reader, EventFilter()))
    with pytest.raises(BrokenPipeError):
        report_classic(Timeline(cast(Any, None), pages=pages), Output(Closed()))
    assert reader.read == [0, 1]


def test_an_instant_is_found_in_one_block(rocks: RocksStore) -> None:
    reader = _reader(rocks)
    assert reader.number_at(512_500) == 512
    assert reader.read == [10]
