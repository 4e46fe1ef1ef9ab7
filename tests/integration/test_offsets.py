"""Where bytes go that many write at once: exact, or marked, on a file system that tells from inside its lock or not.

Each program ends with files of which every byte is known by who wrote it, so a wrong place would show.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import Event, Exactness, Trace
from integration.test_syscalls import compiled
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

APPENDERS = """
import os
own = os.O_WRONLY | os.O_CREAT | os.O_APPEND
for number in range(8):
    if os.fork() == 0:
        file = os.open("log", own)
        for line in range(400):
            os.write(file, b"%d wrote line %d %s\\n" % (number, line, b"x" * (line % 70)))
        os._exit(0)
for _ in range(8):
    os.wait()
"""
INHERITED = """
import os, subprocess, sys
child = "import os, sys\\nfor line in range(150): os.write(1, b'%s: %d\\\\n' % (sys.argv[1].encode(), line))"
with open("out", "ab", 0) as out:
    children = [subprocess.Popen([sys.executable, "-c", child, str(number)], stdout=out) for number in range(8)]
    for each in children:
        each.wait()
"""
POSITIONED = """
import os
append = os.open("appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for number in range(4):
    if os.fork() == 0:
        for line in range(300):
            os.pwrite(append, b"%d: %d\\n" % (number, line), 3)  # Linux appends, whatever the offset
        os._exit(0)
for _ in range(4):
    os.wait()
"""
DESCRIPTORS = """
import os, threading
names = ("one", "two")
files = [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in names]
shared = os.dup(files[0])
is_done = False
def write(number):
    for line in range(300):
        try:
            os.write(shared, b"%d: %d\\n" % (number, line))
        except OSError:
            pass  # closed at that moment
def turn():
    each = 0
    while not is_done:
        each += 1
        os.dup2(files[each % 2], shared)
        if each % 7 == 0:
            os.close(shared)
threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
turner = threading.Thread(target=turn)
turner.start()
for thread in threads: thread.start()
for thread in threads: thread.join()
is_done = True
turner.join()
"""


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    home = tmp_path if request.param == "disk" else Path(tempfile.mkdtemp(dir="/dev/shm"))
    path = home / "work"
    path.mkdir()
    yield path
    shutil.rmtree(home)


def record(folder: Path, program: str) -> Trace:
    state = folder.parent / "trace"
    arguments = ["record", "--state-dir", str(state), "--watch", str(folder), "--", sys.executable, "-c", program]
    done = subprocess.run(
        [*diffkeeper(), *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return Trace.open(state)


def is_marked(trace: Trace) -> bool:
    counters = trace.info().counters
    return bool(counters.get("ambiguous") or counters.get("differ") or counters.get("inexact"))


@pytest.mark.parametrize("program", [APPENDERS, INHERITED, POSITIONED], ids=["own", "inherited", "positioned"])
def test_what_many_append_at_once_is_exact(folder: Path, program: str) -> None:
    with record(folder, program) as trace:
        info = trace.info()
        assert not info.differing
        assert not info.counters.get("ambiguous"), info.defects
        for path in folder.iterdir():
            assert trace.at("end").read(path.name) == path.read_bytes()
        writes = [event for event in trace.timeline() if event.kind.name == "WRITE"]
        assert {event.offset for event in writes} == {0} | {e.offset + e.length for e in writes} - {writes_end(writes)}


def writes_end(writes: list[Event]) -> int:
    return max(event.offset + event.length for event in writes)


def test_a_descriptor_that_is_turned_to_another_file_is_told_or_marked(folder: Path) -> None:
    is_disk = "shm" not in str(folder)
    with record(folder, DESCRIPTORS) as trace:
        for path in folder.iterdir():
            assert trace.at("end").read(path.name) == path.read_bytes()
        if is_disk:
            assert not is_marked(trace), trace.info().defects
        else:
            assert trace.info().is_complete or is_marked(trace)


REQUESTED = """
#include "ring.h"
#include <time.h>

static void say_when(void)
{
	struct timespec now;

	usleep(150000);
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%lld\\n", now.tv_sec * 1000000000LL + now.tv_nsec);
}

int main(void)
{
	int fd = MUST(open("f", O_RDWR | O_CREAT, 0644));
	struct ring ring;

	open_ring(&ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN); /* it completes when it is asked for */
	request(&ring, IORING_OP_WRITE, IOSQE_ASYNC, fd, "early", 5, 0);
	submit(&ring);
	finish(&ring);
	usleep(150000); /* from now on what workers leave behind when they sleep is looked at */
	request(&ring, IORING_OP_WRITE, IOSQE_ASYNC, fd, "requested", 9, 0);
	submit(&ring);
	say_when();
	finish(&ring);
	say_when();
	return 0;
}
"""


def test_no_state_is_vouched_for_between_the_submission_of_a_request_and_its_end(tmp_path: Path) -> None:
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    source = tmp_path / "requested.c"
    source.write_text(REQUESTED)
    program = compiled(source, tmp_path, Path(__file__).parent / "c")
    command = [*diffkeeper("record"), "-q", f"--state-dir={tmp_path / 'trace'}", "--watch", ".", "--", program]
    done = subprocess.run(command, cwd=memory, capture_output=True, text=True, check=False)
    shutil.rmtree(memory)
    if done.returncode == 77:
        pytest.skip("this kernel has no such ring")
    assert done.returncode == 0, done.stderr
    with Trace.open(tmp_path / "trace") as trace:
        under_way, over = (int(line) - trace.facts.start_monotonic_ns for line in done.stdout.split())
        (entry,) = trace.at(f"{under_way}ns").entries()
        assert entry.content == Exactness.INEXACT
        assert "request" in entry.reason
        (entry,) = trace.at(f"{over}ns").entries()
        assert entry.content == Exactness.EXACT
        assert trace.at(f"{over}ns").read("f") == b"requested"
        assert trace.info().is_complete
