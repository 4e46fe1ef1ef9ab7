from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from diffkeeper import recording, recording_journal, recording_session
from diffkeeper.engines.protocol import EngineFacts, EngineRequest, Progress
from diffkeeper.engines.scripted import ScriptedEngine
from diffkeeper.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    DiffkeeperError,
    EngineUnavailableError,
    RecordError,
    StateDirectoryError,
    UsageError,
)
from diffkeeper.store.format import TraceLock, read_session, trace_state
from diffkeeper.supervise import Supervision
from diffkeeper.watch_roots import close_roots, open_roots


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, as working directory."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def _record(*argv: str, **settings: Any) -> recording.Outcome:
    return recording.record(argv, **{"engine": ScriptedEngine(), **settings})


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_outcome_holds_the_exit_code_and_the_trace_is_sealed(folder: Path) -> None:
    outcome = _record("sh", "-c", "exit 7")
    assert (outcome.exit_code, outcome.wait_status, outcome.timed_out) == (7, 7 << 8, False)
    assert trace_state(outcome.trace_path) == "sealed"
    facts = read_session(outcome.trace_path)
    assert (facts.exit_code, facts.argv, facts.cwd) == (7, ["sh", "-c", "exit 7"], str(folder))
    assert facts.end_monotonic_ns is not None
    assert 0 < facts.start_monotonic_ns < facts.end_monotonic_ns
    assert facts.processed
    assert facts.complete


def test_a_signal_is_told_as_the_shell_tells_it(folder: Path) -> None:
    outcome = _record("sh", "-c", "kill -TERM $$")
    assert (outcome.exit_code, outcome.wait_status) == (143, signal.SIGTERM)


def test_the_trace_is_for_its_owner_only(folder: Path) -> None:
    (folder / "state").mkdir(mode=0o755)
    outcome = _record("true", state_dir="state")
    assert stat.S_IMODE(outcome.trace_path.stat().st_mode) == 0o700


def test_missing_folders_above_the_state_directory_are_made(folder: Path) -> None:
    assert _record("true", state_dir="a/b/c").trace_path == Path("a/b/c")
    assert (folder / "a/b/c/session.json").exists()


BAD_INPUT: list[tuple[Sequence[str], dict[str, Any], type[DiffkeeperError], str]] = [
    ([], {}, RecordError, "no command"),
    (["true"], {"watch": ["missing"]}, RecordError, "no such directory"),
    (["true"], {"watch": ["file"]}, RecordError, "not a directory"),
    (["true"], {"watch": []}, RecordError, "between 1 and"),
    (["true"], {"state_dir": "full"}, StateDirectoryError, "not empty and not a trace"),
    (["true"], {"state_dir": "full", "force": True}, StateDirectoryError, "not empty and not a trace"),
    (["true"], {"state_dir": "file"}, StateDirectoryError, "not a directory"),
    (["true"], {"state_dir": "file/below"}, StateDirectoryError, "not a directory"),
    (["true"], {"state_dir": "."}, StateDirectoryError, "not empty"),
    (["true"], {"state_dir": "empty", "watch": ["empty"]}, RecordError, "state directory"),
    (["true"], {"state_dir": ".", "watch": ["full"]}, StateDirectoryError, "not empty"),
    (["true"], {"baseline": "nonsense"}, RecordError, "full, index"),
    (["true"], {"engine": "nonsense"}, EngineUnavailableError, "no such engine"),
    (["true"], {"exclude": ["!"]}, UsageError, "pattern"),
    (["no-such-command"], {}, CommandNotFoundError, "PATH"),
    (["./file"], {}, CommandNotExecutableError, "chmod"),
]


@pytest.mark.parametrize(("argv", "settings", "error", "words"), BAD_INPUT)
def test_bad_input_is_named_in_one_line_and_nothing_is_touched(
    folder: Path, argv: Sequence[str], settings: dict[str, Any], error: type[DiffkeeperError], words: str
) -> None:
    (folder / "file").write_text("text")
    (folder / "full").mkdir()
    (folder / "full" / "notes").write_text("mine")
    (folder / "empty").mkdir()
    before = _files(folder)
    with pytest.raises(error, match=words) as refusal:
        _record(*argv, **settings)
    assert "\n" not in str(refusal.value)
    assert _files(folder) == before
    assert sorted(os.listdir(folder)) == ["empty", "file", "full"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_place_for_the_state_directory_is_refused(folder: Path) -> None:
    folder.chmod(0o555)
    with pytest.raises(StateDirectoryError, match="not writable"):
        _record("true")


def test_a_trace_is_replaced_only_by_force(folder: Path) -> None:
    first = _record("true")
    before = _files(folder)
    with pytest.raises(StateDirectoryError, match="--force"):
        _record("true")
    assert _files(folder) == before
    assert _record("false", force=True).facts.trace_id != first.facts.trace_id
    assert read_session("diffkeeper-trace").exit_code == 1
    assert ".replaced" not in os.listdir("diffkeeper-trace")


def test_a_command_that_cannot_start_leaves_the_replaced_trace_as_it_was(folder: Path) -> None:
    _record("true")
    script = folder / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    before = _files(folder)
    with pytest.raises(CommandNotFoundError):
        _record("./script", force=True)
    assert _files(folder) == before


def test_a_command_that_cannot_start_leaves_nothing(folder: Path) -> None:
    script = folder / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(CommandNotFoundError):
        _record("./script", state_dir="new/state")
    assert os.listdir(folder) == ["script"]


def test_a_trace_that_is_being_recorded_is_not_replaced(folder: Path) -> None:
    _record("true")
    with TraceLock("diffkeeper-trace"), pytest.raises(StateDirectoryError, match="recorded"):
        _record("true", force=True)


def test_foreign_files_in_a_trace_survive_force(folder: Path) -> None:
    _record("true")
    (folder / "diffkeeper-trace" / "notes").write_text("mine")
    _record("true", force=True)
    assert (folder / "diffkeeper-trace" / "notes").read_text() == "mine"


def test_a_timeout_ends_the_command_and_its_children(folder: Path) -> None:
    started = time.monotonic()
    outcome = _record("sh", "-c", "sleep 30 & echo $! > child; wait; exit 0", timeout=0.3)
    assert time.monotonic() - started < 5
    assert (outcome.exit_code, outcome.timed_out) == (124, True)
    child = int((folder / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text()


def test_a_command_that_survives_the_timeout_is_killed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffkeeper.supervise._GRACE_S", 0.2)
    process = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"])
    time.sleep(0.2)
    ending = Supervision(process.pid, 0.1, lambda: None).wait()
    assert ending.timed_out
    assert os.WTERMSIG(ending.wait_status) == signal.SIGKILL
    process.returncode = 0


class _Dying(ScriptedEngine):
    """An engine whose helper dies as soon as the command runs."""

    def __init__(self) -> None:
        super().__init__()
        self._reading, self._writing = os.pipe()

    def fileno(self) -> int:
        return self._reading

    def adopt(self, pid: int) -> None:
        os.write(self._writing, b"!")

    def progress(self) -> Progress:
        raise RecordError("the helper ended unexpectedly")

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        raise RecordError("the helper ended unexpectedly")


def test_when_the_engine_dies_the_command_goes_on_and_the_trace_says_so(folder: Path) -> None:
    outcome = _record("sh", "-c", "sleep 0.2; echo survived > survived; exit 3", engine=_Dying())
    assert outcome.exit_code == 3
    assert (folder / "survived").exists()
    assert not outcome.is_complete
    assert any("ended unexpectedly" in failure for failure in outcome.failures)
    assert read_session("diffkeeper-trace").engine_facts["failures"] == list(outcome.failures)


class _Losing(ScriptedEngine):
    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        return Progress(lost={"ring": 3, "queue": 0})


def test_what_was_lost_is_counted_and_the_trace_is_not_complete(folder: Path) -> None:
    outcome = _record("true", engine=_Losing())
    assert not outcome.is_complete
    assert outcome.facts.counters["lost_ring"] == 3


class _Refusing(ScriptedEngine):
    def wait_until_started(self) -> EngineFacts:
        raise EngineUnavailableError("the kernel refused")


def test_an_engine_that_refuses_at_its_start_leaves_nothing(folder: Path) -> None:
    with pytest.raises(EngineUnavailableError):
        _record("touch", "touched", engine=_Refusing())
    assert os.listdir(folder) == []


@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyboardInterrupt()])
def test_processing_that_fails_costs_neither_the_journal_nor_the_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(recording_journal.RingJournal, "process", fail)
    said: list[str] = []
    outcome = _record("sh", "-c", "exit 5", announce=said.append)
    assert outcome.exit_code == 5
    assert not outcome.facts.processed
    assert list((outcome.trace_path / "journal").glob("r*.seg"))
    assert any("first reader" in line for line in said)


class _Filling(ScriptedEngine):
    """An engine that says that every segment is full as soon as it gets it."""

    def __init__(self) -> None:
        super().__init__()
        self._reading, self._writing = os.pipe()
        self.given: list[int] = []
        self._news: list[int] = []

    def begin(self, request: EngineRequest) -> None:
        super().begin(request)
        self._news = [number for number, _ in request.segments]
        self.given = list(self._news)

    def adopt(self, pid: int) -> None:
        os.write(self._writing, b"!")

    def add_segments(self, segments: Sequence[tuple[int, int]]) -> None:
        super().add_segments(segments)
        self.given += [number for number, _ in segments]

    def fileno(self) -> int:
        return self._reading

    def progress(self) -> Progress:
        os.read(self._reading, 1)
        filled, self._news = self._news, []
        return Progress(filled=tuple(filled))

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        return Progress()


def test_segments_that_were_filled_are_made_up_for(folder: Path) -> None:
    engine = _Filling()
    _record("sleep", "0.2", engine=engine)
    first, ahead = recording_journal._AHEAD_AT_FIRST, recording_journal._AHEAD
    assert sorted(set(engine.given)) == list(range(1, first + ahead + 1))


def test_roots_are_labelled_by_their_last_component(folder: Path) -> None:
    for name in ("a/src", "b/src", "b/src/inner", "c"):
        (folder / name).mkdir(parents=True)
    roots = open_roots(["a/src", "b/src", "b/src/inner", "c", "c"])
    assert [root.label for root in roots] == [b"src", b"src-2", b"c"]
    close_roots(roots)


def test_a_single_root_has_no_label(folder: Path) -> None:
    roots = open_roots(["."])
    assert [(root.label, root.path) for root in roots] == [(b"", os.fsencode(folder))]
    close_roots(roots)


def test_ctrl_c_without_forwarding_is_raised_after_the_trace_is_sealed(folder: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(Path(recording.__file__).parents[1])!r})
from diffkeeper import recording
from diffkeeper.engines.scripted import ScriptedEngine
try:
    recording.record(["sh", "-c", "sleep 0.2; kill -INT $PPID; exit 3"], engine=ScriptedEngine())
except KeyboardInterrupt:
    print("interrupted")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, cwd=folder)
    assert result.stdout == b"interrupted\n", result.stderr
    assert json.loads((folder / "diffkeeper-trace" / "session.json").read_text())["exit_code"] == 3


def test_the_first_line_says_what_is_recorded(folder: Path) -> None:
    (folder / "src").mkdir()
    said: list[str] = []
    _record("true", watch=["src"], announce=said.append)
    assert said == ["recording src with scripted into diffkeeper-trace"]
    assert recording_session.FAILURES == "failures"
