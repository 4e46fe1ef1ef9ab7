"""Runs of plain writes leave byte for byte what the same writes leave one by one, whatever stands around them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffkeeper.model.attributes import CAPABILITY
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    DataOp,
    DataWritten,
    EventsLost,
    Flag,
    HoleFound,
    HoleReread,
    LateData,
    Lost,
    MappingChanged,
    Observation,
    RequestSeen,
)
from diffkeeper.model.resolve import Resolver
from diffkeeper.processing import output, plain_rows, processor, window
from diffkeeper.processing.limits import MEMORY_BYTES
from diffkeeper.processing.processor import Processor
from diffkeeper.processing.progress import Progress, read_resumable
from diffkeeper.store import content, eventlog, journal
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore
from property.test_replay import QUICK
from scripts import COMMAND, SECOND, START_NS, TRACE_ID, File, Script, batches, begin_trace

pytestmark = pytest.mark.skipif(not plain_rows.is_available(), reason="there is no native library")

PATHS = ["kept", "log", "data", "other"]
SMALL = {
    processor: {"SETTLED_AT_ONCE": 61, "EVENTS_PER_CHECKPOINT": 150},
    window: {"_SORT_AT_LEAST": 40},
    eventlog: {"BLOCK_EVENTS": 47, "BLOCK_BYTES": 1500},
    content: {"WINDOW_BYTES": 900},
    output: {"HELD_SHARE": MEMORY_BYTES // 2500},
}


class Busy(Script):
    """Do what comes, mostly plain writes, and lose the order of it within some milliseconds."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.dice = random.Random(seed)
        self.pace_ns = self.dice.choice([2_000, 300_000, 40_000_000])
        self.mess_ns = self.dice.choice([0, 5_000, 3_000_000_000])
        self.oddities = self.dice.choice([0.0, 0.006, 0.03, 0.3])
        self.put("kept", b"from before" * 9)
        self.baseline = deepcopy(self.files)

    def play(self, count: int) -> Busy:
        self.t_ns = START_NS - self.dice.choice([0, 20 * self.pace_ns])
        self.starts(COMMAND, b"sh")
        for path in PATHS[1:]:
            self.create(path)
        for _ in range(count):
            self.t_ns += self.dice.randrange(1, 2 * self.pace_ns)
            self.pid = COMMAND + self.dice.randrange(3)
            self.flags = Flag.OUTSIDER if self.dice.random() < 0.05 else Flag(0)
            if self.dice.random() < self.oddities:
                self.dice.choice(ODDITIES)(self)
            else:
                self.plain()
        return self

    def file(self) -> tuple[str, File]:
        path = self.dice.choice(sorted(path for path in self.files if path))
        return path, self.files[path]

    def named(self) -> tuple[str, File]:
        return self.dice.choice([(path, file) for path, file in self.files.items() if path and file.nlink])

    def plain(self) -> DataWritten:
        path, file = self.file()
        data = self.dice.randbytes(self.dice.choice([1, 16, 16, 40, 300]))
        at = len(file.data) if self.dice.random() < 0.7 else self.dice.randrange(len(file.data) + 30)
        if self.dice.random() < 0.03:
            at, data = 0, self.dice.randbytes(len(file.data) + 1)
        self.write(path, data, at)
        seen = self.observations[-1]
        assert isinstance(seen, DataWritten)
        return self.instead(replace(seen, flags=seen.flags | Flag.IN_LOCK))

    def put_in(self, path: str, data: bytes, offset: int = 0) -> None:
        self.write(path, data, offset)
        seen = self.observations[-1]
        assert isinstance(seen, DataWritten)
        self.instead(replace(seen, flags=Flag.IN_LOCK))

    def instead(self, seen: DataWritten) -> DataWritten:
        self.observations[-1] = seen
        return seen

    def odd(self) -> None:
        """Write in a way that is no longer plain."""
        seen = self.plain()
        lock, told = Flag.IN_LOCK, self.dice.randrange(7)
        if told == 0:
            self.instead(replace(seen, flags=seen.flags & ~lock))
        elif told == 1:
            self.instead(replace(seen, flags=seen.flags & ~lock | Flag.FROM_DESCRIPTOR))
        elif told == 2:
            self.instead(replace(seen, flags=seen.flags | Flag.AMBIGUOUS))
        elif told == 3:
            self.instead(replace(seen, payload=(), flags=seen.flags | Flag.FAULT))
        elif told == 4:
            self.instead(replace(seen, inode=replace(seen.inode, ino=9999)))
        elif told == 5:
            self.instead(replace(seen, slack=1, flags=seen.flags & ~lock))
        else:
            half = seen.length // 2
            data = seen.payload[0][1]
            self.instead(replace(seen, payload=((0, data[:half]), (half, data[half:]))))

    def late(self) -> None:
        """Write, and have the bytes read late, perhaps after others have written."""
        seen = self.plain()
        keeps = self.dice.random() < 0.2
        seen = self.instead(seen if keeps else replace(seen, payload=(), flags=seen.flags | Flag.BY_REFERENCE))
        if self.dice.random() < 0.3:
            self.instead(replace(seen, enter_ns=0))  # it began after the last call of its task
        for _ in range(self.dice.randrange(3)):
            self.plain()
        path = next((path for path, file in self.files.items() if file.ino == seen.inode.ino), "")
        data = bytes(self.files[path].data[seen.offset : seen.offset + seen.length]) if path else b""
        common = self._common()
        at_ns = self.t_ns
        self.observations.append(LateData(*common, seen.sequence, seen.inode, seen.offset, data, at_ns, at_ns, False))

    def copy(self) -> None:
        seen, (_, source) = self.plain(), self.file()
        self.instead(replace(seen, op=DataOp.COPY_RANGE, payload=(), source=source.inode(), source_offset=0))

    def lose(self) -> None:
        inode, what = self.file()[1].inode(), self.dice.choice([Lost.BYTES, Lost.METADATA, Lost.UNKNOWN])
        file = Base(*inode.identity) if what != Lost.UNKNOWN or self.dice.random() < 0.9 else None
        common = self._common()
        place = (self.dice.randrange(50), 10) if what == Lost.BYTES else (0, 0)
        self.observations.append(EventsLost(*common, "ring", 1, self.t_ns - self.pace_ns, what, file, *place))

    def map(self) -> None:
        inode = self.file()[1].inode()
        self.observations.append(MappingChanged(*self._common(), inode, self.dice.random() < 0.5))

    def sample(self) -> None:
        _, file = self.file()
        data = bytes(file.data[:100])
        common = self._common()
        mapped = (*common[:6], common[6] | Flag.MAPPED, 0)
        self.observations.append(DataWritten(*mapped, DataOp.WRITE, file.inode(), 0, len(data), ((0, data),)))

    def hole(self) -> None:
        _, file = self.file()
        base = self._base()
        self.observations.append(HoleFound(*self._common(), file.inode(), base, b"", 0, self.dice.choice([0, 9]), 1))
        if self.dice.random() < 0.6:
            data, common = bytes(file.data), self._common()
            of, at_ns = common[0], self.t_ns
            reading = LateData(*self._common(), of, file.inode(), 0, data, at_ns, at_ns, False)
            self.observations.append(reading)
            settles = self.dice.random() < 0.5
            reread = HoleReread(*common, file.inode(), base, b"", 0, len(data), None, settles)
            self.observations.append(reread)

    def request(self) -> None:
        _, file = self.file()
        first = self._common()
        self.observations.append(RequestSeen(*first, file.inode(), 0, 10, first[0], False))
        self.plain()
        if self.dice.random() < 0.8:
            self.observations.append(RequestSeen(*self._common(), file.inode(), 0, 10, first[0], True))

    def attribute(self) -> None:
        name = self.dice.choice([CAPABILITY, b"user.a"])
        inode = self.file()[1].inode()
        self.observations.append(AttributeChanged(*self._common(), AttributeOp.SETXATTR, inode, name, b"value"))

    def cut(self) -> None:
        self.truncate(self.file()[0], self.dice.choice([0, 0, 17]))

    def shut(self) -> None:
        self.close(self.file()[0])

    def move(self) -> None:
        path, path2 = self.named()[0], self.dice.choice([*PATHS, "new"])
        if path != path2:
            self.rename(path, path2)

    def drop(self) -> None:
        """Remove a file that is written to all the same."""
        path, file = self.named()
        self.unlink(path)
        self.files[f"gone{len(self.observations)}"] = file
        self.create(f"file{len(self.observations)}")

    def go(self) -> None:
        self.exits(0)
        self.starts(self.pid, b"again")

    def wait(self) -> None:
        self.t_ns += 5 * SECOND

    def drained(self) -> Iterator[Observation]:
        """Yield all as it comes out of a ring that several processors fill; each task's own stay in order."""
        delay = {pid: self.dice.randrange(self.mess_ns + 1) for pid in range(COMMAND, COMMAND + 3)}
        places = {one.sequence: number for number, one in enumerate(self.observations)}
        yield from sorted(self.observations, key=lambda one: (one.t_ns + delay[one.pid], places[one.sequence]))

    def portions(self) -> Iterator[tuple[int, list[Observation]]]:
        """Yield small batches, each of the time of what it holds."""
        now_ns, some = START_NS, list[Observation]()
        for one in self.drained():
            some.append(one)
            if self.dice.random() < 0.01:
                now_ns = max(now_ns, some[-1].t_ns - self.dice.choice([0, self.mess_ns]))
                yield now_ns, some
                some = []
        yield now_ns, some


ODDITIES = [Busy.odd, Busy.late, Busy.copy, Busy.lose, Busy.map, Busy.sample, Busy.hole, Busy.request, Busy.attribute]
ODDITIES += [Busy.cut, Busy.shut, Busy.move, Busy.drop, Busy.go, Busy.wait]


def write_ring(trace: Path, portions: Iterable[tuple[int, list[Observation]]]) -> None:
    """Write the ring's stream: batches with the time of each."""
    now_ns = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "time", SimpleNamespace(monotonic_ns=lambda: now_ns))
        writer = journal.JournalWriter(trace, TRACE_ID, "r")
        for now_ns, some in portions:  # noqa: B007  # read by the lambda
            writer.append(journal.BatchKind.RECORDS, b"".join(batches(some, 1 << 20)))
        writer.append(journal.BatchKind.END, b"{}")
        writer.close()


@contextmanager
def small() -> Iterator[None]:
    """Make limits so small that a short script reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for module, limits in SMALL.items():
            for name, value in limits.items():
                patch.setattr(module, name, value)
        yield


def processed(trace: Path, *, takes_runs: bool) -> tuple[dict[bytes, bytes | Progress | None], int]:
    """Process a journal; return all that is in the store then, and how many runs were taken.

    Counts in the note of progress may come in another order.
    """
    runs = 0
    feed_run = Resolver.feed_run

    def counting(self: Resolver, run: plain_rows.PlainRun) -> object:
        nonlocal runs
        resolved = feed_run(self, run)
        runs += resolved is not None
        return resolved

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resolver, "feed_run", counting)
        store = Path(folder, "store")
        with Processor(trace, store, takes_runs=takes_runs) as made:
            made.finish()
        opened = RocksStore.open_readonly(store)
        items = {key: value for key, value in opened.scan(b"") if not key.startswith(Key.FACT)}
        return items | {Key.FACT: read_resumable(opened)}, runs


def compare(script: Busy, portions: Iterable[tuple[int, list[Observation]]]) -> int:
    """Process a journal both ways; return how many runs were taken."""
    with tempfile.TemporaryDirectory() as folder, small():
        trace, now = Path(folder, "trace"), script.files
        script.files = script.baseline
        begin_trace(trace, script)
        script.files = now
        write_ring(trace, portions)
        one_by_one, none = processed(trace, takes_runs=False)
        in_runs, runs = processed(trace, takes_runs=True)
        assert not none
        assert in_runs == one_by_one
        return runs


def played(seed: int, count: int) -> int:
    script = Busy(seed).play(count)
    return compare(script, script.portions())


@QUICK
@given(st.integers(0, 1 << 32))
def test_what_is_processed_in_runs_is_as_if_it_went_one_by_one(seed: int) -> None:
    played(seed, 300)


def test_runs_are_taken() -> None:
    assert sum(played(seed, 400) for seed in range(6)) > 2


def test_writing_all_of_a_file_ends_the_doubt_about_it_in_a_run_too() -> None:
    script = Busy(1)
    script.put("small", b"1")
    script.baseline = deepcopy(script.files)
    for _ in range(100):
        script.put_in("small", b"22")
    script.write("small", b"333", 0)
    seen = script.observations[-1]
    assert isinstance(seen, DataWritten)
    script.instead(replace(seen, flags=Flag.IN_LOCK | Flag.AMBIGUOUS))
    for _ in range(100):
        script.put_in("small", b"4444")
    assert compare(script, [(script.t_ns, script.observations)]) > 1


def test_a_write_whose_entry_was_not_seen_began_after_the_last_call_of_its_task_in_a_run() -> None:
    script = Busy(1)
    script.pid = COMMAND
    for _ in range(100):
        script.put_in("kept", b"all of it")
    script.put_in("kept", b"elsewhere", 500)
    first = list(script.observations)
    script.write("kept", b"all of it", 0)
    seen = script.observations[-1]
    assert isinstance(seen, DataWritten)
    seen = script.instead(replace(seen, payload=(), flags=Flag.BY_REFERENCE, enter_ns=0))
    common, at_ns = script._common(), script.t_ns
    reading = LateData(*common, seen.sequence, seen.inode, 0, b"all of it", at_ns, at_ns, False)
    assert compare(script, [(first[-1].t_ns, first), (script.t_ns, [seen, reading])]) > 0


def test_a_file_without_a_name_is_saved_with_each_tree_in_which_a_run_changed_it() -> None:
    script = Busy(1)
    script.put("small", b"1")
    script.baseline = deepcopy(script.files)
    for _ in range(100):
        script.put_in("small", b"22")
    file = script.files["small"]
    script.unlink("small")
    script.files["gone"] = file
    for number in range(400):
        script.put_in("gone", b"%d" % number)
    assert compare(script, [(script.t_ns, script.observations)]) > 1
