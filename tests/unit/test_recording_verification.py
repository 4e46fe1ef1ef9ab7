"""What a recording does with its verification: facts, failures, RESYNC events, and what keeps it from happening."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from diffkeeper import Kind, Trace, recording
from diffkeeper.cli.record_report import strict_exit_code
from diffkeeper.cli.record_summary import lines
from diffkeeper.engines.scripted import ScriptedEngine
from diffkeeper.file_time import next_file_time_ns
from diffkeeper.processing.background import Background
from diffkeeper.recording_journal import RingJournal
from diffkeeper.store.format import read_session, write_session
from diffkeeper.verification.result import Verification
from scripts import COMMAND, Script, begin_trace, write_ring


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a file, as working directory."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "before").write_text("before")
    monkeypatch.chdir(path)
    return path


def _record(command: str, **settings: Any) -> recording.Outcome:
    """Record with an engine that sees nothing of what happens."""
    return recording.record(["sh", "-c", command], engine=ScriptedEngine(is_live=True), **settings)


def test_nothing_happened_and_nothing_differs(folder: Path) -> None:
    outcome = _record("true")
    assert (outcome.facts.verification, outcome.facts.counters["differ"]) == ("done", 0)
    assert outcome.facts.counters["verified_entries"] == 1
    assert outcome.is_complete
    assert any(", complete, verified 0 files." in line for line in lines(outcome, "x"))
    assert strict_exit_code(outcome, verify=True) == 0


def test_what_the_engine_did_not_see_is_found_read_back_and_said(folder: Path) -> None:
    outcome = _record("echo after > before; mkdir new; echo in > new/in; ln -s in new/link")
    assert outcome.facts.counters["differ"] == outcome.facts.counters["resynced"] == 5
    assert sorted(outcome.facts.differing) == [".", "before", "new", "new/in", "new/link"]
    assert not outcome.is_complete
    assert [failure for failure in outcome.failures if failure.startswith("5 differ: ")]
    assert any("not complete: 5 differ: " in line for line in lines(outcome, "x"))
    assert strict_exit_code(outcome, verify=True) == strict_exit_code(outcome, verify=False) == 125
    with Trace.open("diffkeeper-trace") as trace:
        info = trace.info()
        assert (info.verification, sorted(info.differing)) == ("done", sorted(outcome.facts.differing))
        assert not info.is_complete
        assert [event.kind for event in trace.timeline()] == [Kind.RESYNC] * 5
        assert trace.at("end").read("new/in") == b"in\n"
        assert trace.at("end").read("before") == b"after\n"
        assert trace.at("start").read("before") == b"before"
        assert trace.last_change() is None
        trace.export("end", folder.parent / "out")
        assert trace.damage == []
    assert os.readlink(folder.parent / "out" / "new" / "link") == "in"


def test_resyncs_do_not_move_the_end(folder: Path) -> None:
    outcome = _record("echo x > new")
    facts = outcome.facts
    with Trace.open("diffkeeper-trace") as trace:
        assert facts.end_monotonic_ns is not None
        assert trace.extent.end_ns == facts.end_monotonic_ns - facts.start_monotonic_ns


def test_verification_can_be_left_out(folder: Path) -> None:
    outcome = _record("echo x > new", verify=False)
    assert (outcome.facts.verification, outcome.is_complete) == ("off", True)
    assert "differ" not in outcome.facts.counters
    assert not any("verified" in line for line in lines(outcome, "x"))
    assert strict_exit_code(outcome, verify=False) == 0


def test_what_did_not_happen_on_disk_is_not_verified(folder: Path) -> None:
    outcome = recording.record(["sh", "-c", "echo x > new"], engine=ScriptedEngine())
    assert (outcome.facts.verification, outcome.is_complete) == ("off", True)


@pytest.mark.parametrize(
    ("error", "said"), [(KeyboardInterrupt(), "interrupted"), (RuntimeError("no luck"), "failed: no luck")]
)
def test_a_verification_that_breaks_off_leaves_the_trace_as_good_as_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("diffkeeper.verification.run.verify", fail)
    outcome = _record("exit 0")
    assert (outcome.exit_code, outcome.facts.verification, outcome.facts.processed) == (0, said, True)
    assert outcome.is_complete
    assert f"diffkeeper: not verified: {said}" in list(lines(outcome, "x"))
    assert strict_exit_code(outcome, verify=True) == 125
    with Trace.open("diffkeeper-trace") as trace:
        assert trace.info().verification == said
        assert trace.at("end").read("before") == b"before"


def test_an_interruption_in_its_midst_forgets_what_it_had_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffkeeper.processing.last_state.LastState.commit", interrupt)
    outcome = _record("echo x > new")
    assert outcome.facts.verification == "interrupted"
    with Trace.open("diffkeeper-trace") as trace:
        assert list(trace.timeline()) == []
        assert trace.damage == []


def test_without_processing_nothing_is_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(RingJournal, "process", fail)
    assert _record("true").facts.verification == "not yet"


def test_old_facts_say_nothing_of_verification(folder: Path) -> None:
    _record("true")
    facts = read_session("diffkeeper-trace")
    facts.verification, facts.differing, facts.stopped_realtime_ns = "", [], 0
    write_session("diffkeeper-trace", facts)
    with Trace.open("diffkeeper-trace") as trace:
        assert (trace.info().verification, trace.info().is_complete) == ("", True)


def test_the_worker_verifies_too(tmp_path: Path) -> None:
    script = Script()
    facts = begin_trace(tmp_path / "trace", script)
    root = tmp_path / "root"
    root.mkdir()
    (root / "b").write_text("live")
    status = root.stat()
    facts.roots[0].path, facts.roots[0].ino = str(root), 0
    facts.stopped_realtime_ns = next_file_time_ns()
    write_session(tmp_path / "trace", facts)
    script.starts(COMMAND, b"sh")
    script.at(1).save("a", b"content")
    script.exits(0)
    write_ring(tmp_path / "trace", script.observations)
    with Background(tmp_path / "trace") as worker:
        counted = worker.finish(verifies=True)
        result = Verification.from_json(worker.verification()["found"])
    assert counted["files"] == 1
    assert {"a", "b"} <= set(result.paths)
    assert root.stat().st_mtime_ns == status.st_mtime_ns


def test_file_times_after_a_tick_are_later_than_all_before(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    before = (tmp_path / "before").stat().st_ctime_ns
    started = time.monotonic()
    tick = next_file_time_ns()
    assert time.monotonic() - started < 0.1
    (tmp_path / "after").touch()
    assert before < tick <= (tmp_path / "after").stat().st_ctime_ns
