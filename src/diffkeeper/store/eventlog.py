"""The event log: events in numbered blocks, an index of the blocks by number and time, and the table of processes.

Readers that filter look at columns and build an Event only for what they print: a million events are 250 blocks.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Event
from diffkeeper.model.process import Process
from diffkeeper.model.values import dataclass
from diffkeeper.store.beginning import read_beginning
from diffkeeper.store.eventblock import BLOCK_EVENTS, DATA_BYTES, Column, EventBlock, EventColumns, encode_block
from diffkeeper.store.format import Key
from diffkeeper.store.processtable import decode_process, encode_process
from diffkeeper.store.rocks import RocksStore
from diffkeeper.store.touched import Touched, encode_touched

BLOCK_BYTES = 512 << 10  # of byte strings; keeps a block's value below MAX_VALUE_BYTES
CACHED_BLOCKS = 4

_NUMBER = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """Hold what the index says of a block: its first and last event, their range of time, and the kinds in it."""

    first: int
    last: int
    min_t_ns: int
    max_t_ns: int
    reach_ns: int  # the greatest t_ns of this block and of all before it
    kinds: int  # bit 1 << kind is set for each kind in the block

    _RECORD: ClassVar[struct.Struct] = struct.Struct("<QqqqQ")

    @classmethod
    def of(cls, first: int, events: Sequence[Event | EventColumns], reach_ns: int) -> BlockFacts:
        """Return the facts of a block that begins with event ``first`` and follows events up to ``reach_ns``."""
        times: list[int] = []
        kinds, last = 0, first - 1
        for event in events:
            if isinstance(event, EventColumns):
                times += event.columns[Column.T]
                kinds, last = kinds | 1 << event.constants[Column.KIND], last + event.count
            else:
                times.append(event.t_ns)
                kinds, last = kinds | 1 << event.kind, last + 1
        high = max(times)
        return cls(first, last, min(times), high, max(reach_ns, high), kinds)

    @classmethod
    def from_item(cls, key: bytes, record: bytes) -> BlockFacts:
        """Return the facts of an item of the index; raise DamagedTraceError where it is none."""
        if len(key) != len(Key.INDEX) + _NUMBER.size or len(record) != cls._RECORD.size:
            raise DamagedTraceError("The index of events holds an invalid entry.")
        (first,) = _NUMBER.unpack_from(key, len(Key.INDEX))
        facts = cls(first, *cls._RECORD.unpack(record))
        if not 0 < first <= facts.last < first + BLOCK_EVENTS:
            raise DamagedTraceError("The index of events holds an invalid entry.")
        return facts

    def to_item(self) -> tuple[bytes, bytes]:
        """Return the key and the value of the index."""
        record = self._RECORD.pack(self.last, self.min_t_ns, self.max_t_ns, self.reach_ns, self.kinds)
        return Key.INDEX + _NUMBER.pack(self.first), record


class EventWriter:
    """Append events to the log, in blocks.

    Nothing reaches the store before flush(). A block that is not full is written as far as it goes, and again when it
    has grown: frequent flushes do not make small blocks.
    """

    def __init__(self, rocks: RocksStore) -> None:
        """Continue the log after the last event in the store."""
        self._rocks = rocks
        last = rocks.last(Key.INDEX)
        facts = BlockFacts.from_item(*last) if last else None
        self.count = facts.last if facts else 0
        self._reach_ns = facts.reach_ns if facts else 0  # at the end of the last full block
        self._open: list[Event | EventColumns] = []
        self._open_count = 0
        self._open_bytes = 0
        self._ready: list[tuple[bytes, bytes]] = []

    def append(self, events: Iterable[Event | EventColumns]) -> None:
        """Append events, numbered one after the other."""
        for event in events:
            assert event.number == self.count + 1, "events are numbered without gaps"
            if isinstance(event, EventColumns):
                self._append_columns(event)
            else:
                self._append(event, 1, _string_bytes(event))

    def _append_columns(self, run: EventColumns) -> None:
        begin = 0
        while begin < run.count:
            end = self._end_in_block(run, begin)
            self._append(run.part(begin, end), end - begin, run.string_bytes(begin, end))
            begin = end

    def _end_in_block(self, run: EventColumns, begin: int) -> int:
        """Return before which event of a run the open block is full, or the run has ended."""
        end = min(run.count, begin + BLOCK_EVENTS - self._open_count)
        low, room = begin + 1, BLOCK_BYTES - self._open_bytes
        if run.string_bytes(begin, end) < room:
            return end
        while low < end:  # the first that fills the block is still part of it
            middle = (low + end) // 2
            low, end = (low, middle) if run.string_bytes(begin, middle) >= room else (middle + 1, end)
        return end

    def _append(self, events: Event | EventColumns, count: int, string_bytes: int) -> None:
        self.count += count
        self._open.append(events)
        self._open_count += count
        self._open_bytes += string_bytes
        if self._open_count == BLOCK_EVENTS or self._open_bytes >= BLOCK_BYTES:
            self._reach_ns = self._write_open()
            self._open, self._open_count, self._open_bytes = [], 0, 0

    def cut(self) -> None:
        """Begin a new block with the next event: what is up to here may be dropped apart from what follows."""
        if self._open:
            self._reach_ns = self._write_open()
            self._open, self._open_count, self._open_bytes = [], 0, 0

    def put_process(self, process: Process) -> None:
        """Put or replace a process of the process table."""
        self._ready.append((Key.PROCESS + _NUMBER.pack(process.key), encode_process(process)))

    def flush(self, also: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Hand all events to the store, with ``also``: after a kill either all of it is there or nothing."""
        if self._open:
            self._write_open()
        self._rocks.put_many([*self._ready, *also])
        self._ready.clear()

    def _write_open(self) -> int:
        facts = BlockFacts.of(self.count - self._open_count + 1, self._open, self._reach_ns)
        self._ready.append((Key.EVENTS + _NUMBER.pack(facts.first), encode_block(self._open)))
        self._ready.append((Key.TOUCHED + _NUMBER.pack(facts.first), encode_touched(self._open)))
        self._ready.append(facts.to_item())
        return facts.reach_ns


def _string_bytes(event: Event) -> int:
    """Return about how many bytes an event adds to its block beside its numbers."""
    strings = len(event.path) + len(event.path2) + len(event.text) + len(event.value)
    return strings + DATA_BYTES * len(event.data)


class EventReader:
    """Read the log by number, by time and by column. ``damage`` says what could not be read."""

    def __init__(self, rocks: RocksStore) -> None:
        self._rocks = rocks
        self._blocks: OrderedDict[int, EventBlock] = OrderedDict()
        self.damage: list[str] = []
        self.index: list[BlockFacts] = []
        self.beginning = read_beginning(rocks)
        self._read_index()

    def _read_index(self) -> None:
        expected = max(self.beginning.number, 1)
        for key, record in self._rocks.scan(Key.INDEX):
            try:
                facts = BlockFacts.from_item(key, record)
            except DamagedTraceError as error:
                self._note(str(error))
                continue
            if facts.first < expected:
                self._note(f"Two blocks hold event {facts.first}.")
                continue
            if facts.first > expected:
                self._note(f"Events {expected} to {facts.first - 1} are missing.")
            self.index.append(facts)
            expected = facts.last + 1

    def _note(self, words: str) -> None:
        if words not in self.damage:
            self.damage.append(words)

    @property
    def count(self) -> int:
        """Return the number of the last event."""
        return self.index[-1].last if self.index else 0

    def event(self, number: int) -> Event:
        """Return the event of that number; raise DamagedTraceError where it is not there or cannot be read."""
        place = bisect_right(self.index, number, key=lambda facts: facts.first) - 1
        if place < 0 or number > self.index[place].last:
            raise DamagedTraceError(f"Event {number} is missing.")
        return self._block(self.index[place]).event(number)

    def events(self, first: int = 1, last: int | None = None) -> Iterator[Event]:
        """Yield the events from ``first`` to ``last``, passing over those that cannot be read (see ``damage``)."""
        end = self.count if last is None else last
        for block in self.blocks(first, end):
            try:
                yield from block.events(first, end)
            except DamagedTraceError as error:
                self._note(f"Events {block.first} to {block.last} cannot be read: {error}")

    def blocks(
        self, first: int = 1, last: int | None = None, wanted: Callable[[BlockFacts], bool] | None = None
    ) -> Iterator[EventBlock]:
        """Yield the blocks that hold events from ``first`` to ``last`` and are ``wanted`` by what the index says."""
        end = self.count if last is None else last
        place = max(0, bisect_right(self.index, first, key=lambda facts: facts.first) - 1)
        while place < len(self.index) and self.index[place].first <= end:
            facts = self.index[place]
            place += 1
            if facts.last < first or (wanted is not None and not wanted(facts)):
                continue
            try:
                block = self._block(facts)
            except DamagedTraceError as error:
                self._note(f"Events {facts.first} to {facts.last} cannot be read: {error}")
                continue
            yield block

    def touched(self, facts: BlockFacts) -> Touched | None:
        """Return what a block touches; None where that is not known, so that the block itself must be read."""
        try:
            value = self._rocks.get(Key.TOUCHED + _NUMBER.pack(facts.first))
            return None if value is None else Touched(value)
        except DamagedTraceError:
            return None

    def number_at(self, t_ns: int) -> int:
        """Return the last event up to which nothing happened later than ``t_ns``; 0 where there is none.

        That is the last event with that time or an earlier one, except that a late event (Mark.LATE) belongs to the
        instant of those that were numbered before it: the state after it includes theirs.
        """
        place = bisect_right(self.index, t_ns, key=lambda facts: facts.reach_ns)
        before = self.index[place - 1].last if place else 0
        if place == len(self.index) or self.index[place].min_t_ns > t_ns:
            return before
        facts = self.index[place]
        times = self._block(facts).column("t_ns")
        return facts.first + _first_above(times, t_ns) - 1

    def processes(self, first: int = 0) -> Iterator[Process]:
        """Yield the processes of the process table by key, from key ``first`` on."""
        for key, value in self._rocks.scan(Key.PROCESS, Key.PROCESS + _NUMBER.pack(first)):
            try:
                yield decode_process(_NUMBER.unpack(key[len(Key.PROCESS) :])[0], value)
            except (DamagedTraceError, struct.error) as error:
                self._note(f"A process cannot be read: {error}")

    def process(self, key: int) -> Process | None:
        """Return a process of the process table, None where there is none of that key."""
        if not 0 < key < 1 << 64:
            return None
        value = self._rocks.get(Key.PROCESS + _NUMBER.pack(key))
        return None if value is None else decode_process(key, value)

    def _block(self, facts: BlockFacts) -> EventBlock:
        block = self._blocks.get(facts.first)
        if block is None:
            value = self._rocks.get(Key.EVENTS + _NUMBER.pack(facts.first))
            if value is None:
                raise DamagedTraceError("The block is missing.")
            block = EventBlock(facts.first, facts.last - facts.first + 1, value)
            self._blocks[facts.first] = block
            if len(self._blocks) > CACHED_BLOCKS:
                self._blocks.popitem(last=False)
        return block


def _first_above(times: Sequence[int], t_ns: int) -> int:
    """Return the position of the first time above ``t_ns``; times may go back."""
    return next((place for place, time in enumerate(times) if time > t_ns), len(times))
