"""The engine that looks at files: the last state is right whatever came, gaps are told, and all of it says inexact."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.real import look
from conformance.test_conformance import state_of
from diffkeeper import Trace, record
from diffkeeper.engines.watch import WatchEngine
from diffkeeper.engines.watch_mirror import Folder
from diffkeeper.model.event import LOOK_APPEARED, LOOK_MOVED, RESYNC_REMOVED, Event, Kind, Mark
from diffkeeper.recording import Outcome
from integration.recorder import wait_until
from oracle.recorded import diffkeeper

DEMO = Path(__file__).parents[2] / "demo" / "flaky_ci_test.py"
QUEUE_LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")
HAS_INOTIFY = QUEUE_LIMIT.exists()


def watch(root: Path, trace: Path, program: str, **options: object) -> Outcome:
    """Record a Python program that runs in a folder."""
    options = {"engine": WatchEngine(), **options}
    return record(
        [sys.executable, "-c", f"import os; os.chdir({str(root)!r})\n{program}"],
        state_dir=trace,
        watch=[root],
        **options,  # type: ignore[arg-type]
    )


def files_of(root: Path) -> dict[bytes, bytes | None]:
    """Return the bytes of all files below a folder, None for folders."""
    found: dict[bytes, bytes | None] = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        below = os.path.relpath(folder, os.fsencode(root))
        prefix = b"" if below == b"." else below + b"/"
        found |= {prefix + name: None for name in folders}
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                found[prefix + name] = file.read()
    return found


def last_state(trace: Trace) -> dict[bytes, bytes | None]:
    """Return the same of a trace's end."""
    view = trace.at("end")
    return {entry.path: view.read(entry.path) if entry.kind == "f" else None for entry in view.entries()}


def events_of(trace: Trace) -> list[Event]:
    return [event for event in trace.timeline() if event.kind == Kind.CHANGED]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_the_flaky_demo_is_told_and_everything_says_inexact(root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    arguments = ["record", "--engine", "watch", "--state-dir", str(trace), "--", sys.executable, str(DEMO)]
    ran = subprocess.run(diffkeeper(*arguments), cwd=root, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "inexact" in ran.stderr
    assert "what was between two looks is not known" in ran.stderr
    with Trace.open(trace) as opened:
        assert not opened.info().is_complete
        events = events_of(opened)
        assert all(event.marks & Mark.INEXACT and 0 <= event.enter_ns <= event.t_ns for event in events)
        assert opened.at("1.5s").read("status.log") == b"INIT: System OK"
        assert opened.at("end").read("status.log") == b"ERROR: Connection Lost"
    shown = subprocess.run(diffkeeper("timeline", "-s", str(trace)), capture_output=True, text=True, check=False).stdout
    lines = [line for line in shown.splitlines() if line.startswith("[")]
    assert lines
    assert all("INEXACT changed between scans, within" in line for line in lines)
    assert "WRITE" not in shown
    out = tmp_path / "out"
    export = ["export", "-s", str(trace), "--time", "1.5s", "--out", str(out)]
    ran = subprocess.run(diffkeeper(*export), capture_output=True, text=True, check=False)
    assert ran.returncode == 3
    assert "perhaps not exact" in ran.stderr
    assert (out / "status.log").read_text() == "INIT: System OK"


def test_a_hundred_thousand_new_files_are_all_there_at_the_end(root: Path, tmp_path: Path) -> None:
    count = 100_000 if os.environ.get("DIFFKEEPER_LARGE") else 5_000
    watch(root, tmp_path / "trace", f"for i in range({count}): open(f'f{{i}}', 'w').write(str(i))")
    with Trace.open(tmp_path / "trace") as trace:
        assert len(last_state(trace)) == count
        assert last_state(trace) == files_of(root)
        assert not trace.info().differing


def test_of_a_thousand_writes_to_one_file_none_is_made_up_and_the_last_is_there(root: Path, tmp_path: Path) -> None:
    program = "for i in range(1000): open('one', 'w').write(f'{i} ' + 'x' * i)"
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        events = events_of(trace)
        assert 2 <= len(events) <= 2_100
        for event in events[:: max(1, len(events) // 50)]:
            content = (
                trace.at(event.number).read("one")
                if b"one" in dict.fromkeys(entry.path for entry in trace.at(event.number).entries())
                else b""
            )
            number, _, rest = content.partition(b" ")
            assert content == b"" or (rest == b"x" * len(rest) and number.isdigit() and len(rest) <= int(number))
        assert last_state(trace) == files_of(root)


def test_no_leaf_of_two_hundred_nested_folders_is_missed(root: Path, tmp_path: Path) -> None:
    program = """
path = '.'
for i in range(200):
    path += f'/d{i}'
    os.mkdir(path)
    open(path + '/leaf', 'w').write(str(i))
    os.makedirs(f'wide/w{i}/a/b/c')
    open(f'wide/w{i}/a/b/c/leaf', 'w').write(str(i))
"""
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        assert last_state(trace) == files_of(root)
        assert not trace.info().differing
        leaves = [event for event in events_of(trace) if event.path.endswith(b"/leaf")]
        assert len({event.path for event in leaves}) == 400


@contextlib.contextmanager
def queue_of(events: int) -> Iterator[None]:
    """Let new inotify queues take no more than that, and put the limit back whatever happens."""
    before = QUEUE_LIMIT.read_text()
    QUEUE_LIMIT.write_text(str(events))
    try:
        yield
    finally:
        QUEUE_LIMIT.write_text(before)


@pytest.mark.skipif(not HAS_INOTIFY or os.geteuid() != 0, reason="the limit of inotify's queue is root's to set")
def test_a_queue_that_overflows_leaves_a_gap_and_the_right_last_state(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("watchdog")
    program = """
for i in range(3000):
    os.makedirs(f'd{i % 50}/e{i % 7}', exist_ok=True)
    open(f'd{i % 50}/e{i % 7}/f{i}', 'w').write(str(i))
    open('one', 'w').write(str(i))
"""
    with queue_of(4):
        watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        gaps = [event for event in trace.timeline() if event.kind == Kind.GAP]
        assert gaps
        assert {gap.text for gap in gaps} == {b"queue"}
        assert last_state(trace) == files_of(root)
        info = trace.info()
        assert not info.differing
        assert any("lost (queue)" in reason for reason in info.defects)


def test_what_was_renamed_has_moved_with_its_bytes(root: Path, tmp_path: Path) -> None:
    (root / "old").write_bytes(b"as before")
    (root / "tree").mkdir()
    (root / "tree" / "leaf").write_bytes(b"deep")
    program = "import time; os.rename('old', 'new'); os.rename('tree', 'wood'); time.sleep(0.3)"
    program += "; open('wood/other', 'w').write('later'); time.sleep(0.3); os.unlink('wood/leaf'); time.sleep(0.2)"
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        told = [(event.detail, event.path, event.path2) for event in events_of(trace)]
        assert (LOOK_MOVED, b"old", b"new") in told
        assert (LOOK_MOVED, b"tree", b"wood") in told
        assert (LOOK_APPEARED, b"wood/other", b"") in told
        assert (RESYNC_REMOVED, b"wood/leaf", b"") in told
        assert last_state(trace) == files_of(root) == {b"new": b"as before", b"wood": None, b"wood/other": b"later"}
        assert trace.at("start").read("old") == b"as before"


def test_without_hints_all_is_looked_at_regularly(root: Path, tmp_path: Path) -> None:
    program = "import time\nfor i in range(4):\n    open('f', 'w').write(str(i))\n    time.sleep(0.4)"
    watch(root, tmp_path / "trace", program, engine=WatchEngine(notifies=False))
    with Trace.open(tmp_path / "trace") as trace:
        seen = {trace.at(event.number).read("f") for event in events_of(trace) if event.path == b"f"}
        assert seen >= {b"0", b"1", b"2", b"3"}
        assert any("rounds" in exception for exception in trace.info().engine_exceptions)


def test_a_store_through_a_mapping_is_found_at_the_latest_at_the_end(root: Path, tmp_path: Path) -> None:
    program = """
import mmap
file = open('mapped', 'w+b'); file.truncate(8192)
memory = mmap.mmap(file.fileno(), 8192); memory[5000:5005] = b'store'
memory.flush()
"""
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        assert last_state(trace) == files_of(root)
        assert not trace.info().differing


def test_of_a_large_file_only_what_changed_is_stored_again(root: Path, tmp_path: Path) -> None:
    program = """
import time
block = os.urandom(1 << 16)
with open('large', 'wb') as file:
    for i in range(256): file.write(os.urandom(1 << 16))
for i in range(5):
    time.sleep(0.4)
    with open('large', 'r+b') as file:
        file.seek(i * 1000003); file.write(b'changed')
time.sleep(0.3)
"""
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        assert last_state(trace) == files_of(root)
        assert sum(event.length for event in events_of(trace)) < 3 * (16 << 20)
    stored = sum(path.stat().st_size for path in (tmp_path / "trace").rglob("*") if path.is_file())
    assert stored < 40 << 20


def test_what_is_excluded_is_neither_shown_nor_stored(root: Path, tmp_path: Path) -> None:
    (root / "hidden").mkdir()
    program = """
import time
open('hidden/secret', 'w').write('key'); open('shown', 'w').write('text'); open('a.tmp', 'w').write('temporary')
time.sleep(0.2); os.rename('a.tmp', 'a.txt'); time.sleep(0.2); os.rename('shown', 'b.tmp')
"""
    watch(root, tmp_path / "trace", program, exclude=["hidden/", "*.tmp"])
    with Trace.open(tmp_path / "trace") as trace:
        assert last_state(trace) == {b"a.txt": b"temporary"}
        paths = {event.path for event in trace.timeline(ops="all")} | {e.path2 for e in trace.timeline(ops="all")}
        assert not any(b"hidden" in path or b".tmp" in path for path in paths)
        assert not trace.info().differing
    for path in (tmp_path / "trace" / "store").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes()


@pytest.mark.parametrize("baseline", ["touched", "full", "index"])
def test_every_baseline_works(root: Path, tmp_path: Path, baseline: str) -> None:
    (root / "kept").write_bytes(b"kept")
    (root / "changed").write_bytes(b"before" * 20_000)
    watch(root, tmp_path / "trace", "open('changed', 'w').write('after')", baseline=baseline)
    with Trace.open(tmp_path / "trace") as trace:
        assert trace.at("end").read("changed") == b"after"
        if baseline != "index":
            assert trace.at("start").read("changed") == b"before" * 20_000


def test_several_roots_and_names_of_one_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    program = f"""
import os, time
os.chdir({str(tmp_path)!r})
open('one/a', 'w').write('first'); time.sleep(0.2)
os.link('one/a', 'one/b'); time.sleep(0.2)
open('one/b', 'a').write(' more'); os.chmod('one/a', 0o600); os.symlink('a', 'two/link')
time.sleep(0.2); os.unlink('one/a')
"""
    roots = [tmp_path / "one", tmp_path / "two"]
    record([sys.executable, "-c", program], state_dir=tmp_path / "trace", watch=roots, engine="watch")
    with Trace.open(tmp_path / "trace") as trace:
        view = trace.at("end")
        assert {entry.path for entry in view.entries()} == {b"one", b"one/b", b"two", b"two/link"}
        assert view.read("one/b") == b"first more"
        assert not trace.info().differing


@pytest.mark.parametrize(("program", "code"), [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_the_exit_code_is_the_commands(root: Path, tmp_path: Path, program: str, code: int) -> None:
    assert watch(root, tmp_path / "trace", program).exit_code == code


def test_extended_attributes_and_modes_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    program = """
import time
open('f', 'w').write('x'); time.sleep(0.1); os.setxattr('f', 'user.a', b'1'); os.chmod('f', 0o604); time.sleep(0.1)
os.setxattr('f', 'user.b', b'2'); os.removexattr('f', 'user.a'); os.mkdir('d', 0o700); os.utime('d', ns=(5, 5))
"""
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        assert not trace.info().differing
        assert not trace.info().counters.get("not_verified", 0)


def test_folders_beyond_the_limit_of_watches_are_looked_at_regularly(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify = pytest.importorskip("diffkeeper.engines.notify", exc_type=ImportError)
    real = notify._Inotify.watch

    def limited(self: object, folder: Folder) -> None:
        if folder.parent is not None:
            raise notify.TooManyWatchesError(28, "the limit of watches is reached")
        real(self, folder)

    monkeypatch.setattr(notify._Inotify, "watch", limited)
    (root / "unwatched").mkdir()
    program = "import time\nfor i in range(3):\n    open('unwatched/f', 'w').write(str(i))\n    time.sleep(0.5)"
    watch(root, tmp_path / "trace", program)
    with Trace.open(tmp_path / "trace") as trace:
        seen = {trace.at(event.number).read("unwatched/f") for event in events_of(trace) if event.path.endswith(b"/f")}
        assert seen >= {b"0", b"1", b"2"}
        assert any("limit of watches" in exception for exception in trace.info().engine_exceptions)


def test_a_recorder_that_is_killed_leaves_what_it_had_seen(root: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = "import time\nfor i in range(100):\n    open(f'f{i}', 'w').write(str(i))\n    time.sleep(0.05)"
    arguments = ["record", "-q", "--engine", "watch", "--state-dir", str(trace), "--", sys.executable, "-c", program]
    recorder = subprocess.Popen(diffkeeper(*arguments), cwd=root)
    wait_until(lambda: (root / "f40").exists())
    recorder.kill()
    recorder.wait()
    wait_until(lambda: (root / "f99").exists())  # the command goes on
    with Trace.open(trace) as opened:
        assert {f"f{number}".encode() for number in range(15)} <= {event.path for event in events_of(opened)}
        assert any("broke off" in defect for defect in opened.info().defects)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_recorder_reaches_the_command_and_the_trace_is_sealed(
    root: Path, tmp_path: Path, number: int
) -> None:
    trace = tmp_path / "trace"
    program = "import os, time; open('begun', 'w').write('x'); os.mkdir('ready'); time.sleep(60)"
    arguments = ["record", "-q", "--engine", "watch", "--state-dir", str(trace), "--", sys.executable, "-c", program]
    recorder = subprocess.Popen(diffkeeper(*arguments), cwd=root)
    wait_until(lambda: (root / "ready").exists())
    recorder.send_signal(number)
    assert recorder.wait(30) in (128 + number, 1)
    with Trace.open(trace) as opened:
        assert last_state(opened) == {b"begun": b"x", b"ready": None}


AT_RANDOM = """
import random, shutil
at_random, names = random.Random(SEED), 'abcd'
def path(): return '/'.join(at_random.choice(names) for _ in range(at_random.randint(1, 3)))
def write(p, q): open(p, 'w').write('x' * at_random.choice((0, 5, 5000, 100_000)))
def replace(p, q): open(q + '.tmp', 'w').write(q); os.rename(q + '.tmp', p)
def append(p, q): open(p, 'a').write(q)
operations = [write, replace, append, os.rename, os.link, os.symlink]
operations += [lambda p, q: os.makedirs(p), lambda p, q: os.unlink(p), lambda p, q: os.rmdir(p)]
operations += [lambda p, q: os.truncate(p, at_random.randint(0, 9000)), lambda p, q: os.chmod(p, 0o700)]
operations += [lambda p, q: shutil.rmtree(p) if at_random.random() < 0.3 else None]
for _ in range(1500):
    try:
        at_random.choice(operations)(path(), path())
    except OSError:
        pass
"""


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_and_however_fast_the_last_state_is_right(root: Path, tmp_path: Path, seed: int) -> None:
    watch(root, tmp_path / "trace", f"SEED = {seed}\n{AT_RANDOM}")
    with Trace.open(tmp_path / "trace") as trace:
        assert state_of(trace.at("end")) == look(root)
        assert not trace.info().differing
