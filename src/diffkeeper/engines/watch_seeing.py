"""What the system says of one entry of the tree: by a path, of which any part may be another by the next call."""

from __future__ import annotations

import errno
import os
import stat

from diffkeeper.engines.watch_mirror import Folder
from diffkeeper.model.attributes import is_second_name

NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors that say of a path that something on it is gone, or something else by now."""


def key_of(status: os.stat_result) -> tuple[int, int]:
    """Return (device, inode), as the mirror has them."""
    return status.st_dev & (1 << 64) - 1, status.st_ino & (1 << 64) - 1


def look_at(path: bytes) -> os.stat_result | None:
    """Return what lstat says, None where there is nothing of that name; raise OSError where that cannot be told."""
    try:
        return os.lstat(path)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def target_of(folder: Folder, name: bytes, status: os.stat_result) -> bytes:
    """Return where a symbolic link leads, empty for anything else and where that cannot be read."""
    if not stat.S_ISLNK(status.st_mode):
        return b""
    try:
        return os.readlink(os.path.join(folder.path, name))
    except OSError:
        return b""


def xattrs_of(path: bytes) -> tuple[tuple[bytes, bytes], ...] | None:
    """Return the extended attributes of an entry, None where they cannot be read."""
    if not hasattr(os, "listxattr"):
        return None
    try:
        names = map(os.fsencode, os.listxattr(path, follow_symlinks=False))
        return tuple(
            (name, os.getxattr(path, name, follow_symlinks=False)) for name in names if not is_second_name(name)
        )
    except OSError:
        return None
