"""How long the exit code waits for processing, and what is left to the first reader then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from diffkeeper import Trace, recording, recording_session
from diffkeeper.engines.scripted import ScriptedEngine
from diffkeeper.errors import RecordError
from diffkeeper.patience import OutOfTimeError, Patience
from diffkeeper.processing.background import Background
from diffkeeper.store.format import read_session
from diffkeeper.verification.result import LEFT, OUT_OF_TIME
from scripts import COMMAND, Script, begin_trace, seal, write_ring


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, as working directory, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def record(process: str) -> recording.Outcome:
    return recording.record(("true",), engine=ScriptedEngine(is_live=True), process=process)


def said_by(trace: Path) -> list[str]:
    said: list[str] = []
    with Trace.open(trace, announce=said.append) as opened:
        assert opened.damage == []
    return said


def test_without_a_deadline_patience_never_ends() -> None:
    Patience().check()
    assert Patience().left_s is None


def test_patience_ends_at_its_deadline() -> None:
    patience = Patience(time.monotonic() + 60)
    patience.check()
    assert 0 < (patience.left_s or 0) <= 60
    with pytest.raises(OutOfTimeError):
        Patience(time.monotonic()).check()


def test_what_is_left_for_later_is_processed_by_the_first_reader_who_says_so(folder: Path) -> None:
    outcome = record("later")
    assert (outcome.facts.processed, outcome.facts.complete, outcome.facts.verification) == (False, None, LEFT)
    assert ["was left" in line or "left" in line for line in said_by(outcome.trace_path)] == [True]
    assert said_by(outcome.trace_path) == []


def test_what_takes_too_long_is_left_to_the_first_reader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_session, "_LEAST_PATIENCE_S", -1.0)
    outcome = record("auto")
    assert (outcome.facts.processed, outcome.facts.verification) == (False, OUT_OF_TIME)
    assert not read_session(outcome.trace_path).processed
    assert len(said_by(outcome.trace_path)) == 1


def test_what_takes_no_time_is_processed_and_verified_at_once(folder: Path) -> None:
    outcome = record("now")
    assert (outcome.facts.processed, outcome.facts.verification) == (True, "done")
    assert said_by(outcome.trace_path) == []


def test_a_verification_that_takes_too_long_leaves_the_trace_processed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*arguments: object) -> None:
        raise OutOfTimeError

    monkeypatch.setattr("diffkeeper.verification.run.verify", late)
    outcome = record("auto")
    assert (outcome.facts.processed, outcome.facts.verification) == (True, OUT_OF_TIME)


def test_an_unknown_processing_is_refused(folder: Path) -> None:
    with pytest.raises(RecordError, match="choose one of auto, now, later"):
        record("never")


def test_the_exit_code_waits_for_a_tenth_of_a_long_run_and_a_second_of_a_short_one(folder: Path) -> None:
    session = recording_session.Session.__new__(recording_session.Session)
    for run_s, most_s in (0.1, 1.0), (5.0, 1.0), (60.0, 6.0):
        now_ns = time.monotonic_ns()
        session._settings = type("Settings", (), {"process": "auto"})()  # type: ignore[assignment]
        session._facts = type("Facts", (), {})()  # type: ignore[assignment]
        session._facts.start_monotonic_ns, session._facts.end_monotonic_ns = now_ns - int(run_s * 1e9), now_ns
        assert most_s * 0.8 < (session._patience().left_s or 0) < most_s


def test_a_worker_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    script, trace = Script(), tmp_path / "trace"
    facts = begin_trace(trace, script)
    script.starts(COMMAND, b"sh")
    write_ring(trace, script.observations)
    seal(trace, facts)
    with Background(trace) as worker, pytest.raises(OutOfTimeError):
        worker.finish(patience=Patience(time.monotonic()))
