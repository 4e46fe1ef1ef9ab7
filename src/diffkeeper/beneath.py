"""What lies below an open directory: by descriptor, where the system has descriptors of directories, else by path.

With descriptors nobody can swap a directory for a symlink on the way. Without them (Windows) a number stands for a
path, and only its last component is known not to be one.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat as modes
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

HAS_DESCRIPTORS = hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd and os.scandir in os.supports_fd

_FIRST_NUMBER = 1 << 30
_numbers = itertools.count(_FIRST_NUMBER)
_paths: dict[int, bytes] = {}


def flags(*names: str) -> int:
    """Return the flags for ``os.open`` of those names that this system has."""
    bits = 0
    for name in names:
        bits |= getattr(os, name, 0)
    return bits


CLOEXEC = flags("O_CLOEXEC", "O_NOINHERIT", "O_BINARY")
READ_FILE = CLOEXEC | flags("O_RDONLY", "O_NOFOLLOW", "O_NONBLOCK")
_READ_DIRECTORY = CLOEXEC | flags("O_RDONLY", "O_DIRECTORY")
_NOFOLLOW = flags("O_NOFOLLOW")
_NOATIME = flags("O_NOATIME")


def open_directory(path: bytes | str, dir_fd: int | None = None, *, follows: bool = False) -> int:
    """Open a directory, without changing its access time where that is allowed (owner or root)."""
    if not HAS_DESCRIPTORS:
        return _number_of(path, dir_fd, follows=follows)
    wanted = _READ_DIRECTORY if follows else _READ_DIRECTORY | _NOFOLLOW
    try:
        return os.open(path, wanted | _NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(path, wanted, dir_fd=dir_fd)


def _number_of(path: bytes | str, dir_fd: int | None, *, follows: bool) -> int:
    full = os.fsencode(path) if dir_fd is None else join(dir_fd, os.fsencode(path))
    found = os.stat(full) if follows else os.lstat(full)
    if not modes.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), full)
    number = next(_numbers)
    _paths[number] = full
    return number


def join(dir_fd: int, name: bytes) -> bytes:
    """Return a path that leads to a name in an open directory."""
    if HAS_DESCRIPTORS:
        # For some things no call takes a descriptor (listxattr before Linux 6.13): its own path stands in for it.
        return b"/proc/self/fd/%d/%s" % (dir_fd, name or b".")
    return os.path.join(_paths[dir_fd], name) if name not in (b"", b".") else _paths[dir_fd]


def close(fd: int) -> None:
    """Close an open directory, or a file."""
    if _paths.pop(fd, None) is None:
        os.close(fd)


def dup(fd: int) -> int:
    """Return another number for an open directory."""
    if fd not in _paths:
        return os.dup(fd)
    number = next(_numbers)
    _paths[number] = _paths[fd]
    return number


def status(fd: int) -> os.stat_result:
    """Return what fstat says of an open directory, or file."""
    return os.stat(_paths[fd]) if fd in _paths else os.fstat(fd)


def scandir(fd: int) -> AbstractContextManager[Iterator[os.DirEntry[Any]]]:
    """List an open directory; names are bytes or text, as the system gives them."""
    return os.scandir(_paths[fd]) if fd in _paths else os.scandir(fd)


def entry_status(entry: os.DirEntry[Any]) -> os.stat_result:
    """Return what lstat says of an entry of a listing; on Windows the listing's own status lacks the inode."""
    return entry.stat(follow_symlinks=False) if os.name == "posix" else os.lstat(entry.path)


def lstat(name: bytes, dir_fd: int) -> os.stat_result:
    """Return what lstat says of a name in an open directory."""
    if dir_fd in _paths:
        return os.lstat(join(dir_fd, name))
    return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)


def open_file(name: bytes, dir_fd: int) -> int:
    """Open what may be a regular file for reading, without changing its access time where that is allowed."""
    if dir_fd in _paths:
        return os.open(join(dir_fd, name), READ_FILE)
    try:
        return os.open(name, READ_FILE | _NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, READ_FILE, dir_fd=dir_fd)


def readlink(name: bytes, dir_fd: int) -> bytes:
    """Return the target of a symbolic link in an open directory."""
    return os.readlink(join(dir_fd, name)) if dir_fd in _paths else os.readlink(name, dir_fd=dir_fd)


def s_dev(st_dev: int) -> int:
    """Return a device number as the kernel writes it inside (major << 20 | minor); elsewhere the system's own."""
    return os.major(st_dev) << 20 | os.minor(st_dev) if hasattr(os, "major") else st_dev & (1 << 64) - 1
