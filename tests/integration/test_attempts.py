"""``record --repeat`` and ``--until-fail``: which attempts are kept, what is said, and how it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from diffkeeper.store.attempts import chosen_attempt
from diffkeeper.store.format import read_session, trace_state
from integration.recorder import descendants, plain_environment, run, wait_until
from integration.ways import CannotRunError, Terminal, ways
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

COUNT = "n=$(cat n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > n; "
FAILS_AT_3 = COUNT + "test $n != 3"
FAILS_AT_2_AND_4 = COUNT + "test $n != 2 && test $n != 4 || exit $((n + 3))"
FAILS_AT_1 = COUNT + "test $n != 1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def _kept(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder / "diffkeeper-trace") if name.startswith("attempt-"))


def _record(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return run("record", *options, "--", "sh", "-c", script, cwd=folder)


def test_the_attempt_that_failed_and_the_one_before_are_kept_and_counted(folder: Path) -> None:
    result = _record(folder, FAILS_AT_3, "--until-fail")
    assert result.returncode == 1, result.stderr
    assert _kept(folder) == ["attempt-2", "attempt-3"]
    assert (
        "diffkeeper: 1 of 3 attempts failed; kept in diffkeeper-trace: "
        "attempt 3, which failed, and attempt 2, which passed" in result.stderr
    )
    for name, code in (("attempt-2", 0), ("attempt-3", 1)):
        facts = read_session(folder / "diffkeeper-trace" / name)
        assert (facts.exit_code, facts.state, facts.processed, facts.complete) == (code, "sealed", True, True)
        assert not (folder / "diffkeeper-trace" / name / "journal").exists()


def test_the_directory_of_attempts_reads_as_the_one_that_failed(folder: Path) -> None:
    _record(folder, FAILS_AT_3, "--until-fail")
    first = run("timeline", cwd=folder)
    assert "exit 1" in first.stdout.splitlines()[0]
    assert "exit 0" in run("timeline", "diffkeeper-trace/attempt-2", cwd=folder).stdout.splitlines()[0]
    assert run("export", "--time=@1^", "--out=before", cwd=folder).returncode == 0
    assert (folder / "before" / "n").read_text() == "2\n"


def test_an_attempt_does_not_record_the_traces_of_others(folder: Path) -> None:
    _record(folder, FAILS_AT_3, "--until-fail")
    events = list(map(json.loads, run("timeline", "--all", "--json", cwd=folder).stdout.splitlines()))[1:]
    assert {event.get("path") for event in events if event.get("path")} == {"n"}
    assert read_session(folder / "diffkeeper-trace" / "attempt-3").counters["baseline_entries"] == 2


def test_all_attempts_are_made_without_until_fail_and_the_first_failure_stays(folder: Path) -> None:
    result = _record(folder, FAILS_AT_2_AND_4, "--repeat", "5")
    assert result.returncode == 5, result.stderr
    assert "2 of 5 attempts failed" in result.stderr
    assert _kept(folder) == ["attempt-1", "attempt-2"]


def test_the_nearest_that_passed_may_come_after(folder: Path) -> None:
    result = _record(folder, FAILS_AT_1, "--repeat", "4")
    assert (result.returncode, _kept(folder)) == (1, ["attempt-1", "attempt-2"])
    assert read_session(folder / "diffkeeper-trace" / "attempt-2").verification == "done"


def test_nothing_is_left_where_none_failed(folder: Path) -> None:
    result = _record(folder, "true", "--repeat", "3")
    assert result.returncode == 0
    assert "0 of 3 attempts failed; no trace is kept" in result.stderr
    assert os.listdir(folder) == []


def test_keep_always_keeps_all(folder: Path) -> None:
    result = _record(folder, FAILS_AT_3, "--repeat", "3", "--keep", "always")
    assert (result.returncode, _kept(folder)) == (1, ["attempt-1", "attempt-2", "attempt-3"])
    assert chosen_attempt(folder / "diffkeeper-trace").name == "attempt-3"


def test_keep_never_counts_only(folder: Path) -> None:
    result = _record(folder, FAILS_AT_3, "--until-fail", "--keep", "never")
    assert result.returncode == 1
    assert "1 of 3 attempts failed; no trace is kept" in result.stderr
    assert not (folder / "diffkeeper-trace").exists()


def test_until_a_signal_passes_over_other_failures(folder: Path) -> None:
    script = COUNT + "test $n = 2 && exit 4; test $n = 4 && kill -SEGV $$; exit 0"
    result = _record(folder, script, "--until-fail", "--keep", "on-signal")
    assert (result.returncode, _kept(folder)) == (128 + signal.SIGSEGV, ["attempt-3", "attempt-4"])
    assert "2 of 4 attempts failed" in result.stderr


def test_json_has_an_object_for_each_attempt_and_one_for_all(folder: Path) -> None:
    result = _record(folder, FAILS_AT_3, "--until-fail", "--json", "--json-file", "../said")
    *attempts, whole = map(json.loads, result.stderr.splitlines())
    assert [(one["type"], one["attempt"], one["exit_code"], one["kept"]) for one in attempts] == [
        ("recording", 1, 0, True), ("recording", 2, 0, True), ("recording", 3, 1, True),
    ]  # fmt: skip
    assert (whole["type"], whole["attempts"], whole["failed"], whole["exit_code"]) == ("attempts", 3, 1, 1)
    assert whole["failing"] == str(folder / "diffkeeper-trace" / "attempt-3")
    assert whole["passing"] == str(folder / "diffkeeper-trace" / "attempt-2")
    assert (folder.parent / "said").read_text() == result.stderr


def test_attempts_need_a_place_of_their_own_and_replace_nothing_unless_they_keep_something(folder: Path) -> None:
    _record(folder, "exit 9")
    refused = _record(folder, "true", "--repeat", "2")
    assert (refused.returncode, "--force" in refused.stderr) == (125, True)
    assert _record(folder, "true", "--repeat", "2", "--force").returncode == 0
    assert read_session(folder / "diffkeeper-trace").exit_code == 9
    assert _record(folder, "exit 8", "--until-fail", "--force").returncode == 8
    assert sorted(os.listdir(folder / "diffkeeper-trace")) == ["attempt-1", "attempts.json"]
    assert _record(folder, "exit 7", "--force").returncode == 7  # and one recording replaces attempts
    assert read_session(folder / "diffkeeper-trace").exit_code == 7
    assert _kept(folder) == []


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("./n", 126)])
def test_a_command_that_cannot_be_started_is_tried_once(folder: Path, command: str, code: int) -> None:
    (folder / "n").write_text("")
    result = run("record", "--until-fail", "--", command, cwd=folder)
    assert result.returncode == code, result.stderr
    assert result.stderr.count("diffkeeper: ") <= 2
    assert os.listdir(folder) == ["n"]


def test_strict_wants_what_is_kept_to_be_complete(folder: Path) -> None:
    options = ("--repeat", "2", "--keep", "always", "--strict")
    assert _record(folder, "true", *options).returncode == 0
    assert _record(folder, "true", *options, "--force", "--no-verify").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_attempt_and_all_further_ones(folder: Path, number: signal.Signals) -> None:
    script = COUNT + "test $n = 1 || { touch begun; exec sleep 30; }"
    command = diffkeeper("record", "--until-fail", "--", "sh", "-c", script)
    process = subprocess.Popen(command, cwd=folder, env=plain_environment(), stderr=subprocess.PIPE, text=True)
    wait_until((folder / "begun").exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number, said
    assert _kept(folder) == ["attempt-1", "attempt-2"]
    assert read_session(folder / "diffkeeper-trace" / "attempt-2").wait_status == number
    assert descendants(process.pid) == {}


def test_ctrl_c_at_a_terminal_keeps_the_attempt_that_hung(folder: Path) -> None:
    with ways() as make:
        try:
            way = make("root")
        except CannotRunError as reason:
            pytest.skip(str(reason))
        script = COUNT + "test $n = 1 || { echo hangs; exec sleep 30; }"
        terminal = Terminal(way, [way.prefix[0], "record", "--until-fail", "--", "sh", "-c", script])
        terminal.read_until(b"hangs")
        terminal.type(b"\x03")
        assert terminal.wait() == 130
        said = terminal.rest()
        assert b"0 of 1 attempt failed; kept in diffkeeper-trace: attempt 2, which was interrupted, and" in said
        assert trace_state(chosen_attempt(way.home / "diffkeeper-trace")) == "sealed"


def test_under_sudo_each_attempt_is_the_users_and_so_is_what_is_kept(tmp_path: Path) -> None:
    with ways() as make:
        try:
            way = make("sudo")
        except CannotRunError as reason:
            pytest.skip(str(reason))
        script = f"id -u >> ids; {FAILS_AT_3}"
        result = way.run(
            [*way.prefix, "record", "--until-fail", "--", "sh", "-c", script], env={"PATH": "/usr/bin:/bin"}
        )
        assert result.returncode == 1, result.stderr
        assert b"1 of 3 attempts failed" in result.stderr
        assert (way.home / "ids").read_text() == f"{way.identity['user']}\n" * 3
        place = way.home / "diffkeeper-trace"
        assert {path.lstat().st_uid for path in (place, *place.rglob("*"))} == {way.identity["user"]}


def test_a_killed_recorder_ends_the_series_and_leaves_its_trace(folder: Path) -> None:
    script = COUNT + "test $n != 2 || { touch begun; exec sleep 3; }"
    command = diffkeeper("record", "--until-fail", "--best-effort", "--", "sh", "-c", script)
    process = subprocess.Popen(command, cwd=folder, env=plain_environment(), stderr=subprocess.PIPE, text=True)
    wait_until((folder / "begun").exists)
    (recorder,) = [pid for pid, line in descendants(process.pid).items() if "--until-fail" in line]
    os.kill(recorder, signal.SIGKILL)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, (folder / "n").read_text()) == (125, "2\n"), said
    assert "the recorder of an attempt was killed" in said
    assert trace_state(folder / "diffkeeper-trace") == "broken"
