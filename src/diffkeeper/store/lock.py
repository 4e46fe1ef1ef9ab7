"""A lock on an open file that goes when its process does: flock, on Windows a locked byte, nothing where neither is."""

from __future__ import annotations

import os
from typing import Any

_fcntl: Any = None
_msvcrt: Any = None
try:
    import fcntl as _fcntl
except ImportError:
    try:
        import msvcrt as _msvcrt
    except ImportError:
        _msvcrt = None

_BYTE = 1 << 30  # far behind anything that the file holds


def try_exclusive(descriptor: int) -> bool:
    """Take the lock for this process alone, without waiting; return whether that was possible."""
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        elif _msvcrt is not None:
            os.lseek(descriptor, _BYTE, os.SEEK_SET)
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    return True


def try_shared(descriptor: int) -> bool:
    """Take the lock together with others who do so, without waiting; return whether that was possible."""
    if _fcntl is None:
        return try_exclusive(descriptor)  # given back when the descriptor is closed
    try:
        _fcntl.flock(descriptor, _fcntl.LOCK_SH | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_exclusive(descriptor: int) -> None:
    """Take the lock for this process alone, waiting for it."""
    if _fcntl is not None:
        _fcntl.flock(descriptor, _fcntl.LOCK_EX)
    elif _msvcrt is not None:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        _msvcrt.locking(descriptor, _msvcrt.LK_LOCK, 1)
