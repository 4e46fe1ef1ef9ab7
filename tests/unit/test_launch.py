from __future__ import annotations

import os
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from diffkeeper.errors import CommandNotExecutableError, CommandNotFoundError
from diffkeeper.forwarding import HandlingForwarder
from diffkeeper.launch import (
    check_command,
    environment_at_start,
    find_program,
    hold_command,
    ignored_signals,
    parse_environment,
)

ENVIRONMENT = dict(os.environb)


def _run(*argv: str, environment: dict[bytes, bytes] = ENVIRONMENT) -> int:
    held = hold_command([os.fsencode(argument) for argument in argv], environment)
    held.release()
    return os.waitstatus_to_exitcode(os.waitpid(held.pid, 0)[1])


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_a_released_command_ends_with_its_own_code(code: int) -> None:
    assert _run("sh", "-c", f"exit {code}") == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_released_command_dies_of_its_own_signal(number: signal.Signals) -> None:
    assert _run("sh", "-c", f"ulimit -c 0; kill -{number.value} $$") == -number


def test_the_command_does_not_start_before_it_is_released(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    held = hold_command([b"touch", os.fsencode(target)], ENVIRONMENT)
    assert not target.exists()
    held.release()
    os.waitpid(held.pid, 0)
    assert target.exists()


def test_an_abandoned_command_never_starts(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    hold_command([b"touch", os.fsencode(target)], ENVIRONMENT).abandon()
    assert not target.exists()


def test_a_held_command_can_be_killed_and_says_so() -> None:
    held = hold_command([b"true"], ENVIRONMENT)
    os.kill(held.pid, signal.SIGTERM)
    held.release()
    assert os.waitstatus_to_exitcode(os.waitpid(held.pid, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize("name", ["no-such-command-at-all", "./no-such-file", "/no/such/file", ""])
def test_a_missing_command_is_refused_before_and_at_exec(name: str) -> None:
    with pytest.raises(CommandNotFoundError):
        check_command(os.fsencode(name), ENVIRONMENT)
    with pytest.raises(CommandNotFoundError):
        _run(name)


def test_a_file_without_permission_is_refused_before_and_at_exec(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_text("echo")
    with pytest.raises(CommandNotExecutableError, match="chmod"):
        check_command(os.fsencode(path), ENVIRONMENT)
    with pytest.raises(CommandNotExecutableError):
        _run(str(path))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandNotExecutableError):
        check_command(os.fsencode(tmp_path), ENVIRONMENT)


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandNotFoundError, match="interpreter"):
        _run(_script(tmp_path / "script", "#!/no/such/interpreter\n"))


def test_a_script_without_a_first_line_runs_by_the_shell(tmp_path: Path) -> None:
    assert _run(_script(tmp_path / "script", "exit $1\n"), "42") == 42


def test_path_is_that_of_the_command_and_not_that_of_the_recorder(tmp_path: Path) -> None:
    _script(tmp_path / "only-here", "#!/bin/sh\nexit 9\n")
    environment = {b"PATH": os.fsencode(tmp_path)}
    check_command(b"only-here", environment)
    assert _run("only-here", environment=environment) == 9
    with pytest.raises(CommandNotFoundError):
        check_command(b"only-here", ENVIRONMENT)


def test_an_unexecutable_file_does_not_hide_a_later_one_in_path(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "tool").write_text("")
    _script(tmp_path / "second" / "tool", "#!/bin/sh\nexit 5\n")
    environment = {b"PATH": b"%b:%b" % (os.fsencode(tmp_path / "first"), os.fsencode(tmp_path / "second"))}
    check_command(b"tool", environment)
    assert _run("tool", environment=environment) == 5


def test_a_signal_that_was_ignored_is_ignored_in_the_command() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP in ignored_signals()
        assert _run("sh", "-c", "kill -HUP $$; exit 3") == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_python_ignores_is_not_ignored_in_the_command() -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    assert _run("sh", "-c", "kill -PIPE $$; exit 3") == -signal.SIGPIPE


def test_caught_signals_are_back_to_the_default_while_the_command_is_held() -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    try:
        assert _run("sh", "-c", "kill -USR1 $$; exit 3") == -signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_no_descriptor_of_the_recorder_reaches_the_command(tmp_path: Path) -> None:
    listing = tmp_path / "fds"
    with (tmp_path / "open").open("w"):
        _run("sh", "-c", f"ls /proc/self/fd > {listing}")
        inherited = {int(name) for name in os.listdir("/proc/self/fd") if _is_inherited(name)}
    assert set(map(int, listing.read_text().split())) <= inherited | {0, 1, 2, 3}


def _is_inherited(name: str) -> bool:
    try:
        return os.get_inheritable(int(name))
    except OSError:
        return False


def test_of_a_variable_that_stands_twice_the_first_counts() -> None:
    assert parse_environment(b"A=1\0B=\0A=2\0broken\0=odd\0") == {b"A": b"1", b"B": b""}


def test_the_environment_at_start_is_not_the_interpreters() -> None:
    code = "import os; from diffkeeper.launch import environment_at_start as e; print(b'LC_CTYPE' in e(), b'DK' in e())"
    source = os.path.join(os.path.dirname(__file__), "..", "..", "src")
    held = hold_command(
        [
            os.fsencode(sys.executable),
            b"-c",
            f"import sys; sys.path.insert(0, {source!r})\n{code}\n".encode()
            + b"assert b'LC_CTYPE' not in e() and e()[b'DK'] == b'1'",
        ],
        {b"LANG": b"C", b"DK": b"1", b"PATH": ENVIRONMENT[b"PATH"]},
    )
    held.release()
    assert os.waitpid(held.pid, 0)[1] == 0
    assert environment_at_start()


def test_where_no_thread_can_wait_for_signals_handlers_pass_them_on() -> None:
    held = hold_command([b"sh", b"-c", b"trap 'exit 5' TERM; while :; do sleep 0.01; done"], ENVIRONMENT)
    with HandlingForwarder(held.pid, frozenset()):
        held.release()
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(held.pid, 0)[1]) == 5
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_program_is_found_where_there_is_no_exec(tmp_path: Path) -> None:
    program = _script(tmp_path / "tool", "#!/bin/sh\n")
    assert find_program("tool", {"Path": str(tmp_path)}) == program
    with pytest.raises(CommandNotFoundError):
        find_program("no-such-tool", {"PATH": str(tmp_path)})
