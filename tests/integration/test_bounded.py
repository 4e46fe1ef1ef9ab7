"""Recordings whose trace may have so much and no more: what is dropped, what is left, and what the command notices."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from diffkeeper import Kind, Trace
from diffkeeper.errors import DroppedHistoryError
from diffkeeper.store.format import disk_bytes
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

LIMIT = 128 << 20
WRITER = """
import os, sys, time
megabytes, rate, root = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
begin, block = time.monotonic(), 1 << 16
with open(f"{root}/large", "wb", buffering=0) as file:
    for number in range(megabytes * 16):
        os.pwrite(file.fileno(), os.urandom(block), number % int(sys.argv[4]) * block)
        if number % 16 == 0:
            with open(f"{root}/small{number // 16 % 7}", "w") as small:
                small.write(f"{number} " * 50)
            time.sleep(max(0, begin + number / 16 / rate - time.monotonic()))
print("whole")
"""


class Recorded:
    """Record the writer below a size, looking at what the trace takes meanwhile."""

    def __init__(self, home: Path, megabytes: int, *options: str, rate: float = 20, wrap: int = 160) -> None:
        self.root, self.trace, self.most = home / "root", home / "trace", 0
        self.root.mkdir()
        command = [sys.executable, "-c", WRITER, str(megabytes), str(rate), str(self.root), str(wrap)]
        limits = ["--max-size", "128M", *options]
        process = subprocess.Popen(
            [*diffkeeper(), "record", "-s", self.trace, "--watch", self.root, *limits, "--", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        watcher = threading.Thread(target=self._watch, args=(process,))
        watcher.start()
        self.out, self.err = process.communicate()
        watcher.join()
        self.status = process.returncode

    def _watch(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None:
            self.most = max(self.most, disk_bytes(self.trace))
            time.sleep(0.05)

    def files(self) -> dict[bytes, bytes]:
        return {path.name.encode(): path.read_bytes() for path in self.root.iterdir()}


def test_a_long_run_keeps_its_end_and_stays_below_its_size(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, 200, rate=12)
    assert (recorded.status, recorded.out) == (0, "whole\n"), recorded.err
    assert recorded.most < LIMIT * 5 // 4
    with Trace.open(recorded.trace) as trace:
        info = trace.info()
        assert not any(count for name, count in info.counters.items() if name.startswith("lost_"))
        assert info.counters["dropped_events"] == info.first_number > 0
        assert {e.path: trace.at("end").read(e.path) for e in trace.at("end").entries()} == recorded.files()
        with pytest.raises(DroppedHistoryError, match=f"write @{info.first_number} or later"):
            trace.at("start")
        assert all(entry.content != "unknown" for entry in trace.at(info.first_number).entries())
        row = next(trace.timeline(ops="write"))
        assert (row.kind, row.number) == (Kind.LIMIT, info.first_number)
    assert "were dropped to keep the trace below 128.0 MiB" in recorded.err


@pytest.mark.parametrize(("how", "status", "said"), [("stop", 0, "whole\n"), ("fail", 125, "")])
def test_a_full_trace_ends_the_recording_and_only_if_asked_the_command(
    tmp_path: Path, how: str, status: int, said: str
) -> None:
    recorded = Recorded(tmp_path, 200, "--on-full", how, rate=60)
    assert (recorded.status, recorded.out) == (status, said), recorded.err
    assert "the trace had its 128.0 MiB at" in recorded.err
    with Trace.open(recorded.trace) as trace:
        info = trace.info()
        assert not info.is_complete
        assert info.full_ns is not None
        *_, row = trace.timeline()
        assert (row.kind, row.size) == (Kind.LIMIT, LIMIT)
        assert trace.losses_at("end")
        assert not trace.losses_at(f"@{row.number}^")
        assert len(trace.at(f"@{row.number}^").read("large")) == 160 << 16


def test_a_present_state_that_leaves_no_room_ends_the_recording_and_not_the_command(tmp_path: Path) -> None:
    """Nothing of the present state is dropped: what comes after it could not be exact."""
    recorded = Recorded(tmp_path, 240, wrap=1 << 20)
    assert (recorded.status, recorded.out) == (0, "whole\n"), recorded.err
    assert recorded.most < LIMIT * 2
    with Trace.open(recorded.trace) as trace:
        *_, row = trace.timeline()
        assert (row.kind, row.number) == (Kind.LIMIT, trace.extent.count)
        known = trace.at("end").read("large")
    assert known == (recorded.root / "large").read_bytes()[: len(known)]
    assert len(known) > LIMIT // 4
