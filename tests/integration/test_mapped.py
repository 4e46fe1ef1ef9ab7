"""Files that are mapped shared and writable: by others, from before, and large ones of which little is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diffkeeper import Event, Kind, Trace
from diffkeeper.model.event import Mark
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

OUTSIDER = """
import mmap, os, sys, time
with open("theirs", "w+b") as file:
    file.write(b"." * 9000)
    file.flush()
    memory = mmap.mmap(file.fileno(), 0)
memory[0:1] = b"x"
print("mapped", flush=True)
sys.stdin.readline()
memory[4000:4007] = b"outside"
print("stored", flush=True)
sys.stdin.readline()
"""
SPARSE = """
import mmap, os, time
file = os.open("large", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 64 << 30)
memory = mmap.mmap(file, 0)
for step in range(30):
    memory[step << 30 : (step << 30) + 4] = b"%04d" % step
    time.sleep(0.02)
os.ftruncate(file, 1 << 20)
"""


def stores(trace: Trace) -> list[Event]:
    return [event for event in trace.timeline(ops="all") if event.marks & Mark.MAPPED and event.length]


def record(root: Path, *command: str) -> list[str]:
    return [*diffkeeper("record"), "-q", f"--state-dir={root.parent / 'trace'}", "--watch=.", *command]


def test_a_file_that_an_outsider_had_mapped_before_is_sampled(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outsider = subprocess.Popen(
        [sys.executable, "-c", OUTSIDER], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert outsider.stdin is not None
    assert outsider.stdout is not None
    outsider.stdout.readline()
    recorder = subprocess.Popen(record(root, "--", "sh", "-c", "sleep 0.4; touch now; sleep 0.6"), cwd=root)
    while not (root / "now").exists():
        assert recorder.poll() is None
    outsider.stdin.write(b"\n")
    outsider.stdin.flush()
    assert outsider.stdout.readline() == b"stored\n"
    assert recorder.wait(60) == 0
    outsider.communicate(b"\n", 10)
    with Trace.open(tmp_path / "trace") as trace:
        (event,) = stores(trace)
        assert (event.kind, event.path, event.offset, event.length) == (Kind.WRITE, b"theirs", 4000, 7)
        assert event.pid == outsider.pid
        assert event.marks == Mark.MAPPED | Mark.OUTSIDER
        assert trace.info().is_complete


def test_sampling_a_sparse_map_of_64_gib_takes_no_more_than_its_dirty_pages(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    command = record(root, "--mmap-interval=20ms", "--", sys.executable, "-c", SPARSE)
    assert subprocess.run(command, cwd=root, timeout=120, check=False).returncode == 0
    with Trace.open(tmp_path / "trace") as trace:
        assert [event.offset >> 30 for event in stores(trace) if event.offset] == list(range(1, 30))
        counters = trace.info().counters
        assert counters["mapped_interval_ns"] == 20_000_000
        assert counters["mapped_pages"] < 30 * counters["mapped_rounds"] * 16  # a folio may be of some pages
        assert trace.info().is_complete
