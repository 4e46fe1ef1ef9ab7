"""Read bytes that are not in a trace from the files that still have them: the untouched ones of a base directory.

The recorded folder itself is the base unless another is named. A file of it has the bytes from before the command if
it is the same inode, of the same size and time, and changed in no way since the recording could no longer see it
(ctime); and the recording says that nobody wrote to it. Of a folder that the user names, a copy say, only size and time
can be compared. What does not agree in all this is not taken.

No symlink below the base is followed: a trace may come from a stranger.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from diffkeeper import beneath
from diffkeeper.model.values import dataclass
from diffkeeper.positional import read_at

_KEPT_FILES = 16
_KEPT_FOLDERS = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say what a file was before the command, and where it may be found: by paths below the base, the likeliest first.

    ``inode`` is (s_dev, inode), None where only size and time can tell; its ctime must be before ``before_ns``
    (CLOCK_REALTIME, 0 for any).
    """

    paths: Sequence[bytes]
    size: int
    mtime_ns: int
    inode: tuple[int, int] | None = None
    before_ns: int = 0


Find = Callable[[int], Wanted | None]


class Base:
    """Hand out the bytes of promised blobs as far as the base has them."""

    def __init__(self, folders: Sequence[tuple[bytes, bytes]], find: Find) -> None:
        """Look in ``folders``, (label that paths begin with, directory); ``find`` says what a blob was."""
        self._folders = folders
        self._find = find
        self._answers: dict[int, bool] = {}
        self._files: OrderedDict[int, tuple[int, os.stat_result]] = OrderedDict()
        self._directories: OrderedDict[bytes, int] = OrderedDict()

    def has(self, blob: int) -> bool:
        """Say whether a file of the base has the bytes of a blob."""
        known = self._answers.get(blob)
        if known is None:
            wanted = self._find(blob)
            known = self._answers[blob] = wanted is not None and self._place(wanted) is not None
        return known

    def read(self, blob: int, start: int, length: int) -> bytes | None:
        """Return bytes of a blob, None if they cannot be had or the file changed while it was read."""
        opened = self._opened(blob)
        if opened is None:
            return None
        fd, status = opened
        try:
            data = read_at(fd, length, start)
        except OSError:
            return None
        is_same = _signature(os.fstat(fd)) == _signature(status)
        return data if is_same and len(data) == length else None

    def close(self) -> None:
        """Close all descriptors."""
        for fd, _ in self._files.values():
            os.close(fd)
        for fd in self._directories.values():
            beneath.close(fd)
        self._files.clear()
        self._directories.clear()

    def _opened(self, blob: int) -> tuple[int, os.stat_result] | None:
        opened = self._files.get(blob)
        if opened is None:
            wanted = self._find(blob) if self._answers.get(blob, True) else None
            opened = self._open(wanted) if wanted is not None else None
            if opened is None:
                return None
            self._files[blob] = opened
            if len(self._files) > _KEPT_FILES:
                os.close(self._files.popitem(last=False)[1][0])
        self._files.move_to_end(blob)
        return opened

    def _open(self, wanted: Wanted) -> tuple[int, os.stat_result] | None:
        place = self._place(wanted)
        if place is None:
            return None
        try:
            fd = beneath.open_file(place[1], place[0])
        except OSError:
            return None
        status = os.fstat(fd)
        if _is_it(status, wanted, beneath.status(place[0])):
            return fd, status
        os.close(fd)
        return None

    def _place(self, wanted: Wanted) -> tuple[int, bytes] | None:
        """Return directory and name of the first file that is what is wanted."""
        for path in wanted.paths:
            above, _, name = path.rpartition(b"/")
            directory = self._directory(above)
            with contextlib.suppress(OSError):
                if directory >= 0 and _is_it(beneath.lstat(name, directory), wanted, beneath.status(directory)):
                    return directory, name
        return None

    def _directory(self, path: bytes) -> int:
        """Return an open directory by its path in the trace, -1 if it is not there."""
        fd = self._directories.get(path, -1)
        if fd < 0:
            fd = self._open_directory(path)
            if fd < 0:
                return -1
            self._directories[path] = fd
            if len(self._directories) > _KEPT_FOLDERS:
                beneath.close(self._directories.popitem(last=False)[1])
        self._directories.move_to_end(path)
        return fd

    def _open_directory(self, path: bytes) -> int:
        for label, folder in self._folders:
            below = path[len(label) :].lstrip(b"/") if path == label or path.startswith(label + b"/") else path
            if label and below is path:
                continue
            with contextlib.suppress(OSError):
                return _open_below(folder, below)
        return -1


def _open_below(folder: bytes, below: bytes) -> int:
    fd = beneath.open_directory(folder, follows=True)
    for name in _names(below):
        try:
            deeper = beneath.open_directory(name, fd)
        finally:
            beneath.close(fd)
        fd = deeper
    return fd


def _names(path: bytes) -> Iterator[bytes]:
    for name in path.split(b"/"):
        if name in (b".", b".."):
            raise FileNotFoundError(0, "a path of a trace leads nowhere but down")
        if name:
            yield name


def _is_it(status: os.stat_result, wanted: Wanted, folder: os.stat_result) -> bool:
    """Compare a file; on overlayfs one of a lower layer has a device of its own, and is known by that of its folder."""
    inodes = [None, *((beneath.s_dev(dev), status.st_ino) for dev in (status.st_dev, folder.st_dev))]
    return (
        stat.S_ISREG(status.st_mode)
        and (status.st_size, status.st_mtime_ns) == (wanted.size, wanted.mtime_ns)
        and wanted.inode in inodes
        and (not wanted.before_ns or status.st_ctime_ns < wanted.before_ns)
    )


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
