"""A run that goes on for ten minutes and writes 20 GB: the recorder's memory and the trace must stay as they are.

Files are written in place and replaced in turn, so that the disk need not hold what was written; the trace may have no
more than a given size. What is looked at, twice a second, is the resident memory of each of the recorder's processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Limit, Section
from benchmarks.run import FailedError, Place, diffkeeper
from diffkeeper.store.format import disk_bytes

SECONDS = 600
WRITTEN_BYTES = 20_000_000_000
MAX_BYTES = 2 << 30
MOST_MEMORY_BYTES = 256 << 20
MOST_GROWTH = 1.1  # of the last quarter beside the second: what is flat
_EVERY_S = 0.5
_WRITER = Path(__file__).parent / "programs/long_writer.py"
HEAD = ("process", "after a quarter", "after a half", "at the end", "most")
TEXT = (
    "Resident memory of each process in MiB: medians of the quarters of the run, and the most that was seen. Processes"
    " of one sort are taken together. The helper maps the ring twice and counts it twice."
)


@dataclass
class _Samples:
    """Hold what was seen while the command ran: when, and the memory by sort of process."""

    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    trace: list[int] = field(default_factory=list)

    def look(self, recorder: int, trace: Path, at_s: float) -> None:
        """Take one sample."""
        held: dict[str, int] = {}
        for pid in _processes(recorder):
            held[_sort(pid, recorder)] = held.get(_sort(pid, recorder), 0) + _resident(pid)
        held.pop("", None)
        for sort, count in held.items():
            self.memory.setdefault(sort, []).append((at_s, count))
        self.trace.append(disk_bytes(trace))

    def quarter(self, sort: str, number: int, seconds: float) -> int:
        """Return the median of a quarter of the run, 0 if the process was not there."""
        begin, end = number * seconds / 4, (number + 1) * seconds / 4
        seen = [count for at, count in self.memory[sort] if begin <= at < end]
        return int(median(seen)) if seen else 0


def measure(place: Place, divisor: int = 1) -> Section:
    """Measure one run of that fraction of the time and of the bytes."""
    section = Section("long", HEAD, TEXT)
    seconds, count = SECONDS / divisor, WRITTEN_BYTES // divisor
    max_bytes = max(MAX_BYTES // divisor, 256 << 20)
    samples, summary, ran_s = _run(place, seconds, count, max_bytes)
    for sort in sorted(samples.memory):
        _add(section, samples, sort, ran_s)
    counters = summary["counters"]
    section.text += (
        f"\n\n{counters['bytes'] / 1e9:.1f} GB were written in {ran_s:.0f} s, {counters['changes']:,} changes, into a"
        f" trace that may have {max_bytes / 1e6:,.0f} MB and had {max(samples.trace) / 1e6:,.0f} MB at most; of"
        f" {counters['events']:,} events the first {counters.get('dropped_events', 0):,} were dropped."
        f" {'Complete.' if summary['complete'] else 'Not complete: ' + '; '.join(summary['defects'])}"
    )
    most = max(samples.trace)
    share = f"{most / max_bytes:.2f} of --max-size"
    section.limits.append(Limit("disk of a long run", "1.1 of --max-size", share, most <= max_bytes * 1.1))
    return section


def _add(section: Section, samples: _Samples, sort: str, seconds: float) -> None:
    _, second, third, last = (samples.quarter(sort, number, seconds) for number in range(4))
    most = max(count for _, count in samples.memory[sort])
    section.add(sort, *(f"{count / (1 << 20):.0f}" for count in (second, third, last, most)))
    is_flat = most <= MOST_MEMORY_BYTES and last <= max(second * MOST_GROWTH, second + (8 << 20))
    said = f"{most >> 20} MiB at most, {last / max(second, 1):.2f} of the second quarter in the last"
    section.limits.append(Limit(f"memory of a long run: {sort}", "256 MiB, flat", said, is_flat))


def _run(place: Place, seconds: float, count: int, max_bytes: int) -> tuple[_Samples, dict[str, Any], float]:
    place.clear()
    command = [sys.executable, str(_WRITER), str(place.root), str(count), str(seconds)]
    options = ["--json", "--force", "--state-dir", str(place.trace), "--watch", ".", "--max-size", str(max_bytes)]
    samples, begun = _Samples(), time.monotonic()
    with (place.scratch / "said").open("w+") as said:
        recorder = subprocess.Popen(
            [*diffkeeper("record", *options, "--", *command)], cwd=place.root, stdout=subprocess.DEVNULL, stderr=said
        )
        while recorder.poll() is None:
            samples.look(recorder.pid, place.trace, time.monotonic() - begun)
            time.sleep(_EVERY_S)
        said.seek(0)
        lines = said.read().splitlines()
    if recorder.returncode or not lines:
        raise FailedError(f"the recording ended with {recorder.returncode}: {' '.join(lines)[-500:]}")
    summary = json.loads(lines[-1])
    return samples, summary, summary["duration_ns"] / 1e9


def _processes(recorder: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        fields = _read(f"/proc/{entry}/stat").rpartition(")")[2].split()
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [recorder]
    for one in found:
        found += children.get(one, [])
    return found


def _sort(pid: int, recorder: int) -> str:
    """Return what a process of the recorder is, empty for the command's own."""
    if pid == recorder:
        return "record"
    words, name = _read(f"/proc/{pid}/cmdline"), _read(f"/proc/{pid}/comm").strip()
    if "diffkeeper.worker" in words:
        return "worker"
    return {"dk-guardian": "guardian", "diffkeeper-hold": "holders"}.get(name, "helper") if "helper.py" in words else ""


def _resident(pid: int) -> int:
    return next(iter(_sizes(pid)), 0)


def _sizes(pid: int) -> Iterator[int]:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("VmRSS:"):
            yield int(line.split()[1]) * 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
