"""Which files some processes have mapped shared and writable, so that they store into them without a system call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path


def mapped_inodes(pids: Iterable[int]) -> set[int]:
    """Return the inode numbers of the files that any of the processes has mapped so."""
    return {inode for pid in pids for inode in _of(pid)}


def _of(pid: int) -> Iterator[int]:
    """Yield those of one process; the form is that of /proc/PID/maps in proc(5)."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_bytes().splitlines()
    except OSError:  # it has ended
        return
    for line in lines:
        _, permissions, _, _, inode, *_ = line.split(None, 5)
        if permissions[1:2] == b"w" and permissions[3:4] == b"s" and inode != b"0":
            yield int(inode)
