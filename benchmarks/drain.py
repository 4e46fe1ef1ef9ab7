"""Measure the drain alone, without what processes its journal: sudo python -m benchmarks.drain [seconds] [folder].

Writes come at a rate for some seconds; the thread in C takes them from the ring into a few segments that are used again
and again. What is printed of each rate: how many writes came, how many changes were lost, how much CPU time the thread
took for each write and of one processor, and how many batches it wrote.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.limits import RATES, Rate
from benchmarks.micro import build
from benchmarks.run import Place

SOURCE = Path(__file__).resolve().parents[1] / "src"
SEGMENTS = 8
SEGMENT_BYTES = 16 << 20
TICK_S = 0.02


def _threads_cpu_s() -> float:
    """Return the CPU time of the threads of this process that Python does not run."""
    ticks = 0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            words = (task / "stat").read_text().rpartition(")")[2].split()
            ticks += int(words[11]) + int(words[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _segment(folder: Path, number: int) -> int:
    """Open a segment, allocated in full when it is new."""
    fd = os.open(folder / f"segment{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.posix_fallocate(fd, 0, SEGMENT_BYTES)
    return fd


def measure(rate: Rate, program: Path, place: Place, seconds: int) -> str:
    """Have writes come at a rate, and say what became of them."""
    from diffkeeper import native
    from diffkeeper.engines.protocol import RING_BYTES
    from diffkeeper.helper_protocol import directory_identity

    place.clear()
    root = os.open(place.root, os.O_RDONLY | os.O_CLOEXEC)
    settings = native.CaptureSettings(
        roots=(directory_identity(root),), root_fds=(root,), excluded=(), trace_id=1, ring_bytes=RING_BYTES
    )
    capture = native.Capture(settings)
    try:
        capture.start()
        for number in range(SEGMENTS):
            capture.add_segment(number, _segment(place.scratch, number))
        capture.drain()
        words = [str(program), "pace", str(rate.size), str(rate.per_second * seconds), "1", str(rate.per_second)]
        before = _threads_cpu_s()
        writer = subprocess.Popen(words, cwd=place.root, stdout=subprocess.PIPE, text=True)
        while writer.poll() is None:
            time.sleep(TICK_S)
            for number in capture.progress().filled:
                capture.add_segment(number, _segment(place.scratch, number))
        spent = _threads_cpu_s() - before
        progress = capture.stop()
    finally:
        capture.close()
        os.close(root)
    assert writer.stdout, "it is a pipe"
    count, wall_ns, _ = map(int, writer.stdout.read().split())
    lost = sum(progress.lost.values())
    each, share = spent / count * 1e9, spent / wall_ns * 1e9
    return (
        f"{count:,} writes of {rate.size} B at {count / wall_ns * 1e9:,.0f}/s: {lost:,} lost; "
        f"thread {spent:.2f} s of CPU, {each:.0f} ns each, {share:.0%} of a processor; "
        f"{progress.batches:,} batches, {progress.bytes / 1e6:,.0f} MB"
    )


def main() -> None:
    """Measure both rates of the limits, and a slow one."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    place = Place.make(Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.gettempdir()))
    try:
        program = build(place.home)
        for rate in (*RATES, Rate("some writes", 100, 20_000, 10)):
            print(measure(rate, program, place, seconds or rate.seconds), flush=True)
    finally:
        place.close()


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCE))
    main()
