"""Run diffkeeper as a user does: commands with their output and exit codes, a recording to be killed, its processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oracle.recorded import diffkeeper

QUIET_S = 20


def plain_environment(**more: str) -> dict[str, str]:
    """Return the environment without what could set options of diffkeeper."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIFFKEEPER_")}
    return {**kept, "DIFFKEEPER_PROCESS": "now", **more}


def run(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of diffkeeper to its end."""
    return subprocess.run(
        diffkeeper(*map(str, arguments)),
        cwd=cwd,
        env=plain_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wait_until(condition: Callable[[], object], seconds: float = QUIET_S) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)


def descendants(pid: int) -> dict[int, str]:
    """Return the processes below a process with their command lines."""
    parents: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        stat = _read(f"/proc/{entry}/stat").rpartition(")")[2].split()
        if stat:
            parents.setdefault(int(stat[1]), []).append(int(entry))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return {one: _read(f"/proc/{one}/cmdline").replace("\0", " ") for one in found[1:]}


def is_running(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be reaped does not."""
    state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(state) and state[0] != "Z"


def is_guardian(pid: int) -> bool:
    """Say whether a helper's process is the guardian, which must outlive it."""
    return _read(f"/proc/{pid}/comm").strip() == "dk-guardian"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def fingerprint(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return all that reading must not change: names, bytes, modes, inodes and times."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted((folder, *folder.rglob("*"))):
        stat = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[os.fspath(path.relative_to(folder))] = (
            digest,
            stat.st_mode,
            stat.st_ino,
            stat.st_mtime_ns,
            stat.st_nlink,
        )
    return found


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Yield a folder on a file system of that size; skips where nothing can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "none", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
