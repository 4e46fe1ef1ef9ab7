"""Read and write at a place of an open file, also where the system has no call for it (Windows).

There the file's own position is moved: nobody else may use the descriptor meanwhile.
"""

from __future__ import annotations

import os


def read_at(descriptor: int, length: int, offset: int) -> bytes:
    """Return up to ``length`` bytes from ``offset`` on."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, length)


def _write_some(descriptor: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data``; raise OSError."""
    view = memoryview(data)
    while view:
        written = _write_some(descriptor, view, offset)
        view, offset = view[written:], offset + written


def allocate(descriptor: int, size: int) -> None:
    """Make room for ``size`` bytes; raise OSError. Where the system cannot promise room, the file gets that size."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
