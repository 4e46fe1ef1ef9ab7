"""What processing costs, counted: calls of Python functions, which do not depend on the machine, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from diffkeeper.engines.encoder import encode
from diffkeeper.model.observation import DataOp, DataWritten, Flag
from diffkeeper.processing import plain_rows
from diffkeeper.processing.processor import Processor
from diffkeeper.store.journal import BatchKind, JournalWriter
from scripts import COMMAND, START_NS, TRACE_ID, Script, begin_trace

needs_native = pytest.mark.skipif(not plain_rows.is_available(), reason="there is no native library")

WRITES = 100_000
CALLS_IN_RUNS = 1.0  # of each write; measured: 0.44
CALLS_ONE_BY_ONE = 80.0  # measured: 48
SIZE, SEQUENCE, TIMES, OFFSET = 16, 8, 16, 112  # places in a record
PAUSE_NS = 5_000


def records(count: int) -> Iterator[bytes]:
    """Yield records of plain appends to one file, without making each of a value."""
    script = Script()
    script.put("log")
    inode = script.files["log"].inode()
    flags = Flag.IN_LOCK | Flag.APPEND
    write = DataWritten(1, 0, 1, 0, COMMAND, COMMAND, flags, SIZE, DataOp.WRITE, inode, 0, SIZE, ((0, bytes(SIZE)),))
    record = bytearray(encode(write))
    for number in range(count):
        t_ns = START_NS + (number + 1) * PAUSE_NS
        record[SEQUENCE : SEQUENCE + 8] = (number + 1).to_bytes(8, "little")
        record[TIMES : TIMES + 24] = b"".join(at.to_bytes(8, "little") for at in (t_ns, t_ns - 400, t_ns + 400))
        record[OFFSET : OFFSET + 8] = (number * SIZE).to_bytes(8, "little")
        yield bytes(record)


def make_trace(trace: Path, count: int) -> None:
    """Write a journal of so many appends."""
    script = Script()
    script.put("log")
    begin_trace(trace, script)
    writer, some = JournalWriter(trace, TRACE_ID, "r"), bytearray()
    for record in records(count):
        some += record
        if len(some) > 250_000:
            writer.append(BatchKind.RECORDS, bytes(some))
            some.clear()
    writer.append(BatchKind.RECORDS, bytes(some))
    writer.append(BatchKind.END, b"{}")
    writer.close()


def calls(work: Callable[[], object]) -> int:
    """Return how many calls of Python functions something makes."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def process(trace: Path, store: Path, *, takes_runs: bool) -> int:
    """Process a journal; return the number of events."""
    with Processor(trace, store, takes_runs=takes_runs) as processor:
        return processor.finish().events


@needs_native
def test_plain_writes_take_hardly_any_python(tmp_path: Path) -> None:
    make_trace(tmp_path / "trace", WRITES)
    counted = calls(lambda: process(tmp_path / "trace", tmp_path / "store", takes_runs=True))
    assert counted < WRITES * CALLS_IN_RUNS


def test_what_goes_one_by_one_takes_some_dozen_calls_each(tmp_path: Path) -> None:
    make_trace(tmp_path / "trace", WRITES // 20)
    counted = calls(lambda: process(tmp_path / "trace", tmp_path / "store", takes_runs=False))
    assert counted < WRITES // 20 * CALLS_ONE_BY_ONE


PEAK = """
import sys
from pathlib import Path
from diffkeeper.processing.processor import Processor
with Processor(Path(sys.argv[1]), Path(sys.argv[2])) as processor:
    processor.finish()
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@needs_native
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_memory_does_not_grow_with_the_number_of_writes(tmp_path: Path) -> None:
    peaks = []
    for count in (250_000, 1_000_000):
        trace = tmp_path / f"trace{count}"
        make_trace(trace, count)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, trace, tmp_path / f"store{count}"], check=True, capture_output=True, text=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] * 1.25
    assert peaks[1] < 256 << 10
