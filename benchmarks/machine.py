"""On what, and in whose company, something was measured."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path

BUSY_LOAD = 1.5
_LOOK_S = 5
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


def describe(place: Path) -> str:
    """Return the machine in one sentence."""
    memory = int(_first(r"MemTotal:\s+(\d+)", "/proc/meminfo", "0")) / 1024 / 1024
    model = _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo", platform.machine())
    kernel = re.sub(r"[^\d.].*", "", platform.release())
    version = ".".join(map(str, sys.version_info[:2]))
    system = f"Linux {kernel}, {file_system(place)}, Python {version}"
    return f"{os.cpu_count()} processors ({model}), {memory:.0f} GiB, {system}"


def company() -> list[str]:
    """Return what else goes on that would spoil measurements, empty if nothing does."""
    found = []
    if os.getloadavg()[0] > BUSY_LOAD:
        found.append(f"a load of {os.getloadavg()[0]:.1f}")
    if others := _recorders():
        found.append(f"{others} other recorders attached")
    if _STATS.exists() and _STATS.read_text().strip() == "1":
        found.append("kernel.bpf_stats_enabled is 1, which adds to every call")
    return found


def wait_until_alone(minutes: float) -> list[str]:
    """Wait until nothing else goes on, but not for longer than that; return what still does."""
    end = time.monotonic() + minutes * 60
    while (found := company()) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return found


def file_system(place: Path) -> str:
    """Return the type of the file system that a folder is on."""
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mount, kind = line.split()[1:3]
        if str(place.resolve()).startswith(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def _recorders() -> int:
    """Return how many processes have BPF programs open; as far as we may look."""
    return sum(_has_programs(folder) for folder in Path("/proc").glob("[0-9]*/fd"))


def _has_programs(folder: Path) -> bool:
    try:
        return any("bpf-prog" in os.readlink(entry.path) for entry in os.scandir(folder))
    except OSError:
        return False


def _first(pattern: str, path: str, default: str) -> str:
    found = re.search(pattern, Path(path).read_text())
    return found[1].strip() if found else default
