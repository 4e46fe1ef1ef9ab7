"""Changes that no system call makes are found, read again, and said."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import Kind, Trace
from diffkeeper.model.event import Mark
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def record(folder: Path, command: str) -> tuple[Trace, str]:
    state = folder.parent / "trace"
    arguments = ["record", "--state-dir", str(state), "--watch", str(folder), "--", "sh", "-c", command]
    done = subprocess.run(
        [*diffkeeper(), *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return Trace.open(state), done.stderr


@contextlib.contextmanager
def core_dumps_to(pattern: str) -> Iterator[None]:
    former = CORE_PATTERN.read_text()
    try:
        CORE_PATTERN.write_text(pattern)
    except OSError:
        pytest.skip("where cores go cannot be changed here")
    try:
        yield
    finally:
        CORE_PATTERN.write_text(former)


def test_a_core_dump_is_in_the_trace_byte_for_byte_from_when_it_was_written(folder: Path) -> None:
    with core_dumps_to("core"):
        trace, said = record(
            folder, f"ulimit -c unlimited; {sys.executable} -c 'import os; os.abort()'; sleep 1.5; echo x > later"
        )
    with trace:
        core = next(iter(folder.glob("core*")), None)
        if core is None:
            pytest.skip("no core is dumped here")
        later = next(event for event in trace.timeline() if event.path == b"later")
        tree = trace.at(f"@{later.number}")
        assert tree.read(core.name) == core.read_bytes()
        assert tree.stat(core.name).content.value == "exact"
        assert trace.info().counters["unexplained"] > 0
        assert not trace.info().differing
    assert "changes that no recorded call explains were read again" in said


@pytest.mark.skipif(not shutil.which("losetup"), reason="needs losetup")
def test_what_a_loop_device_writes_into_its_file_is_found(folder: Path) -> None:
    disk = folder / "disk"
    disk.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "-f", "--show", disk], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    device = made.stdout.strip()
    try:
        write = f"yes abc | dd of={device} bs=4096 count=4 seek=7 oflag=direct iflag=fullblock conv=notrunc"
        trace, _ = record(folder, f"{write} 2>/dev/null; sleep 0.3; echo x > later")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    with trace:
        later = next(event for event in trace.timeline() if event.path == b"later")
        assert trace.at(f"@{later.number}").read("disk") == disk.read_bytes()
        holes = [event for event in trace.timeline() if event.marks & Mark.HOLE]
        assert {event.path for event in holes} == {b"disk"}
        assert not trace.info().differing


FAILS_HALF_WAY = """
import ctypes, os
libc = ctypes.CDLL(None)
with open("f", "r+b", 0) as file:
    assert libc.write(file.fileno(), ctypes.c_void_p(8), 4096) == -1
"""


def test_a_write_that_fails_after_it_touched_the_file_leaves_the_right_time(folder: Path) -> None:
    (folder / "f").write_bytes(b"as it was")
    os.utime(folder / "f", (5, 5))
    trace, _ = record(folder, f"exec {sys.executable} -c '{FAILS_HALF_WAY}'")
    with trace:
        resyncs = [event for event in trace.timeline() if event.kind == Kind.RESYNC]
        assert [bool(event.marks & Mark.HOLE) for event in resyncs] == [True] * len(resyncs)
        assert trace.at("end").read("f") == b"as it was"
        assert not trace.info().differing


def test_what_is_recorded_leaves_no_hole(folder: Path) -> None:
    script = """
        echo one > a; cat a >> b; cp a c; ln a d; mv d e; chmod 600 e; mkdir f; mv f g; rmdir g; truncate -s 9 a
        touch -d @5 b; rm a; dd if=b of=h bs=1 count=3 conv=notrunc 2>/dev/null; sed -i s/one/two/ b; mkfifo p; rm p
        if true > /dev/full; then :; fi; cat b b b > i; rm -r . 2>/dev/null; echo end > end
    """
    trace, _ = record(folder, script)
    with trace:
        assert "unexplained" not in trace.info().counters
        assert trace.info().is_complete, trace.info().defects
