"""The clock that file systems stamp inodes with: it stands still for a tick, and all that changes has one time."""

from __future__ import annotations

import sys
import time

_CLOCK_REALTIME_COARSE = 5  # linux/time.h
_STEP_S = 0.0005
_MOST_STEPS = 40  # two ticks at 100 Hz


def file_time_ns() -> int:
    """Return the time that a change would bear now; what bears an earlier one is older than this call."""
    if sys.platform != "linux" or not hasattr(time, "clock_gettime_ns"):
        return time.time_ns()
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def next_file_time_ns() -> int:
    """Wait, for a tick at most, until what changes has a later ctime than what has changed by now; return that time."""
    now = time.time_ns()
    for _ in range(_MOST_STEPS):
        tick = file_time_ns()
        if tick > now:
            return tick
        time.sleep(_STEP_S)
    return now  # the clock was set back meanwhile
