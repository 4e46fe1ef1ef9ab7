"""What is left when diffkeeper is killed, its disk is full or its trace is deleted: a command that was not harmed.

A killed recording must hold everything up to the last journaled batch, without a gap: the command appends numbered
lines, and notes outside of the root when each was written.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.store.format import trace_state
from integration.recorder import (
    descendants,
    fingerprint,
    is_guardian,
    is_running,
    plain_environment,
    run,
    small_disk,
    wait_until,
)
from integration.ways import CannotRunError, ways
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

APPENDER = Path(__file__).parent / "programs" / "appender.py"
CHURN = APPENDER.with_name("churn.py")
LINES = 2500
LINE_BYTES = 9
EXIT = 7
KILLS = int(os.environ.get("DIFFKEEPER_KILLS", "5"))  # make soak: 50
WHOM = ("record", "record", "helper", "both", "both")
SLACK_NS = 250_000_000  # what a kill of the helper may cost; the promise is a second


@dataclass
class Folders:
    """Own the watch root, the trace, and what the command tells outside of both."""

    home: Path

    def __post_init__(self) -> None:
        for path in (self.root, self.told):
            path.mkdir()

    @property
    def root(self) -> Path:
        return self.home / "root"

    @property
    def trace(self) -> Path:
        return self.home / "trace"

    @property
    def told(self) -> Path:
        return self.home / "told"

    @property
    def marker(self) -> Path:
        """Return the file that gets the command's exit code, whoever waits for it."""
        return self.told / "exit"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def start(self, command: str, *options: str) -> subprocess.Popen[str]:
        """Record a shell command that notes its own exit code, in the background."""
        script = f"({command}); code=$?; echo $code > {self.marker}.new; mv {self.marker}.new {self.marker}; exit $code"
        arguments = ["record", f"--state-dir={self.trace}", *options, "--", "sh", "-c", script]
        return subprocess.Popen(
            diffkeeper(*arguments), cwd=self.root, env=plain_environment(), stderr=subprocess.PIPE, text=True
        )

    def start_appender(self) -> subprocess.Popen[str]:
        appender = f"{sys.executable} {APPENDER} {LINES} {self.told / 'truth'}"
        return self.start(f"{sys.executable} {CHURN} 1.2 & {appender}; own=$?; wait; exit $own")

    def exit_code(self) -> int:
        """Wait for the command to end, and return what it exited with."""
        wait_until(self.marker.exists)
        return int(self.marker.read_text())

    def read(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(
            command, f"--state-dir={self.trace}", *arguments, cwd=self.home, XDG_CACHE_HOME=os.fspath(self.cache)
        )

    def truth(self) -> list[tuple[int, int]]:
        """Return when each line was written, from and to."""
        rows = (line.split() for line in (self.told / "truth").read_text().splitlines())
        return [(int(before), int(after)) for before, after in rows]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    folders = Folders(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(folders.cache))
    return folders


def _kill(recorder: subprocess.Popen[str], whom: str) -> tuple[int, list[int]]:
    """Kill; return when, and diffkeeper's processes."""
    below = descendants(recorder.pid)
    helpers = [pid for pid, command in below.items() if "helper.py" in command and not is_guardian(pid)]
    workers = [pid for pid, command in below.items() if "diffkeeper.worker" in command]
    assert helpers, below
    killed = {"record": [recorder.pid], "helper": helpers, "both": [recorder.pid, *helpers]}[whom]
    now_ns = time.monotonic_ns()  # before: what dies of it is gone before we come to look at the clock
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    return now_ns, [*helpers, *workers]


def _check_prefix(folders: Folders, killed_ns: int, slack_ns: int, chance: random.Random) -> None:
    """Hold the trace against what the command told: at every instant the lines that were written by then, no gap."""
    truth = folders.truth()
    with Trace.open(folders.trace) as trace:
        start_ns = trace.facts.start_monotonic_ns
        moments = [killed_ns - slack_ns, *(chance.randint(truth[0][1], killed_ns - slack_ns) for _ in range(5))]
        for moment in moments:
            lines = trace.at(trace.extent.number_at(moment - start_ns)).read("log").split(b"\n")[:-1]
            assert lines == [b"%08d" % number for number in range(len(lines))]
            ended = sum(after <= moment for _, after in truth)
            begun = sum(before <= moment for before, _ in truth)
            assert ended <= len(lines) <= begun
        assert trace.at("end").read("log") == b"".join(b"%08d\n" % number for number in range(_count(trace)))


def _count(trace: Trace) -> int:
    return trace.at("end").stat("log").size // LINE_BYTES


def _check_the_command_was_not_harmed(folders: Folders) -> None:
    assert folders.exit_code() == EXIT
    assert (folders.root / "log").stat().st_size == LINES * LINE_BYTES


@pytest.mark.parametrize(("whom", "seed"), [(WHOM[seed % len(WHOM)], seed) for seed in range(KILLS)])
def test_a_kill_costs_no_more_than_the_last_moment(folders: Folders, whom: str, seed: int) -> None:
    chance = random.Random(seed)
    recorder = folders.start_appender()
    wait_until((folders.root / "log").exists)
    time.sleep(chance.uniform(0.3, 1.2))
    killed_ns, own = _kill(recorder, whom)
    if whom == "helper":
        assert recorder.wait(30) == EXIT
    else:
        wait_until(lambda: not any(map(is_running, own)), 2)
        assert recorder.wait() == -signal.SIGKILL
        assert trace_state(folders.trace) == "broken"
    _check_the_command_was_not_harmed(folders)
    before = fingerprint(folders.trace)
    for arguments in (["info"], ["timeline"], ["export", "--out", folders.home / "out"]):
        result = folders.read(*arguments)
        assert result.returncode == 3, result.stderr
        assert "Traceback" not in result.stderr
    assert ("broken" in folders.read("info").stdout) is (whom != "helper")
    _check_prefix(folders, killed_ns, 0 if whom == "record" else SLACK_NS, chance)
    assert fingerprint(folders.trace) == before


def test_a_kill_before_the_command_starts_leaves_no_process_and_a_trace_that_opens(folders: Folders) -> None:
    for number in range(3000):
        (folders.root / f"file{number}").write_bytes(b"x" * 3000)
    recorder = folders.start("touch ran")
    wait_until((folders.trace / "journal").exists)
    below = descendants(recorder.pid)
    recorder.kill()
    recorder.wait()
    wait_until(lambda: not any(map(is_running, below)), 2)
    if (folders.root / "ran").exists():
        pytest.skip("the baseline was quicker than the kill")
    assert not folders.marker.exists()
    for arguments in (["info"], ["timeline"], ["export", "--out", folders.home / "out"]):
        result = folders.read(*arguments)
        assert result.returncode == 3, result.stderr
        assert "Traceback" not in result.stderr


def test_the_helper_that_sudo_started_ends_with_its_recorder() -> None:
    """It is no child of the recorder, and the recorder's user may not signal it: the closed socket tells it."""
    with ways() as make:
        try:
            user = make("user")
        except CannotRunError as reason:
            pytest.skip(str(reason))
        command = user.recorded(["sh", "-c", "touch ready; sleep 1; echo survived > end"])
        recorder = subprocess.Popen(command, cwd=user.home, **user.identity)
        wait_until((user.home / "ready").exists)
        helpers = _helpers_of(user.home)
        assert len(helpers) == 1
        recorder.kill()
        recorder.wait()
        wait_until(lambda: not any(map(is_running, helpers)), 2)
        wait_until((user.home / "end").exists)
        assert trace_state(user.home / "trace") == "broken"


def _helpers_of(home: Path) -> list[int]:
    """Return the helpers that hold a segment of the trace in a user's home open."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            links = [os.readlink(link.path) for link in os.scandir(f"/proc/{entry}/fd")]
            is_helper = b"helper.py" in Path(f"/proc/{entry}/cmdline").read_bytes()
            if is_helper and any(link.startswith(f"{home}/trace/journal") for link in links):
                found.append(int(entry))
    return found


def test_a_killed_helper_is_told_of_in_one_line(folders: Folders) -> None:
    recorder = folders.start("touch ready; sleep 0.3; exit 6")
    wait_until((folders.root / "ready").exists)
    _kill(recorder, "helper")
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 6
    assert [line for line in said.splitlines() if "helper process ended" in line] != []
    assert "Traceback" not in said


def test_the_worker_ends_with_its_recorder(folders: Folders) -> None:
    """The worker begins when 128 MiB are journaled; what it has processed by then is not lost."""
    write = "import os; f = os.open('big', os.O_RDWR | os.O_CREAT); b = os.urandom(65536)\n"
    write += "for i in range(2600): os.pwrite(f, i.to_bytes(8, 'big') + b[8:], i % 256 << 16)\n"
    (folders.told / "write.py").write_text(write)
    go = folders.told / "go"
    recorder = folders.start(
        f"{sys.executable} {folders.told}/write.py; touch done; while [ ! -e {go} ]; do sleep 0.02; done"
    )
    wait_until(lambda: any("diffkeeper.worker" in command for command in descendants(recorder.pid).values()))
    wait_until((folders.root / "done").exists)
    time.sleep(0.1)
    _, own = _kill(recorder, "record")
    assert len(own) == 2
    wait_until(lambda: not any(map(is_running, own)), 2)
    recorder.wait()
    go.touch()
    assert folders.exit_code() == 0
    with Trace.open(folders.trace) as trace:
        assert trace.at("end").read("big") == (folders.root / "big").read_bytes()


@pytest.fixture
def broken(folders: Folders) -> Folders:
    """Return a trace whose recorder was killed."""
    recorder = folders.start("echo one > a; touch ready; sleep 60")
    wait_until((folders.root / "ready").exists)
    time.sleep(0.1)
    below = descendants(recorder.pid)
    _, own = _kill(recorder, "both")
    recorder.wait()
    for pid in below.keys() - set(own) - set(filter(is_guardian, below)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, below)))
    return folders


def test_a_broken_trace_is_processed_once_and_never_changed(broken: Folders) -> None:
    before = fingerprint(broken.trace)
    first = broken.read("timeline")
    processed = fingerprint(broken.cache)
    second = broken.read("timeline")
    assert (first.returncode, second.returncode) == (3, 3)
    assert first.stdout == second.stdout
    assert "CREATE   a" in first.stdout
    assert "broke off" in first.stderr
    done = [name for name in processed if name.endswith("/done")]
    assert len(done) == 1
    assert {name: fingerprint(broken.cache)[name] for name in processed if "/store/" in name or name in done} == {
        name: facts for name, facts in processed.items() if "/store/" in name or name in done
    }
    assert fingerprint(broken.trace) == before


_AS_ANOTHER_USER = """
import os, sys
from diffkeeper import cli
twin, trace, uid, cache, *command = sys.argv[1:]
os.environ["XDG_CACHE_HOME"] = cache + "-of-root"
quiet = os.dup(1), os.dup(2)
null = os.open(os.devnull, os.O_WRONLY)
os.dup2(null, 1), os.dup2(null, 2)
assert cli.run([*command, "-s", twin]) == 3  # imports all that the other user may not be able to read
os.dup2(quiet[0], 1), os.dup2(quiet[1], 2)
os.environ["XDG_CACHE_HOME"] = cache
os.setgroups([]), os.setgid(int(uid)), os.setuid(int(uid))
sys.exit(cli.run([*command, "-s", trace]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("owner", [0, 65534])
def test_a_broken_trace_is_read_by_whoever_may_only_read_it(broken: Folders, owner: int) -> None:
    """The reader is nobody; the trace is root's, or nobody's own and read-only."""
    place = Path("/tmp") / f"diffkeeper-crash-{os.getpid()}-{owner}"
    shutil.copytree(broken.trace, place / "trace", copy_function=shutil.copy2)
    try:
        place.chmod(0o755)
        for path in (place / "trace", *(place / "trace").rglob("*")):
            os.chown(path, owner, owner)
            path.chmod(0o555 if path.is_dir() else 0o444)
        (place / "cache").mkdir()
        os.chown(place / "cache", 65534, 65534)
        before = fingerprint(place / "trace")
        arguments = [broken.trace, place / "trace", "65534", place / "cache", "timeline"]
        result = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER_USER, *map(str, arguments)],
            cwd=place,
            env=plain_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 3, result.stderr
        assert "CREATE   a" in result.stdout
        assert fingerprint(place / "trace") == before
    finally:
        shutil.rmtree(place)


# --- the disk ---


def test_a_disk_without_room_for_a_journal_is_refused_in_one_line(folders: Folders) -> None:
    with small_disk(folders.home / "small", 8) as disk:
        result = run("record", f"--state-dir={disk}/trace", "--", "touch", "ran", cwd=folders.root)
        assert result.returncode == 125
        (line,) = [line for line in result.stderr.splitlines() if "recording" not in line.split(" with ")[0]]
        assert "No space left on device; choose another --state-dir" in line
        assert os.listdir(disk) == []
    assert os.listdir(folders.root) == []


def test_a_journal_that_finds_no_more_room_ends_and_the_command_does_not(folders: Folders) -> None:
    """Two segments fit; each block names its number, so that what the trace holds can be told to be a beginning."""
    write = "import os; f = os.open('big', os.O_WRONLY | os.O_CREAT); b = os.urandom(65528)\n"
    write += "for i in range(1800): os.write(f, i.to_bytes(8, 'big') + b)\n"
    (folders.told / "write.py").write_text(write)
    with small_disk(folders.home / "small", 40) as disk:
        folders.trace.symlink_to(disk / "trace")
        script = f"{sys.executable} {folders.told}/write.py; exit 5"
        result = run("record", f"--state-dir={disk}/trace", "--", "sh", "-c", script, cwd=folders.root)
        assert result.returncode == 5
        assert "Traceback" not in result.stderr
        assert any("lost: no room for the journal" in line for line in result.stderr.splitlines())
        for arguments in (["info"], ["timeline"], ["export", "--out", folders.home / "out"]):
            assert folders.read(*arguments).returncode == 3
        with Trace.open(folders.trace) as trace:
            repaired = next((event.number for event in trace.timeline(ops="resync")), trace.cut("end") + 1)
            held = trace.at(repaired - 1).read("big")
            numbers = [int.from_bytes(held[at : at + 8], "big") for at in range(0, len(held), 65536)]
            assert 400 < len(numbers) < 1800
            assert numbers == list(range(len(numbers)))


def test_a_disk_that_others_fill_to_the_last_byte_costs_nothing(folders: Folders) -> None:
    """The journal has its room from the start, and what it did not need serves the store."""
    with small_disk(folders.home / "small", 40) as disk:
        script = f"echo one > a; dd if=/dev/zero of={disk}/theirs bs=4k 2> /dev/null; echo two > a; exit 5"
        result = run("record", f"--state-dir={disk}/trace", "--", "sh", "-c", script, cwd=folders.root)
        assert result.returncode == 5
        assert re.search(r", complete\b.* Command exited 5\.", result.stderr)
        with Trace.open(disk / "trace") as trace:
            assert trace.at("end").read("a") == b"two\n"


@pytest.mark.parametrize("part", [".", "journal", "session.json"])
def test_a_trace_that_is_deleted_meanwhile_costs_the_trace_alone(folders: Folders, part: str) -> None:
    script = f"echo one > a; sleep 0.2; rm -rf {folders.trace / part}; echo two > a; exit 5"
    result = run("record", f"--state-dir={folders.trace}", "--", "sh", "-c", script, cwd=folders.root)
    assert result.returncode == 5
    assert (folders.root / "a").read_text() == "two\n"
    assert "NOT COMPLETE" in result.stderr
    assert f"{folders.trace}, or a part of it, was deleted while the command ran" in result.stderr
    assert "Traceback" not in result.stderr
    read = folders.read("info")
    assert read.returncode == (10 if part == "." else 3)
    assert "Traceback" not in read.stderr


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_record_goes_to_the_command_and_the_trace_is_sealed(folders: Folders, number: int) -> None:
    script = "import signal, sys, time, pathlib as p\n"
    script += f"signal.signal({int(number)}, lambda *_: (p.Path('last').write_text('words'), sys.exit(9)))\n"
    script += "p.Path('ready').touch(); time.sleep(30)\n"
    (folders.told / "wait.py").write_text(script)
    arguments = ["record", f"--state-dir={folders.trace}", "--", sys.executable, str(folders.told / "wait.py")]
    recorder = subprocess.Popen(
        diffkeeper(*arguments), cwd=folders.root, env=plain_environment(), stderr=subprocess.PIPE, text=True
    )
    wait_until((folders.root / "ready").exists)
    recorder.send_signal(number)
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 9
    assert re.search(r", complete\b.* Command exited 9\.", said)
    with Trace.open(folders.trace) as trace:
        assert trace.info().state == "sealed"
        assert trace.at("end").read("last") == b"words"


@pytest.mark.parametrize("whom", ["record", "helper"])
def test_a_recorder_that_is_stopped_for_a_while_costs_nothing(folders: Folders, whom: str) -> None:
    recorder = folders.start_appender()
    wait_until((folders.root / "log").exists)
    below = descendants(recorder.pid)
    helpers = [pid for pid, command in below.items() if "helper.py" in command and not is_guardian(pid)]
    stopped = {"record": recorder.pid, "helper": helpers[0]}[whom]
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert folders.exit_code() == EXIT  # the command goes on to its end
    finally:
        os.kill(stopped, signal.SIGCONT)
    _, said = recorder.communicate(timeout=60)
    assert recorder.returncode == EXIT
    assert re.search(r", complete\b", said), said
    with Trace.open(folders.trace) as trace:
        assert trace.at("end").read("log") == (folders.root / "log").read_bytes()


# --- what goes on after the command ---

DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.dup2(os.open(os.devnull, os.O_RDWR), 1), os.dup2(1, 2)
log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(300):
    os.write(log, b"%08d\\n" % number)
    time.sleep(0.005)
"""


def test_a_daemon_is_recorded_until_its_command_ends_and_that_is_said(folders: Folders) -> None:
    (folders.told / "daemon.py").write_text(DAEMON.replace("\\\\", "\\"))
    recorder = folders.start(f"{sys.executable} {folders.told}/daemon.py; sleep 0.4; exit 6")
    _, said = recorder.communicate(timeout=30)
    assert recorder.returncode == 6
    assert "1 process that the command started lives on: from here on nothing is recorded" in said
    with Trace.open(folders.trace) as trace:
        ended_ns = trace.facts.end_monotonic_ns - trace.facts.start_monotonic_ns
        held = trace.at(trace.extent.number_at(ended_ns)).read("log")
        assert held == b"".join(b"%08d\n" % number for number in range(len(held) // LINE_BYTES))
        assert 20 * LINE_BYTES < len(held) < 250 * LINE_BYTES
        assert trace.info().counters["differ"] == 0  # what came after the end is no fault of the recording
    wait_until(lambda: (folders.root / "log").stat().st_size == 300 * LINE_BYTES)


# --- the clock ---


@pytest.mark.skipif(
    os.environ.get("DIFFKEEPER_MAY_SET_CLOCK") != "1" or os.geteuid() != 0,
    reason="DIFFKEEPER_MAY_SET_CLOCK=1 lets this test set the machine's clock, as root",
)
@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_that_is_set_while_recording_moves_no_event(folders: Folders, step_s: int) -> None:
    step = "import sys, time; now = time.clock_gettime(0); time.clock_settime(0, now + float(sys.argv[1]))"
    script = f"echo one > a; {sys.executable} -c '{step}' {step_s}; echo two > b; sleep 0.1; exit 5"
    try:
        result = run("record", f"--state-dir={folders.trace}", "--", "sh", "-c", script, cwd=folders.root)
    finally:
        time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME) - step_s)
    assert result.returncode == 5
    with Trace.open(folders.trace) as trace:
        times = [event.t_ns for event in trace.timeline(ops="all")]
        assert times == sorted(times)
        assert times[-1] < 60_000_000_000
        assert (trace.at("end").read("a"), trace.at("end").read("b")) == (b"one\n", b"two\n")


# --- the disk of who reads ---


def test_a_cache_without_room_is_named_in_one_line(broken: Folders) -> None:
    with small_disk(broken.home / "small", 1) as disk:
        (disk / "fill").write_bytes(bytes(1_030_000))
        read = run("timeline", f"--state-dir={broken.trace}", cwd=broken.home, XDG_CACHE_HOME=disk, TMPDIR=disk)
        assert read.returncode == 3
        assert "Traceback" not in read.stderr
        assert "set XDG_CACHE_HOME to a folder with more room" in read.stderr
    assert broken.read("timeline").returncode == 3
