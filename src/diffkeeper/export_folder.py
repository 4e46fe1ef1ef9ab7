"""A tree → a directory, from descriptor to descriptor: no path of the trace is ever given to the kernel as a whole.

Every directory is opened below its parent's descriptor with O_NOFOLLOW and every file made with O_EXCL, so that neither
a symlink of the trace nor one that stands in the way leads out. A file's attributes are set through its descriptor.
Those of directories come last and from the deepest up: writing into them changes their times and needs permission.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from diffkeeper.errors import UsageError
from diffkeeper.export_target import SkippedError, check_place
from diffkeeper.model.answers import Entry
from diffkeeper.model.event import Meta
from diffkeeper.model.exported import Remark

Chunks = Iterator[tuple[int, bytes]]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_OPEN = 64  # directories; a tree may be deeper than descriptors are allowed
_SET_ID = stat.S_ISUID | stat.S_ISGID


class Folder:
    """Rebuild entries below a directory."""

    keeps_holes = True

    def __init__(self, out: str, *, force: bool = False) -> None:
        """Check the place without touching it; raises UsageError if it cannot be used."""
        self.owners_left = 0
        self._out = out
        self._force = force
        self._known: dict[bytes, Entry] = {}
        self._made: dict[bytes, None] = {}  # in order; parents first
        self._names: dict[int, bytes] = {}  # of files with several names, the one that was written
        self._open: list[tuple[bytes, int]] = []  # from the top down, the top always
        self._remarks: list[Remark] = []
        self._user = os.geteuid()
        self._groups = {os.getegid(), *os.getgroups()}
        self._is_fresh = check_place(out, force)

    def __enter__(self) -> Self:
        """Make the directory and open it; the user's own path to it may lead through symlinks."""
        try:
            os.makedirs(self._out, exist_ok=True)
            top = os.open(self._out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"cannot export to {self._out!r}: {error.strerror}; name another directory with --out"
            ) from error
        self._open = [(b"", top)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all descriptors."""
        while self._open:
            os.close(self._open.pop()[1])

    @property
    def place(self) -> str:
        """Return the path of the directory."""
        return self._out

    def know_top(self, entry: Entry) -> None:
        """Let a place that was new or empty become what the top was; one that holds other things stays as it is."""
        if self._is_fresh:
            self._known[b""] = replace(entry, path=b"")
            self._made[b""] = None

    def know_directory(self, entry: Entry) -> None:
        """Take note of a directory that may be needed above an entry."""
        self._known[entry.path] = entry

    def put(self, entry: Entry, chunks: Chunks) -> bool:
        """Make an entry with its content and attributes; return False if it is another name of a file that was made."""
        if entry.kind == "d":
            self._enter(entry.path)
            return True
        above, _, name = entry.path.rpartition(b"/")
        folder = self._enter(above)
        if self._link(entry, folder, name):
            return False
        self._make(entry, folder, name, chunks)
        if entry.meta.nlink > 1:
            self._names[entry.links] = entry.path
        return True

    def finish(self) -> list[Remark]:
        """Set the attributes of directories, from the deepest up."""
        for path in reversed(self._made):
            entry = self._known.get(path)
            if entry is not None:
                try:
                    self._set_attributes(self._enter(path), entry)
                except (OSError, ValueError, OverflowError) as error:
                    self._remarks.append(Remark(path, f"attributes: {error}"))
        return self._remarks

    # --- directories ---

    def _enter(self, path: bytes) -> int:
        """Return the descriptor of a directory below the top; makes it and those above it if they were not yet made."""
        while not _is_at_or_below(path, self._open[-1][0]):
            os.close(self._open.pop()[1])
        at, descriptor = self._open[-1]
        for name in path[len(at) :].lstrip(b"/").split(b"/") if path != at else ():
            at = at + b"/" + name if at else name
            descriptor = self._open_below(descriptor, name, at)
            self._open.append((at, descriptor))
            if len(self._open) > _MOST_OPEN:
                os.close(self._open.pop(1)[1])
        return descriptor

    def _open_below(self, folder: int, name: bytes, path: bytes) -> int:
        if path not in self._made:
            self._make_directory(folder, name)
            self._made[path] = None
        return os.open(name, _OPEN_DIRECTORY, dir_fd=folder)

    def _make_directory(self, folder: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            if not self._force:
                raise SkippedError("something of that name is in the way") from None
            if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=folder)
                os.mkdir(name, 0o700, dir_fd=folder)

    # --- everything else ---

    def _link(self, entry: Entry, folder: int, name: bytes) -> bool:
        first = self._names.get(entry.links) if entry.meta.nlink > 1 else None
        if first is None:
            return False
        above, _, first_name = first.rpartition(b"/")
        # _enter may close the least recent descriptors, never the top: hold this one.
        held = os.dup(folder)
        try:
            source = self._enter(above)
            self._clear(held, name)
            os.link(first_name, name, src_dir_fd=source, dst_dir_fd=held, follow_symlinks=False)
        finally:
            os.close(held)
        return True

    def _make(self, entry: Entry, folder: int, name: bytes, chunks: Chunks) -> None:
        self._clear(folder, name)
        if entry.kind == "f":
            self._make_file(entry, folder, name, chunks)
        elif entry.kind == "l":
            os.symlink(entry.target, name, dir_fd=folder)
            self._set_link_attributes(entry, folder, name)
        else:
            self._make_node(entry, folder, name)

    def _make_file(self, entry: Entry, folder: int, name: bytes, chunks: Chunks) -> None:
        descriptor = os.open(name, _MAKE_FILE, 0o600, dir_fd=folder)
        try:
            end = _write(descriptor, chunks)
            if end != entry.size:
                os.ftruncate(descriptor, entry.size)
            self._set_attributes(descriptor, entry)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)  # half a file is worse than none
            raise
        finally:
            os.close(descriptor)

    def _make_node(self, entry: Entry, folder: int, name: bytes) -> None:
        file_type = stat.S_IFMT(entry.meta.mode)
        if entry.kind in "cb" and self._user != 0:
            raise SkippedError("only root can make device nodes")
        device = os.makedev(entry.meta.rdev >> 20, entry.meta.rdev & 0xFFFFF) if entry.kind in "cb" else 0
        os.mknod(name, file_type | 0o600, device, dir_fd=folder)
        # Opening a fifo or a device would act on it; O_PATH only names it, and /proc leads to what it names.
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            self._set_attributes(f"/proc/self/fd/{descriptor}", entry)
        finally:
            os.close(descriptor)

    def _clear(self, folder: int, name: bytes) -> None:
        """Remove what stands in the way, if that was allowed; a directory only if it is empty."""
        if self._is_fresh:
            return  # there was nothing; what makes the entry fails if somebody else put something there
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not self._force:
            raise SkippedError("something of that name is in the way")
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=folder)
            return
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError:
            raise SkippedError("a directory that is not empty is in the way") from None

    # --- attributes ---

    def _set_attributes(self, place: int | str, entry: Entry) -> None:
        """Set owner, xattrs, mode and times, in this order: a change of owner clears set-id bits and capabilities."""
        mode = stat.S_IMODE(entry.meta.mode)
        if not self._set_owner(place, entry.meta):
            self.owners_left += 1
            mode &= ~_SET_ID  # they would hand out the rights of another user than they did
        self._set_xattrs(place, entry)
        os.chmod(place, mode)
        os.utime(place, ns=(entry.meta.mtime_ns, entry.meta.mtime_ns))

    def _set_owner(self, place: int | str, meta: Meta) -> bool:
        if self._user != 0 and (meta.uid != self._user or meta.gid not in self._groups):
            return False
        try:
            os.chown(place, meta.uid if self._user == 0 else -1, meta.gid)
        except OSError:
            return False
        return True

    def _set_xattrs(self, place: int | str, entry: Entry, *, follow_symlinks: bool = True) -> None:
        for name, value in entry.xattrs.items():
            try:
                os.setxattr(place, name, value, follow_symlinks=follow_symlinks)
            except (OSError, ValueError) as error:
                reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
                self._remarks.append(Remark(entry.path, f"xattr {os.fsdecode(name)!r}: {reason}"))

    def _set_link_attributes(self, entry: Entry, folder: int, name: bytes) -> None:
        meta = entry.meta
        if self._user == 0:
            os.chown(name, meta.uid, meta.gid, dir_fd=folder, follow_symlinks=False)
        elif meta.uid != self._user:
            self.owners_left += 1
        if entry.xattrs:
            self._set_xattrs(f"/proc/self/fd/{folder}/{os.fsdecode(name)}", entry, follow_symlinks=False)
        os.utime(name, ns=(meta.mtime_ns, meta.mtime_ns), dir_fd=folder, follow_symlinks=False)


def _is_at_or_below(path: bytes, top: bytes) -> bool:
    return not top or path == top or path.startswith(top + b"/")


def _write(descriptor: int, chunks: Chunks) -> int:
    """Write chunks at their offsets; return the end of the last one."""
    end = 0
    for offset, data in chunks:
        view = memoryview(data)
        end = offset
        while view:
            written = os.pwrite(descriptor, view, end)
            end += written
            view = view[written:]
    return end
