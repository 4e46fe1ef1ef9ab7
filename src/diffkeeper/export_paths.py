"""A tree → a directory by paths, on systems that have no descriptors of directories (Windows).

No symlink is followed: each directory on the way is looked at before something is put into it. Between the look and the
deed somebody else could swap it; where that matters, export to a tar.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from diffkeeper.errors import UsageError
from diffkeeper.export_target import SkippedError, check_place
from diffkeeper.model.answers import Entry
from diffkeeper.model.exported import Remark
from diffkeeper.positional import write_at

Chunks = Iterator[tuple[int, bytes]]


class PathFolder:
    """Rebuild entries below a directory; owners and extended attributes are left as they come."""

    keeps_holes = True

    def __init__(self, out: str, *, force: bool = False) -> None:
        """Check the place without touching it; raises UsageError if it cannot be used."""
        self.owners_left = 0
        self._out = out
        self._force = force
        self._known: dict[bytes, Entry] = {}
        self._made: dict[bytes, None] = {}  # in order; parents first
        self._names: dict[int, bytes] = {}  # of files with several names, the one that was written
        self._remarks: list[Remark] = []
        check_place(out, force)

    def __enter__(self) -> Self:
        """Make the directory."""
        try:
            os.makedirs(self._out, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot export to {self._out!r}: {error.strerror}; name another directory with --out"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: nothing is open."""

    @property
    def place(self) -> str:
        """Return the path of the directory."""
        return self._out

    def know_top(self, entry: Entry) -> None:
        """Leave the place itself as it is."""

    def know_directory(self, entry: Entry) -> None:
        """Take note of a directory that may be needed above an entry."""
        self._known[entry.path] = entry

    def put(self, entry: Entry, chunks: Chunks) -> bool:
        """Make an entry with its content and attributes; return False if it is another name of a file that was made."""
        if entry.kind == "d":
            self._enter(entry.path)
            return True
        self._enter(entry.path.rpartition(b"/")[0])
        path = self._path(entry.path)
        self._clear(path)
        first = self._names.get(entry.links) if entry.meta.nlink > 1 else None
        if first is not None:
            os.link(self._path(first), path)
            return False
        self._make(entry, path, chunks)
        if entry.meta.nlink > 1:
            self._names[entry.links] = entry.path
        return True

    def finish(self) -> list[Remark]:
        """Set the attributes of directories, from the deepest up."""
        for path in reversed(self._made):
            entry = self._known.get(path)
            if entry is not None:
                try:
                    _set_attributes(self._path(path), entry)
                except (OSError, ValueError, OverflowError) as error:
                    self._remarks.append(Remark(path, f"attributes: {error}"))
        return self._remarks

    def _path(self, path: bytes) -> str:
        if os.name == "nt" and any(sign in path for sign in (b":", b"\\")):
            raise SkippedError("this system has no such names")
        return os.path.join(self._out, *os.fsdecode(path).split("/"))

    def _enter(self, path: bytes) -> None:
        """Make a directory and those above it, unless they were made."""
        if not path or path in self._made:
            return
        self._enter(path.rpartition(b"/")[0])
        place = self._path(path)
        if os.path.lexists(place):
            if not self._force:
                raise SkippedError("something of that name is in the way")
            if not stat.S_ISDIR(os.lstat(place).st_mode):
                os.unlink(place)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o700)
        self._made[path] = None

    def _clear(self, path: str) -> None:
        """Remove what stands in the way, if that was allowed; a directory only if it is empty."""
        if not os.path.lexists(path):
            return
        if not self._force:
            raise SkippedError("something of that name is in the way")
        try:
            (os.rmdir if stat.S_ISDIR(os.lstat(path).st_mode) else os.unlink)(path)
        except OSError:
            raise SkippedError("a directory that is not empty is in the way") from None

    def _make(self, entry: Entry, path: str, chunks: Chunks) -> None:
        if entry.kind == "f":
            self._make_file(entry, path, chunks)
        elif entry.kind == "l":
            os.symlink(os.fsdecode(entry.target), path)
        else:
            raise SkippedError("this system has nothing of that kind")

    def _make_file(self, entry: Entry, path: str, chunks: Chunks) -> None:
        try:
            with open(path, "xb") as file:
                for offset, data in chunks:
                    write_at(file.fileno(), data, offset)
                os.ftruncate(file.fileno(), entry.size)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)  # half a file is worse than none
            raise
        _set_attributes(path, entry)


def _set_attributes(path: str, entry: Entry) -> None:
    os.chmod(path, stat.S_IMODE(entry.meta.mode) & 0o777)
    os.utime(path, ns=(entry.meta.mtime_ns, entry.meta.mtime_ns))
