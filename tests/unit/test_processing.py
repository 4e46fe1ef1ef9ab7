"""From a journal to a store: order, commits, restarts, damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import Kind, Mark, Trace
from diffkeeper.model.observation import Observation
from diffkeeper.processing import process, processor
from diffkeeper.processing.processor import Processor
from diffkeeper.store.journal import BatchKind, JournalWriter, encode_batch, segment_path
from scripts import COMMAND, SECOND, START_NS, TRACE_ID, Script, batches, begin_trace, seal, write_ring


@pytest.fixture
def script() -> Script:
    script = Script()
    script.put("kept", b"from before")
    return script


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "trace"


def busy(script: Script, files: int = 30) -> Script:
    script.starts(COMMAND, b"sh")
    for number in range(files):
        script.at(number / 10).save(f"file{number % 7}", b"%d" % number * 100)
    script.exits(0)
    return script


class Ring:
    """Write the ring's stream batch by batch, as a recording does."""

    def __init__(self, trace: Path, observations: list[Observation], segment_bytes: int = 1 << 20) -> None:
        self._writer = JournalWriter(trace, TRACE_ID, "r", segment_bytes)
        self._payloads: Iterator[bytes] = iter(list(batches(observations, 1 << 10)))

    def more(self, count: int) -> None:
        for _ in range(count):
            payload = next(self._payloads, None)
            if payload is not None:
                self._writer.append(BatchKind.RECORDS, payload)

    def end(self) -> None:
        for payload in self._payloads:
            self._writer.append(BatchKind.RECORDS, payload)
        self._writer.append(BatchKind.END, b"{}")
        self._writer.close()


def state_of(trace: Path) -> tuple[list[object], dict[bytes, bytes]]:
    with Trace.open(trace) as opened:
        assert opened.damage == []
        view = opened.at("end")
        events = [
            (event.number, event.t_ns, event.kind, event.path, event.size) for event in opened.timeline(ops="all")
        ]
        return events, {entry.path: view.read(entry.path) for entry in view.entries() if entry.kind == "f"}


def test_a_journal_becomes_events_and_content(script: Script, place: Path) -> None:
    facts = begin_trace(place, script)
    script.starts(COMMAND, b"sh")
    script.at(1).save("status.log", b"INIT")
    write_ring(place, script.observations)
    counted = process(place)
    seal(place, facts)
    events, files = state_of(place)
    assert files == {b"kept": b"from before", b"status.log": b"INIT"}
    assert counted["events"] == len(events) == 5
    assert (counted["changes"], counted["files"], counted["processes"], counted["bytes"]) == (2, 1, 1, 4)


def test_processing_while_the_journal_grows_gives_the_same_as_afterwards(tmp_path: Path) -> None:
    results = []
    for grows in (False, True):
        script = Script()
        facts = begin_trace(tmp_path / str(grows), script)
        ring = Ring(tmp_path / str(grows), busy(script).observations)
        with Processor.of_trace(tmp_path / str(grows)) as running:
            for _ in range(5 if grows else 0):
                ring.more(3)
                running.advance()
            ring.end()
            running.finish()
        seal(tmp_path / str(grows), facts)
        results.append(state_of(tmp_path / str(grows)))
    assert results[0] == results[1]


def test_a_killed_worker_is_followed_by_one_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "EVENTS_PER_CHECKPOINT", 10)
    monkeypatch.setattr("diffkeeper.processing.window.HORIZON_NS", 0)
    monkeypatch.setattr("diffkeeper.processing.output.FLUSH_SECONDS", 0.0)
    results = []
    for stops in (0, 3):
        place, script = tmp_path / str(stops), Script()
        facts = begin_trace(place, script)
        ring = Ring(place, busy(script).observations)
        for _ in range(stops):
            ring.more(4)
            running = Processor.of_trace(place)
            running._window._newest_ns = START_NS + 100 * SECOND  # the horizon is far behind
            running.advance()
            running.close()  # without finish: as after a kill, only what was committed is there
        ring.end()
        process(place)
        seal(place, facts)
        results.append(state_of(place))
    assert results[0] == results[1]


@pytest.mark.parametrize(("limit", "value"), [("EVENTS_PER_CHECKPOINT", 10), ("BYTES_PER_COMMIT", 4096)])
def test_segments_are_recyclable_once_their_events_are_flushed(
    script: Script, place: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    """Many events make a commit due, and so do few that are large."""
    monkeypatch.setattr(processor, limit, value)
    monkeypatch.setattr("diffkeeper.processing.output.FLUSH_SECONDS", 0.0)
    begin_trace(place, script)
    ring = Ring(place, busy(script, 300).observations, segment_bytes=4 << 10)
    with Processor.of_trace(place) as running:
        running.advance()
        assert running.recyclable() == []
        ring.more(1000)
        running._window._newest_ns = START_NS + 100 * SECOND
        running.advance()
        first = running.recyclable()
        assert first[:2] == [1, 2]
        assert running.recyclable() == []


def test_recycled_segments_do_not_stop_a_later_reader(
    script: Script, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(processor, "EVENTS_PER_CHECKPOINT", 10)
    monkeypatch.setattr("diffkeeper.processing.output.FLUSH_SECONDS", 0.0)
    begin_trace(place, script)
    ring = Ring(place, busy(script, 300).observations, segment_bytes=4 << 10)
    with Processor.of_trace(place) as running:
        ring.more(60)
        running._window._newest_ns = START_NS + 100 * SECOND
        running.advance()
        for number in running.recyclable():
            segment_path(place, "r", number).unlink()
    ring.end()
    with Trace.open(place) as opened:
        assert opened.info().state == "broken"
        assert opened.damage == []
        assert opened.info().events == 300 * 3 + 3
        assert opened.at("end").read("kept") == b"from before"


def test_what_happened_before_the_start_is_part_of_the_baseline(script: Script, place: Path) -> None:
    facts = begin_trace(place, script)
    script.at(-1).by(7, outsider=True).save("early", b"early")
    script.at(1).by(COMMAND).save("later", b"later")
    write_ring(place, script.observations)
    process(place)
    seal(place, facts)
    with Trace.open(place) as opened:
        assert opened.at("start").read("early") == b"early"
        assert {event.path for event in opened.timeline()} == {b"later"}


def test_an_observation_behind_the_horizon_is_marked_late(script: Script, place: Path) -> None:
    facts = begin_trace(place, script)
    script.at(1).save("one", b"1")
    script.at(5).save("two", b"2")
    first = len(script.observations)
    script.at(1.5).save("late", b"3")
    writer = JournalWriter(place, TRACE_ID, "r")
    with Processor.of_trace(place) as running:
        for payload in batches(script.observations[:first]):
            writer.append(BatchKind.RECORDS, payload)
        running._window._newest_ns = START_NS + 100 * SECOND
        running.advance()
        for payload in batches(script.observations[first:]):
            writer.append(BatchKind.RECORDS, payload)
        totals = running.finish()
    writer.close()
    assert totals.summary()["late"] == 3
    seal(place, facts)
    with Trace.open(place) as opened:
        late = [event for event in opened.timeline(ops="all") if event.marks & Mark.LATE]
        assert [event.kind for event in late] == [Kind.CREATE, Kind.WRITE, Kind.CLOSE]
        assert not opened.info().is_complete


def test_a_baseline_that_broke_off_leaves_what_was_read(
    script: Script, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    script.put("unread", b"x")
    begin_trace(place, script, start_monotonic_ns=0, command_pid=0)
    path = segment_path(place, "b", 1)
    path.write_bytes(path.read_bytes()[:-300])
    with Trace.open(place) as opened:
        assert opened.at("end").read("kept") == b"from before"
        assert opened.info().events == 0
        assert opened.damage


def test_a_batch_that_is_no_records_is_named_and_passed_over(script: Script, place: Path) -> None:
    facts = begin_trace(place, script)
    script.at(1).save("a", b"1")
    payloads = list(batches(script.observations))
    with segment_path(place, "r", 1).open("wb") as file:
        for sequence, (kind, payload) in enumerate([(1, b"\xff" * 64), (1, payloads[0]), (4, b"{}")], start=1):
            file.write(encode_batch(kind, TRACE_ID, sequence, START_NS, payload))
    process(place)
    seal(place, facts)
    with Trace.open(place) as opened:
        assert any("batch 1" in words for words in opened.damage)
        assert opened.at("end").read("a") == b"1"
