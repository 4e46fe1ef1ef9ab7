"""Recordings with rules: what a sealed trace shows and, byte by byte, what it does not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffkeeper import Event, Kind, Mark, Trace
from diffkeeper.errors import UnknownContentError
from diffkeeper.model import held
from diffkeeper.processing import process, processor
from diffkeeper.processing.processor import Processor
from diffkeeper.store.content import ContentReader
from diffkeeper.store.format import JOURNAL_NAME, STORE_NAME, Key, SessionFacts
from diffkeeper.store.journal import BatchKind, JournalWriter, remove_journal
from diffkeeper.store.rocks import RocksStore
from scripts import TRACE_ID, Script, batches, begin_trace, seal, write_ring

pytest.importorskip("pathspec")

SECRET = b"s3cr3t-0f-an-excluded-file"
RULES = ["*.tmp", ".env", "/vault/", "/inner/private"]


class Recording:
    """A trace with rules that is about to be made."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.script = Script()
        self.script.put("kept", b"from before")
        self.script.put(".env")
        self.facts: SessionFacts = begin_trace(place, self.script, excludes=RULES)

    def sealed(self) -> Trace:
        """Process and seal it; return it opened."""
        write_ring(self.place, self.script.observations)
        self.facts.counters = process(self.place)
        return self.after_processing()

    def after_processing(self) -> Trace:
        """Seal what was processed."""
        seal(self.place, self.facts)
        remove_journal(self.place)
        assert not (self.place / JOURNAL_NAME).exists()
        return Trace.open(self.place)

    def everything(self) -> bytes:
        """Return every byte of the trace's files, and all that its store holds as it is when decoded."""
        found = b"".join(path.read_bytes() for path in self.place.rglob("*") if path.is_file())
        store = RocksStore.open_readonly(self.place / STORE_NAME)
        reader = ContentReader(store)
        for key, value in store.scan(b""):
            found += key + value
            found += reader.chunk(key[len(Key.CHUNK) :]) if key.startswith(Key.CHUNK) else b""
        store.close()
        return found


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "trace")


def shown(trace: Trace) -> list[tuple[Kind, bytes]]:
    """Return what the timeline shows."""
    return [(event.kind, event.path) for event in trace.timeline()]


def files(trace: Trace, position: str = "end") -> dict[bytes, bytes]:
    view = trace.at(position)
    return {entry.path: view.read(entry.path) for entry in view.entries() if entry.kind == "f"}


def test_bytes_names_and_events_of_an_excluded_file_are_not_in_the_trace(recording: Recording) -> None:
    script = recording.script
    script.save(".env", SECRET)
    script.mkdir("vault")
    script.save("vault/hushed-name", SECRET)
    script.chmod("vault/hushed-name", 0o600)
    script.save("public", b"for all to see")
    with recording.sealed() as trace:
        assert shown(trace) == [(Kind.CREATE, b"public"), (Kind.WRITE, b"public")]
        assert files(trace) == {b"kept": b"from before", b"public": b"for all to see"}
        assert trace.info().is_complete
        assert trace.info().counters["files"] == 1
        events: list[Event] = list(trace.timeline(ops="all"))
        assert {event.path for event in events} == {b"", b"public"}
    everything = recording.everything()
    assert SECRET not in everything
    assert b"hushed-name" not in everything
    assert b"for all to see" in everything


def test_an_atomic_save_through_an_excluded_name_is_exact(recording: Recording) -> None:
    script = recording.script
    for text in (b"one", b"two and more"):
        script.create("kept.tmp")
        script.write("kept.tmp", SECRET)
        script.truncate("kept.tmp", 0)
        script.write("kept.tmp", text)
        script.close("kept.tmp")
        script.rename("kept.tmp", "kept")
    with recording.sealed() as trace:
        assert shown(trace) == [(Kind.IMPORT, b"kept")] * 2
        first, second = trace.timeline()
        assert files(trace, f"@{first.number}^") == {b"kept": b"from before"}
        assert files(trace, f"@{second.number}^") == {b"kept": b"one"}
        assert files(trace) == {b"kept": b"two and more"}
        assert trace.info().is_complete
        assert trace.at("end").stat("").meta.mtime_ns == script.root.mtime_ns
    everything = recording.everything()
    assert SECRET not in everything, "it was overwritten before the file was shown"
    assert b"kept.tmp" not in everything


def test_a_file_that_is_renamed_to_an_excluded_name_leaves(recording: Recording) -> None:
    script = recording.script
    script.rename("kept", "kept.tmp")
    script.write("kept.tmp", SECRET)
    script.close("kept.tmp")
    with recording.sealed() as trace:
        assert shown(trace) == [(Kind.EXPORT, b"kept")]
        assert files(trace) == {}
    assert SECRET not in recording.everything()


def test_a_file_with_a_shown_name_is_shown_under_that_alone(recording: Recording) -> None:
    script = recording.script
    script.link("kept", "kept.tmp")
    script.write("kept.tmp", b"!")
    script.close("kept.tmp")
    script.unlink("kept")
    script.write("kept.tmp", SECRET)
    with recording.sealed() as trace:
        assert shown(trace) == [(Kind.WRITE, b"kept"), (Kind.UNLINK, b"kept")]
        written, _ = trace.timeline()
        assert files(trace, f"@{written.number}") == {b"kept": b"from before!"}
        assert files(trace) == {}
    everything = recording.everything()
    assert SECRET not in everything
    assert b"kept.tmp" not in everything


def test_renaming_a_folder_hides_and_shows_what_is_below(recording: Recording) -> None:
    script = recording.script
    script.mkdir("outer")
    script.save("outer/private", b"shown as long as its folder is outer")
    script.mkdir("vault")
    script.save("vault/gold", b"GOLD")
    script.rename("outer", "inner")
    script.write("inner/private", SECRET)
    script.rename("vault", "open")
    with recording.sealed() as trace:
        assert shown(trace)[-4:] == [
            (Kind.RENAME, b"outer"),
            (Kind.EXPORT, b"inner/private"),
            (Kind.IMPORT, b"open"),
            (Kind.IMPORT, b"open/gold"),
        ]
        assert files(trace) == {b"kept": b"from before", b"open/gold": b"GOLD"}
    assert SECRET not in recording.everything()


def test_bytes_beyond_the_limit_are_unknown_and_the_trace_says_so(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held.HeldBytes.__init__, "__defaults__", (1 << 17,))
    script = recording.script
    script.create("large.tmp")
    for number in range(8):
        script.write("large.tmp", b"%d" % number * (1 << 15))
    script.rename("large.tmp", "large")
    with recording.sealed() as trace:
        (event,) = trace.timeline(ops="import")
        assert event.marks & Mark.UNKNOWN_DATA
        assert not trace.info().is_complete
        view = trace.at("end")
        assert view.read("large", allow_unknown=True)[-(1 << 15) :] == b"7" * (1 << 15)
        with pytest.raises(UnknownContentError):
            view.read("large")


def test_a_worker_that_was_killed_leaves_the_next_one_the_whole_tree(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "EVENTS_PER_CHECKPOINT", 5)
    monkeypatch.setattr("diffkeeper.processing.output.FLUSH_SECONDS", 0.0)
    monkeypatch.setattr("diffkeeper.processing.window._SORT_AT_LEAST", 1)
    script = recording.script
    script.mkdir("vault")
    script.save("vault/early", SECRET)
    for number in range(20):
        script.at(number * 2 + 1).save(f"file{number}", b"shown")
    script.save("vault/late", SECRET)
    script.rename("vault/early", "early")
    writer = JournalWriter(recording.place, TRACE_ID, "r")
    payloads = list(batches(script.observations, 1 << 10))
    for payload in payloads[: len(payloads) // 2]:
        writer.append(BatchKind.RECORDS, payload)
    with Processor.of_trace(recording.place) as first:
        first.advance()
        assert first._output.count > 0
    trees = list((recording.place / JOURNAL_NAME).glob("whole-*"))
    assert len(trees) == 1
    for payload in payloads[len(payloads) // 2 :]:
        writer.append(BatchKind.RECORDS, payload)
    writer.append(BatchKind.END, b"{}")
    writer.close()
    process(recording.place)
    with recording.after_processing() as trace:
        assert [path for kind, path in shown(trace) if kind == Kind.CREATE] == [b"file%d" % n for n in range(20)]
        assert trace.at("end").read("early", allow_unknown=True) == bytes(len(SECRET)), "held bytes do not survive"
        assert not trace.info().is_complete
    assert SECRET not in recording.everything()


def test_reading_a_trace_that_broke_off_applies_the_rules(
    recording: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording.script.save(".env", SECRET)
    recording.script.save("public", b"1")
    write_ring(recording.place, recording.script.observations, end=False)
    before = sorted(recording.place.rglob("*"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Trace.open(recording.place) as trace:
        assert files(trace) == {b"kept": b"from before", b"public": b"1"}
    assert sorted(recording.place.rglob("*")) == before
    cached = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert SECRET not in cached
