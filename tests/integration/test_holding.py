"""A command that changes more than can be taken is held for moments, and never for longer than who holds it lives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.freezer import Freezer, candidates
from diffkeeper.model.event import Kind
from integration.recorder import descendants, is_running, plain_environment, wait_until
from oracle.recorded import diffkeeper

pytestmark = [
    pytest.mark.ebpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="sudo passes no faults on to the helper"),
]

# Writes blocks that name their number, and leaves the longest time between two of them, in ns.
WRITER = """
import os, sys, time
f = os.open("f", os.O_CREAT | os.O_WRONLY)
block, longest, last, end = os.urandom(16376), 0, time.monotonic_ns(), time.monotonic() + float(sys.argv[1])
number = 0
while number < int(sys.argv[2]) or time.monotonic() < end:
    os.pwrite(f, number.to_bytes(8, "big") + block, number % 64 << 14)
    number += 1
    now = time.monotonic_ns()
    longest, last = max(longest, now - last), now
open(sys.argv[3], "w").write(str(longest))
sys.exit(7)
"""
SMALL = "ring=1048576"
BUSY = "ring=8388608,stall=300"  # the drain comes to it after the ring is three eighths full, and before it is full


@dataclass
class Run:
    """Own a recording that is held."""

    home: Path
    version: int
    recorder: subprocess.Popen[str] = field(init=False)

    @property
    def longest(self) -> Path:
        return self.home / "longest"

    def start(self, faults: str, *options: str, seconds: float = 0, blocks: int = 0) -> None:
        (self.home / "root").mkdir(exist_ok=True)
        (self.home / "writer.py").write_text(WRITER)
        self.longest.unlink(missing_ok=True)
        command = [sys.executable, self.home / "writer.py", str(seconds), str(blocks), str(self.longest)]
        arguments = ["record", "--force", f"--state-dir={self.home}/trace", *options, "--", *map(str, command)]
        self.recorder = subprocess.Popen(
            diffkeeper(*arguments),
            cwd=self.home / "root",
            env=plain_environment(DIFFKEEPER_FAULTS=f"{faults},freezer={self.version}"),
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, name: str) -> list[int]:
        """Return helper, guardian or writer, by what tells them apart."""
        found = []
        for pid, line in descendants(self.recorder.pid).items():
            with contextlib.suppress(OSError):
                comm = Path(f"/proc/{pid}/comm").read_text().strip()
                is_helper = "helper.py" in line and comm != "dk-guardian"
                kinds = {"guardian": comm == "dk-guardian", "helper": is_helper, "writer": "writer.py" in line}
                if kinds[name] and "diffkeeper record" not in line and "-m diffkeeper" not in line:
                    found.append(pid)
        return found

    def freezer(self) -> Freezer:
        """Wait until the writer has its cgroup, and return that."""
        wait_until(lambda: self.pids("writer") and any(map(_is_there, self._freezers())))
        return next(filter(_is_there, self._freezers()))

    def _freezers(self) -> list[Freezer]:
        names = [f"diffkeeper-{pid}" for pid in self.pids("writer")]
        return [one for name in names for one in candidates(os.getpid(), name) if one.version == self.version]

    def check_file(self) -> None:
        """The command was not harmed: its exit is its own, and its blocks are where they belong."""
        wait_until(self.longest.exists, 30)
        content = (self.home / "root" / "f").read_bytes()
        assert all(int.from_bytes(content[i << 14 : (i << 14) + 8], "big") % 64 == i for i in range(64))


def _is_there(freezer: Freezer) -> bool:
    return os.path.isdir(freezer.directory)


def _is_frozen(freezer: Freezer) -> bool:
    name = "cgroup.events" if freezer.version == 2 else "freezer.state"
    with contextlib.suppress(OSError):
        state = Path(freezer.directory, name).read_text()
        return "frozen 1" in state or "FROZEN" in state
    return False


@pytest.fixture(params=[2, 1])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    if not any(one.version == request.param for one in candidates(os.getpid(), "")):
        pytest.skip(f"no freezer of cgroup version {request.param} is mounted")
    run = Run(tmp_path, request.param)
    yield run
    if run.recorder.poll() is None:
        run.recorder.kill()


def test_a_command_that_is_too_fast_is_held_and_told_of(held: Run) -> None:
    held.start(BUSY, blocks=4000)
    freezer = held.freezer()
    _, said = held.recorder.communicate(timeout=60)
    assert held.recorder.returncode == 7, said
    held.check_file()
    assert not _is_there(freezer)
    with Trace.open(held.home / "trace") as trace:
        rows = [event for event in trace.timeline() if event.kind == Kind.HELD]
        counters = trace.info().counters
        assert trace.facts.engine_facts["freezer"] == held.version
        assert len(rows) == counters["held"] > 0
        assert counters["held_us"] == sum((event.t_ns - event.enter_ns) // 1000 for event in rows)
        assert not any(counters.get(f"lost_{name}") for name in ("ring", "queue", "table"))
        assert trace.at("end").read("f") == (held.home / "root" / "f").read_bytes()


def test_nobody_is_held_who_does_not_want_it(tmp_path: Path) -> None:
    held = Run(tmp_path, 2)
    held.start(SMALL, "--no-stall", blocks=2000)
    wait_until(lambda: held.pids("helper") or held.recorder.poll() is not None)
    assert held.pids("guardian") == []
    assert held.recorder.wait(60) == 7
    with Trace.open(tmp_path / "trace") as trace:
        assert (trace.info().counters.get("held", 0), trace.facts.engine_facts["freezer"]) == (0, 0)


def test_without_a_freezer_nobody_is_held(tmp_path: Path) -> None:
    held = Run(tmp_path, 0)
    held.start(SMALL, blocks=2000)
    assert held.recorder.wait(60) == 7
    with Trace.open(tmp_path / "trace") as trace:
        assert (trace.info().counters.get("held", 0), trace.facts.engine_facts["freezer"]) == (0, 0)


def test_a_helper_that_is_killed_while_it_holds_holds_nobody_for_100_ms(held: Run) -> None:
    longest = []
    for _ in range(3):  # the machine may be busy with others
        held.start(f"{BUSY},kill_held=1", blocks=4000)
        freezer = held.freezer()
        _, said = held.recorder.communicate(timeout=60)
        assert held.recorder.returncode == 7
        assert "helper process ended unexpectedly" in said
        held.check_file()
        wait_until(lambda at=freezer: not _is_there(at), 3)
        longest.append(int(held.longest.read_text()))
        if longest[-1] < 100_000_000:
            return
    pytest.fail(f"held for {longest} ns")


def test_recorder_and_helper_killed_while_the_command_is_held_let_it_go_and_leave_no_cgroup(held: Run) -> None:
    held.start("ring=65536,stall=60000", seconds=1.5)  # full at once, and drained never: held for a second
    freezer = held.freezer()
    wait_until(lambda: _is_frozen(freezer))
    for pid in [held.recorder.pid, *held.pids("helper")]:
        os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: not _is_frozen(freezer), 5)
    assert time.monotonic() - killed < 0.5  # 100 ms where the machine is idle: see the test above
    wait_until(lambda: not _is_there(freezer), 3)
    held.check_file()
    held.recorder.wait()
    with Trace.open(held.home / "trace") as trace:
        assert trace.info().state == "broken"


def test_a_drain_that_stands_still_holds_nobody_for_long(held: Run) -> None:
    held.start("ring=65536,stall=60000", seconds=3)  # held for one, and the next nobody is
    _, said = held.recorder.communicate(timeout=60)
    assert held.recorder.returncode == 7
    assert "changes were lost (ring)" in said
    assert int(held.longest.read_text()) < 2_500_000_000


def test_a_helper_that_is_stopped_holds_nobody_for_long(held: Run) -> None:
    held.start("ring=65536,stall=60000", seconds=1)
    freezer = held.freezer()
    wait_until(lambda: _is_frozen(freezer))
    (helper,) = held.pids("helper")
    os.kill(helper, signal.SIGSTOP)
    try:
        wait_until(held.longest.exists, 10)
    finally:
        os.kill(helper, signal.SIGCONT)
    assert held.recorder.wait(60) == 7


@pytest.mark.parametrize("way", ["timeout", "signal"])
def test_whoever_ends_a_held_command_need_not_wait(held: Run, way: str) -> None:
    held.start("ring=65536,stall=60000", *(["--timeout=1"] if way == "timeout" else []), seconds=60)
    freezer = held.freezer()
    wait_until(lambda: _is_frozen(freezer))
    if way == "signal":
        held.recorder.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert held.recorder.wait(30) == (124 if way == "timeout" else 128 + signal.SIGTERM)
    assert time.monotonic() - started < 6
    assert not _is_there(freezer)


def test_what_a_command_leaves_behind_is_where_it_would_be(tmp_path: Path) -> None:
    held = Run(tmp_path, 2)
    (tmp_path / "root").mkdir()
    script = "setsid sh -c 'cat /proc/self/cgroup > in; echo $$ > pid; sleep 20' < /dev/null > /dev/null 2>&1 &\n"
    script += "while [ ! -s pid ]; do sleep 0.01; done; cat /proc/self/cgroup > mine"
    arguments = ["record", f"--state-dir={tmp_path}/trace", "--", "sh", "-c", script]
    held.recorder = subprocess.Popen(diffkeeper(*arguments), cwd=tmp_path / "root", env=plain_environment())
    assert held.recorder.wait(30) == 0
    daemon = int((tmp_path / "root" / "pid").read_text())
    try:
        inside = (tmp_path / "root" / "in").read_text()
        assert inside == (tmp_path / "root" / "mine").read_text()
        assert is_running(daemon)
        assert Path(f"/proc/{daemon}/cgroup").read_text() == Path("/proc/self/cgroup").read_text()
        if any(one.version for one in candidates(os.getpid(), "")):
            assert "/diffkeeper-" in inside
        assert not any(map(_is_there, candidates(os.getpid(), f"diffkeeper-{daemon}")))
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_the_guardian_keeps_nothing_alive_and_hears_no_terminal(held: Run) -> None:
    held.start(SMALL, seconds=0.3)
    freezer = held.freezer()
    (guardian,) = held.pids("guardian")
    wait_until(lambda: len(os.listdir(f"/proc/{guardian}/fd")) == 1)
    assert os.readlink(f"/proc/{guardian}/cwd") == "/"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        os.kill(guardian, number)
    assert held.recorder.wait(60) == 7
    wait_until(lambda: not is_running(guardian), 2)
    assert not _is_there(freezer)


def test_without_its_guardian_nobody_is_held_any_more(held: Run) -> None:
    held.start(SMALL, seconds=0.5)
    freezer = held.freezer()
    (guardian,) = held.pids("guardian")
    os.kill(guardian, signal.SIGKILL)
    assert held.recorder.wait(60) == 7
    held.check_file()
    assert not _is_there(freezer)
