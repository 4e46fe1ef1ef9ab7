"""The recorded command cannot tell that it is recorded: one probe, run plainly and recorded, in three ways."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.ways import CannotRunError, Terminal, Way, ways

pytestmark = pytest.mark.ebpf

PROBE = Path(__file__).with_name("probe.sh")
SUDO_CLOSES_DESCRIPTORS = "sudo closes all descriptors from 3 on before diffkeeper runs"
ENVIRONMENT = {
    b"PATH": b"/usr/bin:/bin:/opt/odd one",
    b"HOME": b"/home/of/mine",
    b"LANG": b"C",  # Python would set LC_CTYPE
    b"EMPTY": b"",
    b"ODD": b"\xff\xfe=\n",
}

SUDO_COMPLAINS = b"sudo: unable to resolve host "  # where /etc/hosts lacks the machine's name: sudo's own words


@pytest.fixture(scope="module")
def make_way() -> Iterator[Callable[[str], Way]]:
    with ways() as make:
        yield make


@pytest.fixture(params=["root", "user", "sudo"])
def way(request: pytest.FixtureRequest, make_way: Callable[[str], Way]) -> Way:
    try:
        return make_way(request.param)
    except CannotRunError as reason:
        if os.environ.get("DIFFKEEPER_REQUIRE_EBPF") == "1":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture
def probe(way: Way) -> Path:
    path = way.home / "probe.sh"
    path.write_bytes(PROBE.read_bytes())
    path.chmod(0o755)
    return path


def _set_up_oddly() -> None:
    """Change what a process can change of itself, so that each shows if it is lost."""
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 16 << 20))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def _reports(way: Way, probe: Path, **settings: Any) -> tuple[list[str], list[str]]:
    """Return what the probe saw plainly and recorded; both must have written the same bytes and ended alike."""
    report, folder = way.home / "report", way.home / "sub folder"
    folder.mkdir(exist_ok=True)
    if way.identity:
        os.chown(folder, way.identity["user"], way.identity["group"])
    common = {"env": ENVIRONMENT, "cwd": folder, "input": b"in\0\xff", "start_new_session": True, **settings}
    plain = way.run([probe, report], **common)
    seen_plainly = report.read_bytes()
    report.unlink()
    recorded = way.run(way.recorded([probe, report], f"--watch={way.home}"), **common)
    stderr = b"".join(line for line in recorded.stderr.splitlines(keepends=True) if not line.startswith(SUDO_COMPLAINS))
    assert (recorded.returncode, recorded.stdout, stderr) == (plain.returncode, plain.stdout, plain.stderr)
    return _lines(seen_plainly), _lines(report.read_bytes())


def _lines(report: bytes) -> list[str]:
    """Return a report with numbers that differ from run to run made equal."""
    text = re.sub(r"(pipe|socket):\[\d+\]", r"\1", os.fsdecode(report))
    group = re.search(r"group (\d+) session (\d+)", text)
    assert group is not None
    text = text.replace(f"group {group[1]} session {group[2]}", f"group and session equal: {group[1] == group[2]}")
    return [line for line in text.splitlines() if not line.startswith("Max pending signals")]


def test_the_command_finds_everything_as_without_recorder(way: Way, probe: Path) -> None:
    plain, recorded = _reports(way, probe, preexec_fn=_set_up_oddly)
    assert recorded == plain


def test_inherited_descriptors_reach_the_command_and_no_others(way: Way, probe: Path) -> None:
    if way.name == "sudo":
        pytest.skip(SUDO_CLOSES_DESCRIPTORS)
    with (way.home / "inherited").open("w") as file:
        high = os.dup2(file.fileno(), 77)
        plain, recorded = _reports(way, probe, pass_fds=(file.fileno(), high))
        os.close(high)
    assert recorded == plain
    assert any(line.startswith("77 ") for line in recorded)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_descriptor_stays_closed(way: Way, closed: int) -> None:
    if way.name == "sudo":
        pytest.skip("sudo opens /dev/null for closed standard descriptors")
    script = f"for n in 0 1 2; do if [ -e /proc/$$/fd/$n ]; then touch {way.home}/open-$n; fi; done"
    command = ["sh", "-c", script]
    for argv in (command, way.recorded(command, f"--watch={way.home}")):
        way.run(argv, preexec_fn=lambda: os.close(closed))
        found = sorted(way.home.glob("open-*"))
        assert [path.name for path in found] == [f"open-{number}" for number in range(3) if number != closed]
        for path in found:
            path.unlink()


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_the_exit_code_is_the_commands(way: Way, code: int) -> None:
    assert way.run(way.recorded(["sh", "-c", f"exit {code}"])).returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal_is_told_as_the_shell_tells_it(way: Way, number: signal.Signals) -> None:
    command = ["sh", "-c", f"ulimit -c 0; kill -{number.value} $$"]
    assert way.run(command).returncode == -number
    assert way.run(way.recorded(command)).returncode == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_to_the_recorder_reaches_the_command(way: Way, number: signal.Signals) -> None:
    if way.name == "sudo":
        pytest.skip("sudo itself relays signals, and not those from its own process group")
    ready = way.home / "ready"
    ready.unlink(missing_ok=True)
    script = f"trap 'exit 9' {number.value}; touch {ready}; while :; do sleep 0.01; done"
    process = subprocess.Popen(way.recorded(["sh", "-c", script]), cwd=way.home, **way.identity)
    _await(ready.exists)
    process.send_signal(number)
    assert process.wait(timeout=10) == 9


@pytest.mark.parametrize("key", [b"\x03", b"\x1c"], ids=["ctrl-c", "ctrl-backslash"])
def test_keys_of_the_terminal_reach_the_command_once(way: Way, key: bytes) -> None:
    script = "trap 'echo got; n=1$n' INT QUIT; echo ready; sleep 0.5; sleep 0.5; sleep 0.2; echo n=$n; exit 4"
    for argv in (["sh", "-c", script], way.recorded(["sh", "-c", script])):
        terminal = Terminal(way, argv)
        terminal.read_until(b"ready")
        terminal.type(key)
        terminal.read_until(b"n=1\r\n")
        assert terminal.wait() == 4


def test_on_a_terminal_all_three_are_terminals(way: Way, probe: Path) -> None:
    report = way.home / "report"
    seen = []
    for argv in ([probe, report], way.recorded([probe, report], f"--watch={way.home}")):
        terminal = Terminal(way, argv)
        _await(report.exists)
        terminal.type(b"line\n\x04")
        terminal.read_until(b"err")
        assert terminal.wait() == 0
        seen.append([line for line in _lines(report.read_bytes()) if line.startswith("terminals:")])
        report.unlink()
    assert seen == [["terminals: 0 1 2"], ["terminals: 0 1 2"]]


def _await(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)
