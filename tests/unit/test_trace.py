"""What an open trace answers, and what becomes of damaged ones."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diffkeeper import (
    DamagedTraceError,
    Exactness,
    FormatTooNewError,
    Kind,
    NoSuchEntryError,
    NoSuchTraceError,
    PositionError,
    StillRecordingError,
    Trace,
    UnknownContentError,
    UsageError,
)
from diffkeeper.model.observation import DataOp, DataWritten, Flag, SizeChanged, SizeOp
from diffkeeper.processing import process
from diffkeeper.store.format import TraceLock, write_session
from diffkeeper.store.journal import remove_journal, segment_path
from scripts import COMMAND, Script, begin_trace, make_facts, seal, write_ring


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def played(script: Script) -> Script:
    script.starts(COMMAND, b"sh")
    script.at(1).save("status.log", b"INIT: System OK")
    script.at(2).mkdir("d")
    script.save("d/data.tmp", b"new data")
    script.rename("d/data.tmp", "old.txt")
    script.at(3).save("status.log", b"ERROR: Connection Lost")
    script.link("status.log", "second")
    script.symlink("points", "status.log")
    script.chmod("gone.txt", 0o600)
    script.rename("moves.txt", "d/moved.txt")
    script.at(4).unlink("gone.txt")
    script.output(b"it failed\n", 2)
    script.by(200, outsider=True).save("outside.txt", b"not ours")
    script.at(5).by(COMMAND).exits(256)
    return script


def made(place: Path, script: Script | None = None) -> Path:
    if script is None:
        script = Script()
        for name in ("old.txt", "gone.txt", "moves.txt"):
            script.put(name, b"old " + name.encode())
        facts = begin_trace(place, script)
        played(script)
    else:
        facts = begin_trace(place, Script())
    write_ring(place, script.observations)
    process(place)
    seal(place, facts)
    remove_journal(place)
    return place


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    with Trace.open(made(tmp_path / "trace")) as opened:
        yield opened


def paths(events: Iterator[object]) -> list[bytes]:
    return [event.path for event in events]  # type: ignore[attr-defined]


# --- timeline


def test_a_timeline_shows_changes_in_order_and_leaves_the_rest_out(trace: Trace) -> None:
    events = list(trace.timeline())
    assert [event.number for event in events] == sorted(event.number for event in events)
    assert {Kind.CLOSE, Kind.FORK, Kind.EXEC, Kind.EXIT, Kind.OUTPUT}.isdisjoint(event.kind for event in events)
    assert trace.info().events == len(list(trace.timeline(ops="all")))


def test_a_timeline_is_filtered_by_path_operation_process_and_range(trace: Trace) -> None:
    assert set(paths(trace.timeline(paths="d/*"))) == {b"d/data.tmp", b"moves.txt"}
    assert [event.kind for event in trace.timeline(ops="rename")] == [Kind.RENAME, Kind.RENAME]
    assert set(paths(trace.timeline(pids=200))) == {b"outside.txt"}
    assert set(paths(trace.timeline(since="4s"))) == {b"gone.txt", b"outside.txt"}
    assert set(paths(trace.timeline(until="1s"))) == {b"status.log"}
    assert next(trace.timeline(output=True, ops="output")).length == 10


def test_the_last_events_are_the_end_of_the_timeline(trace: Trace) -> None:
    everything = list(trace.timeline())
    for count in (0, 1, 5, 1000):
        assert list(trace.timeline(last=count)) == everything[-count:] * (count > 0)


def test_output_can_be_read(trace: Trace) -> None:
    (event,) = trace.timeline(ops="output")
    assert trace.data(event) == b"it failed\n"


def test_processes_are_known_by_key(trace: Trace) -> None:
    event = next(trace.timeline())
    assert trace.process(event.process).comm == b"sh"
    assert trace.process(999).pid == 0


def test_an_unreadable_position_is_refused(trace: Trace) -> None:
    with pytest.raises(PositionError):
        trace.at("17")


# --- trees


def test_the_tree_is_as_it_was_at_each_instant(trace: Trace) -> None:
    assert trace.at("start").read("old.txt") == b"old old.txt"
    assert trace.at("1s").read("status.log") == b"INIT: System OK"
    assert trace.at("2s").read("old.txt") == b"new data"
    view = trace.at("end")
    assert view.read("status.log") == view.read("second") == b"ERROR: Connection Lost"
    assert [entry.path for entry in view.entries()] == [
        b"d", b"d/moved.txt", b"old.txt", b"outside.txt", b"points", b"second", b"status.log"
    ]  # fmt: skip


def test_a_number_is_a_position(trace: Trace) -> None:
    rename = next(trace.timeline(ops="rename"))
    assert trace.at(rename.number).read("old.txt") == b"new data"
    assert trace.at(rename.number - 1).read("old.txt") == b"old old.txt"
    assert trace.cut(0) == 0


def test_an_entry_says_what_it_is(trace: Trace) -> None:
    view = trace.at("end")
    entry = view.stat("status.log")
    assert (entry.kind, entry.size, entry.content) == ("f", 22, Exactness.EXACT)
    assert entry.links == view.stat("second").links
    assert (view.stat("points").kind, view.stat("points").target) == ("l", b"status.log")
    assert view.stat(b"d").kind == "d"
    assert stat.S_IMODE(trace.at("3s").stat("gone.txt").meta.mode) == 0o600


def test_a_name_that_is_not_there_is_an_error(trace: Trace) -> None:
    with pytest.raises(NoSuchEntryError):
        trace.at("end").stat("gone.txt")
    with pytest.raises(UsageError, match="not a regular file"):
        trace.at("end").read("d")


def test_differences_are_told_by_letter(trace: Trace) -> None:
    found = {(change.letter, change.path, change.path2) for change in trace.diff("start", "end")}
    assert found == {
        ("A", b"d", b""),
        ("A", b"outside.txt", b""),
        ("A", b"points", b""),
        ("A", b"second", b""),
        ("A", b"status.log", b""),
        ("D", b"gone.txt", b""),
        ("M", b"old.txt", b""),
        ("R", b"moves.txt", b"d/moved.txt"),
    }
    assert [(change.letter, change.path) for change in trace.diff("@15", "@15")] == []
    chmod = next(trace.timeline(ops="chmod")).number
    assert [(change.letter, change.path) for change in trace.diff(chmod - 1, chmod)] == [("U", b"gone.txt")]


def test_a_history_follows_renames_backwards(trace: Trace) -> None:
    history = trace.history("old.txt")
    assert [event.kind for event in history] == [Kind.CREATE, Kind.WRITE, Kind.CLOSE, Kind.RENAME]
    assert [event.path for event in trace.history("moves.txt")] == [b"moves.txt"]
    assert trace.history("never") == []


def test_the_last_change_is_the_commands_own(trace: Trace) -> None:
    last = trace.last_change()
    assert last is not None
    assert (last.kind, last.path) == (Kind.UNLINK, b"gone.txt")


def test_the_exit_of_the_command_is_a_position(trace: Trace) -> None:
    assert trace.event(trace.cut("exit")).kind == Kind.EXIT


def test_a_fresh_folder_gets_the_attributes_of_the_root_at_that_instant(trace: Trace, tmp_path: Path) -> None:
    trace.export("1s", tmp_path / "out")
    assert (tmp_path / "out").stat().st_mtime_ns == trace.at("1s").stat("").meta.mtime_ns


def test_a_trace_can_be_exported(trace: Trace, tmp_path: Path) -> None:
    report = trace.export("1s", tmp_path / "out", paths=["status.log"])
    assert report.is_complete
    assert (tmp_path / "out" / "status.log").read_bytes() == b"INIT: System OK"


def test_several_roots_are_told_apart_by_their_labels(tmp_path: Path) -> None:
    from diffkeeper.store.format import RootFacts

    script = Script()
    roots = [RootFacts("one", "/one", 1, 3, 1), RootFacts("two", "/two", 1, 4, 1)]
    facts = begin_trace(tmp_path / "trace", script, roots=roots)
    write_ring(tmp_path / "trace", ())
    process(tmp_path / "trace")
    seal(tmp_path / "trace", facts)
    with Trace.open(tmp_path / "trace") as opened:
        assert [entry.path for entry in opened.at("end").entries()] == [b"one", b"two"]


# --- bytes that are not known


def test_a_file_larger_than_the_memory_is_refused_with_a_way_out(tmp_path: Path) -> None:
    script = Script()
    script.create("a")
    file = script.files["a"].inode()
    common = (2, script.t_ns + 1, 0, script.t_ns + 2, 100, 100, Flag(0), 0)
    script.observations.append(SizeChanged(*common, SizeOp.TRUNCATE, file, 0, 0, (1 << 63) - 1))
    with Trace.open(made(tmp_path / "trace", script)) as opened:
        view = opened.at("end")
        with pytest.raises(UsageError, match="do not fit into memory: read it in parts"):
            view.read("a")
        assert view.slice(view.stat("a"), 1 << 40, 3) == b"\0\0\0"


def test_bytes_that_nobody_read_are_never_zeros_unasked(tmp_path: Path) -> None:
    script = Script()
    script.create("a")
    script.write("a", b"known")
    seen = script.observations[-1]
    assert isinstance(seen, DataWritten)
    script.write("a", b"lost!")
    lost = script.observations.pop()
    assert isinstance(lost, DataWritten)
    common = (lost.sequence, lost.t_ns, lost.enter_ns, lost.exit_ns, lost.pid, lost.tid, lost.flags, 0)
    script.observations.append(DataWritten(*common, DataOp.WRITE, lost.inode, 5, 5, ()))
    with Trace.open(made(tmp_path / "trace", script)) as opened:
        view = opened.at("end")
        assert view.stat("a").content == Exactness.UNKNOWN
        with pytest.raises(UnknownContentError, match="5 bytes of a at 5"):
            view.read("a")
        assert view.read("a", allow_unknown=True) == b"known\0\0\0\0\0"
        assert list(view.chunks(view.stat("a"), allow_unknown=True)) == [(0, b"known")]
        info = opened.info()
        assert not info.is_complete
        assert any("bytes that nobody read" in words for words in info.defects)


def test_holes_are_left_out_of_chunks(tmp_path: Path) -> None:
    script = Script()
    script.create("a")
    script.write("a", b"end", 10_000)
    with Trace.open(made(tmp_path / "trace", script)) as opened:
        view = opened.at("end")
        assert list(view.chunks(view.stat("a"))) == [(10_000, b"end")]
        assert view.read("a") == bytes(10_000) + b"end"


# --- traces in other states


def test_information_about_a_complete_trace(trace: Trace) -> None:
    info = trace.info()
    assert (info.state, info.exit_code, info.is_complete, info.defects, info.damage) == ("sealed", 1, True, (), ())
    assert info.kinds["write"] == 4
    assert info.store_bytes > 0


def test_a_folder_without_a_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSuchTraceError):
        Trace.open(tmp_path)


def test_a_trace_that_is_being_recorded_is_not_read(tmp_path: Path) -> None:
    begin_trace(tmp_path / "trace", Script())
    with TraceLock(tmp_path / "trace"), pytest.raises(StillRecordingError):
        Trace.open(tmp_path / "trace")


def test_a_newer_format_is_not_read(tmp_path: Path) -> None:
    begin_trace(tmp_path / "trace", Script())
    write_session(tmp_path / "trace", make_facts(format=99))
    with pytest.raises(FormatTooNewError):
        Trace.open(tmp_path / "trace")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_broken_trace_is_processed_once_outside_of_it(tmp_path: Path) -> None:
    place = tmp_path / "trace"
    script = Script()
    begin_trace(place, script)
    script.at(1).save("a", b"1")
    write_ring(place, script.observations, end=False)
    before = contents(place)
    for _ in range(2):
        with Trace.open(place) as opened:
            assert opened.at("end").read("a") == b"1"
            info = opened.info()
            assert (info.state, info.is_complete) == ("broken", False)
            assert opened.damage == []
    assert contents(place) == before
    assert len([entry for entry in (tmp_path / "cache" / "diffkeeper").iterdir() if entry.is_dir()]) == 1


def test_two_readers_of_a_broken_trace_do_not_fight(tmp_path: Path) -> None:
    place = tmp_path / "trace"
    script = Script()
    begin_trace(place, script)
    script.at(1).save("a", b"1")
    write_ring(place, script.observations, end=False)

    def read(_: int) -> bytes:
        with Trace.open(place) as opened:
            return opened.at("end").read("a")

    with ThreadPoolExecutor(4) as readers:
        assert list(readers.map(read, range(4))) == [b"1"] * 4


def test_a_cache_that_cannot_be_written_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begin_trace(tmp_path / "trace", Script())
    with Trace.open(tmp_path / "trace") as opened:
        assert opened.info().events == 0
    assert stat.S_IMODE((tmp_path / f"diffkeeper-cache-{os.getuid()}").stat().st_mode) == 0o700


def test_reading_changes_nothing_of_a_trace(tmp_path: Path) -> None:
    place = made(tmp_path / "trace")
    before = contents(place)
    with Trace.open(place) as opened:
        list(opened.timeline())
        opened.export("end", tmp_path / "out")
    assert contents(place) == before


# --- damage


def test_a_truncated_journal_is_read_up_to_there(tmp_path: Path) -> None:
    place = tmp_path / "trace"
    script = Script()
    facts = begin_trace(place, script)
    for number in range(50):
        script.at(number / 10).save(f"f{number}", b"x" * 100)
    write_ring(place, script.observations, size=4096)
    seal(place, facts, processed=False)
    segment = segment_path(place, "r", 1)
    os.truncate(segment, segment.stat().st_size // 2)
    with Trace.open(place) as opened:
        assert opened.at("end").read("f1") == b"x" * 100
        assert opened.damage
        assert not opened.info().is_complete


def test_no_damaged_byte_of_a_store_goes_unnoticed(tmp_path: Path) -> None:
    place = made(tmp_path / "trace")
    truth = everything_of(place)
    (table,) = (place / "store").glob("*.sst")
    for at in range(0, table.stat().st_size, 701):
        copy = tmp_path / f"copy{at}"
        shutil.copytree(place, copy)
        with (copy / "store" / table.name).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 0xFF]))
        found = everything_of(copy)
        assert found is None or found == truth, f"byte {at} was damaged, and nobody said so"
        shutil.rmtree(copy)


def everything_of(place: Path) -> tuple[list[object], dict[bytes, bytes]] | None:
    """Return all that a trace tells, None if it says that it is damaged."""
    try:
        with Trace.open(place) as opened:
            events: list[object] = list(opened.timeline(ops="all"))
            view = opened.at("end")
            files = {entry.path: view.read(entry.path) for entry in view.entries() if entry.kind == "f"}
            opened.info()
            return None if opened.damage else (events, files)
    except (DamagedTraceError, UnknownContentError):
        return None


def test_missing_tables_are_named(tmp_path: Path) -> None:
    place = made(tmp_path / "trace")
    for table in (place / "store").glob("*.sst"):
        table.unlink()
    assert everything_of(place) is None


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    place = made(tmp_path / "trace")
    shutil.rmtree(place / "store")
    with pytest.raises(DamagedTraceError, match="store"):
        Trace.open(place)
