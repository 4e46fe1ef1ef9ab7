"""When a trace is kept, and what is left of one that is not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from diffkeeper import recording, recording_journal
from diffkeeper.cli.record_report import as_object, strict_exit_code
from diffkeeper.cli.record_summary import lines
from diffkeeper.engines.scripted import ScriptedEngine
from diffkeeper.errors import RecordError, StateDirectoryError
from diffkeeper.finishing import finish
from diffkeeper.model.keeping import Fate, policy_of
from diffkeeper.store.format import read_session, trace_state
from diffkeeper.trace import Trace

PASSED, FAILED, KILLED, TIMED_OUT = (0, 0), (3, 3 << 8), (139, signal.SIGSEGV), (124, signal.SIGTERM)
BY_SHELL, MISSING, HIGH = (139, 139 << 8), (127, 127 << 8), (255, 255 << 8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, as working directory."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def _record(script: str, **settings: Any) -> recording.Outcome:
    return recording.record(["sh", "-c", script], engine=ScriptedEngine(), **settings)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("always", {PASSED, FAILED, KILLED, TIMED_OUT, BY_SHELL, MISSING, HIGH}),
        ("on-failure", {FAILED, KILLED, TIMED_OUT, BY_SHELL, MISSING, HIGH}),
        ("on-signal", {KILLED, TIMED_OUT, BY_SHELL}),
        ("never", set()),
    ],
)
def test_a_policy_keeps_what_it_says(policy: str, kept: set[tuple[int, int]]) -> None:
    endings = (PASSED, FAILED, KILLED, TIMED_OUT, BY_SHELL, MISSING, HIGH)
    assert {ending for ending in endings if policy_of(policy)(*ending) is Fate.KEEP} == kept


def test_another_policy_is_refused(folder: Path) -> None:
    with pytest.raises(RecordError, match="on-failure, on-signal"):
        _record("true", keep="sometimes")
    assert os.listdir(folder) == []


def test_a_trace_that_is_not_kept_is_not_processed_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_journal.RingJournal, "process", None)  # calling it would fail
    outcome = _record("echo here > file", keep="on-failure", state_dir="deep/er/trace")
    assert (outcome.is_kept, outcome.exit_code) == (False, 0)
    assert os.listdir(folder) == ["file"]
    assert list(lines(outcome, "deep/er/trace")) == ["diffkeeper: the trace is not kept. Command exited 0."]
    assert strict_exit_code(outcome, verify=True) == 0
    assert (as_object(outcome)["kept"], as_object(outcome)["complete"]) == (False, None)


@pytest.mark.parametrize(("keep", "segments"), [("always", 2), ("on-failure", 64), ("never", 64)])
def test_processing_beside_the_command_is_put_off_where_it_may_be_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, keep: str, segments: int
) -> None:
    seen = []
    stop = recording_journal.RingJournal.stop
    monkeypatch.setattr(
        recording_journal.RingJournal, "stop", lambda journal: (seen.append(journal.worker_after), stop(journal))[1]
    )
    _record("true", keep=keep)
    assert seen == [segments]


def test_a_trace_that_is_kept_is_like_any_other(folder: Path) -> None:
    outcome = _record("exit 3", keep="on-failure")
    assert (outcome.is_kept, outcome.exit_code, outcome.is_complete) == (True, 3, True)
    assert trace_state("diffkeeper-trace") == "sealed"
    assert read_session("diffkeeper-trace").processed


def test_what_the_command_put_beside_the_trace_stays(folder: Path) -> None:
    _record("echo mine > deep/report; echo mine > deep/trace/notes", keep="never", state_dir="deep/trace")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "deep", "deep/report", "deep/trace", "deep/trace/notes",
    ]  # fmt: skip


@pytest.mark.parametrize(("script", "owner"), [("exit 0", "exit 1"), ("exit 2", "exit 2")])
def test_a_trace_that_is_not_kept_replaces_nothing(folder: Path, script: str, owner: str) -> None:
    _record("exit 1")
    with pytest.raises(StateDirectoryError, match="--force"):
        _record(script, keep="on-failure")
    _record(script, keep="on-failure", force=True)
    assert read_session("diffkeeper-trace").argv[-1] == owner
    assert not (folder / "diffkeeper-trace" / ".replaced").exists()


def test_a_command_that_deletes_its_trace_is_no_trouble(folder: Path) -> None:
    outcome = _record("rm -r diffkeeper-trace; exit 0", keep="on-failure")
    assert (outcome.exit_code, outcome.is_kept) == (0, False)


def test_a_trace_that_was_put_off_is_finished_later(folder: Path) -> None:
    outcome = _record("true", keep=lambda code, status: Fate.DEFER)
    facts = read_session(outcome.trace_path)
    assert (outcome.is_kept, facts.state, facts.processed, facts.complete) == (True, "sealed", False, None)
    with Trace.open(outcome.trace_path) as trace:  # and can be read before
        assert trace.info().is_complete
    finish(outcome.trace_path)
    facts = read_session(outcome.trace_path)
    assert (facts.processed, facts.complete) == (True, True)
    assert not (outcome.trace_path / "journal").exists()
    with Trace.open(outcome.trace_path) as trace:
        assert trace.info().is_complete
    finish(outcome.trace_path)  # once is enough


def test_what_only_has_the_name_of_an_attempt_is_nobodys_to_replace(folder: Path) -> None:
    place = folder / "mine"
    for name in ("attempt-1", "store"):
        (place / name).mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StateDirectoryError, match="not empty and not a trace"):
            _record("true", state_dir="mine", force=True)
        (place / "attempts.json").write_text("{}")
    (place / "store").rmdir()
    _record("true", state_dir="mine", force=True)
    assert {"attempt-1", "session.json"} <= set(os.listdir(place))
