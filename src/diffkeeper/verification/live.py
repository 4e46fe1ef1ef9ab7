"""The live tree below a watch root: directories, metadata, extended attributes; no symlink is followed."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from types import TracebackType

from diffkeeper import beneath
from diffkeeper.baseline_index import open_below, s_dev
from diffkeeper.mounts import points_below
from diffkeeper.rules import Rules
from diffkeeper.store.format import RootFacts

_NO_XATTRS = frozenset({errno.ENOTSUP, getattr(errno, "ENODATA", errno.ENOTSUP)})


class RootGoneError(OSError):
    """Report that a watch root is not where it was."""


@dataclass(slots=True)
class Listing:
    """Hold an open directory, its own status just after it was listed, and the status of its entries."""

    fd: int
    status: os.stat_result
    entries: dict[bytes, os.stat_result]

    def close(self) -> None:
        """Close the descriptor."""
        beneath.close(self.fd)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Name what a recording leaves out: by rules, directories by (s_dev, inode), and paths that were mount points."""

    rules: Rules
    directories: frozenset[tuple[int, int]] = frozenset()
    mounts: frozenset[bytes] = field(default_factory=frozenset)


class LiveRoot:
    """Look at what is below a watch root, without what the recording leaves out; a context manager."""

    def __init__(self, root: RootFacts, label: bytes, left_out: LeftOut) -> None:
        """Open the root, whose paths begin with ``label``; raise RootGoneError if another directory is there now."""
        self._path = os.fsencode(root.path)
        self._prefix = label + b"/" if label else b""
        self._left_out = left_out
        self._mount_points = points_below(self._path)
        try:
            self.fd = beneath.open_directory(self._path)
        except OSError as error:
            raise RootGoneError(error.errno, f"{root.path} cannot be read") from error
        self.status = beneath.status(self.fd)
        self._devices = {self.status.st_dev}
        if root.ino and (s_dev(self.status.st_dev), self.status.st_ino) != (root.dev, root.ino):
            beneath.close(self.fd)
            raise RootGoneError(errno.ENOENT, f"{root.path} is another directory by now")

    def __enter__(self) -> LiveRoot:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the root."""
        beneath.close(self.fd)

    def list(self, below: bytes, expected: os.stat_result) -> Listing:
        """Open the directory at a path below the root and look at its entries; raises OSError.

        ``expected`` is what its status was: another directory there is an error.
        """
        fd = open_below(self.fd, below, expected)
        try:
            entries = self._entries(fd, below)
            return Listing(fd, beneath.status(fd), entries)
        except BaseException:
            beneath.close(fd)
            raise

    def _entries(self, fd: int, below: bytes) -> dict[bytes, os.stat_result]:
        entries = {}
        with beneath.scandir(fd) as listing:
            for entry in listing:
                try:
                    status = beneath.entry_status(entry)
                except FileNotFoundError:
                    continue
                if status.st_dev not in self._devices:  # a subvolume, a file of another layer, or a mount that is new
                    self._mount_points = points_below(self._path)
                    self._devices.add(status.st_dev)
                entries[os.fsencode(entry.name)] = status
        left_out = self._left_out
        if self._mount_points or left_out.rules or left_out.directories or left_out.mounts:
            prefix = below + b"/" if below else b""
            hidden = [name for name, status in entries.items() if self._is_hidden(prefix + name, status)]
            for name in hidden:
                del entries[name]
        return entries

    def _is_hidden(self, below: bytes, status: os.stat_result) -> bool:
        if not stat.S_ISDIR(status.st_mode):
            return self.is_left_out(below, is_directory=False)
        is_ours = (s_dev(status.st_dev), status.st_ino) in self._left_out.directories
        return is_ours or self.is_left_out(below, is_directory=True)

    def is_left_out(self, below: bytes, *, is_directory: bool) -> bool:
        """Say whether a path below the root is excluded, or is or was the mount point of something else."""
        if self._mount_points and os.path.join(self._path, below) in self._mount_points:
            return True
        path = self._prefix + below
        rules = self._left_out.rules
        return path in self._left_out.mounts or (bool(rules) and rules.is_excluded(path, is_directory))


def open_file(directory: int, name: bytes) -> int:
    """Open what may be a regular file for reading, without changing its access time where that is allowed."""
    return beneath.open_file(name, directory)


def read_xattrs(directory: int, name: bytes) -> dict[bytes, bytes] | None:
    """Return the extended attributes of an entry, None if they cannot be read."""
    if not hasattr(os, "listxattr"):
        return None
    path = beneath.join(directory, name)
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {os.fsencode(one): os.getxattr(path, one, follow_symlinks=False) for one in names}
    except OSError as error:
        return {} if error.errno in _NO_XATTRS else None
