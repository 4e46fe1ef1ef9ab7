"""``sudo diffkeeper record``: the command runs as the user who typed it, and the trace is that user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper.store.format import read_session
from integration.ways import SYSTEM_PYTHON, CannotRunError, Terminal, Way, ways

pytestmark = pytest.mark.ebpf

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/home/of/mine", "MARK": "mine"}


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Way, Way]]:
    """Yield the ordinary user's ways: plain ``diffkeeper`` and ``sudo diffkeeper``."""
    with ways() as make:
        try:
            yield make("user"), make("sudo")
        except CannotRunError as reason:
            if os.environ.get("DIFFKEEPER_REQUIRE_EBPF") == "1":
                pytest.fail(str(reason))
            pytest.skip(str(reason))


def test_the_command_has_the_users_path_home_and_identity(both: tuple[Way, Way]) -> None:
    _, sudo = both
    command = ["sh", "-c", "echo $PATH $HOME $MARK $SUDO_USER; id -u; id -G"]
    plain = sudo.run(command, env=ENVIRONMENT)
    assert b"mine" in plain.stdout
    assert sudo.run(sudo.recorded(command), env=ENVIRONMENT).stdout == plain.stdout


def test_a_command_that_only_the_users_path_knows_is_found(both: tuple[Way, Way]) -> None:
    _, sudo = both
    tool = sudo.home / "tool-of-mine"
    tool.write_text("#!/bin/sh\nexit 8\n")
    tool.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{sudo.home}:/usr/bin:/bin"}
    assert sudo.run(sudo.recorded(["tool-of-mine"]), env=environment).returncode == 8


def test_the_trace_and_all_in_it_belong_to_the_user(both: tuple[Way, Way]) -> None:
    for way in both:
        result = way.run(way.recorded(["sh", "-c", "echo one > file"]), env=ENVIRONMENT)
        assert result.returncode == 0, result.stderr
        trace = way.home / "trace"
        owners = {path.lstat().st_uid for path in (trace, *trace.rglob("*"), way.home / "file")}
        assert owners == {way.identity["user"]}
        facts = read_session(trace)
        assert (facts.uid, facts.complete) == (way.identity["user"], True), facts
        assert facts.counters["changes"] >= 2


def test_sudo_asks_for_its_password_before_the_command_and_is_gone_then(both: tuple[Way, Way]) -> None:
    user, _ = both
    with user.asked_for_password("open sesame"):
        script = "tty; stty -g; ps -e -o args | grep -c '^sudo .*[h]elper.py'; exit 7"
        terminal = Terminal(user, user.recorded(["sh", "-c", script]))
        terminal.read_until(b"password for")
        terminal.type(b"open sesame\n")
        assert terminal.wait() == 7
        assert b"/dev/pts/" in terminal.rest()
        assert b"\r\n0\r\n" in terminal.output


def test_without_the_right_to_use_sudo_the_refusal_names_cause_and_remedies(both: tuple[Way, Way]) -> None:
    user, _ = both
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    home = Path(user.home) / "nobodys"
    home.mkdir(exist_ok=True)
    os.chown(home, 65534, 65534)
    user.home.chmod(0o755)
    result = user.run([user.prefix[0], "record", "--", "touch", "touched"], **{"cwd": home, **nobody})
    assert result.returncode == 125
    assert b"CAP_BPF" in result.stderr
    assert b"sudo diffkeeper record" in result.stderr
    assert os.listdir(home) == []


def test_a_virtual_environment_of_the_users_is_the_commands(both: tuple[Way, Way]) -> None:
    for way in both:
        place = way.home / "venv"
        way.run([SYSTEM_PYTHON, "-I", "-m", "venv", "--without-pip", place])
        environment = {**ENVIRONMENT, "PATH": f"{place}/bin:/usr/bin:/bin", "VIRTUAL_ENV": str(place)}
        command = ["python", "-c", "import os, sys; print(sys.prefix, sys.executable, os.environ['VIRTUAL_ENV'])"]
        plain = way.run(command, env=environment)
        assert plain.stdout.split() == [bytes(place), bytes(place / "bin" / "python"), bytes(place)], plain.stderr
        assert way.run(way.recorded(command), env=environment).stdout == plain.stdout
