"""Walk a tree and read the metadata of every entry, without following a symlink or crossing into another mount.

What is found is handed on one directory at a time, a directory before what is in it. Nothing is changed by looking,
not even access times where the file system lets that be asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import field

from diffkeeper import beneath, mounts, native
from diffkeeper.baseline_format import NO_PARENT
from diffkeeper.errors import RecordError
from diffkeeper.model.attributes import is_second_name
from diffkeeper.model.observation import Inode
from diffkeeper.model.values import dataclass
from diffkeeper.rules import Rules

GENERATION_UNKNOWN = -1
_LONGEST_PATH_BYTES = 4000  # PATH_MAX is 4,096 with the NUL; deeper directories are reached in several steps
_NO_XATTRS = frozenset({errno.ENOTSUP, getattr(errno, "ENODATA", errno.ENOTSUP), errno.ENOENT, errno.ENOTDIR})


@dataclass(slots=True)
class Found:
    """Hold one entry as the walk found it; ``status`` is what lstat said."""

    index: int
    parent: int
    name: bytes
    path: bytes  # as the trace has it
    status: os.stat_result
    seen_ns: int
    generation: int = GENERATION_UNKNOWN
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    is_kept: bool = False  # its content is read at once
    is_large: bool = False  # its content is copied when it is about to change
    device: int = 0  # as the kernel numbers it (s_dev); 0: that of the status. overlayfs may show another in a status
    is_excluded: bool = False  # in the index, so that events can be placed, but its content is not read


@dataclass(slots=True)
class Directory:
    """Hold an open directory and the entries found in it; close it when nothing more is to be read there."""

    fd: int
    entries: list[Found]

    def close(self) -> None:
        """Close the descriptor."""
        beneath.close(self.fd)


@dataclass(frozen=True, slots=True)
class Unread:
    """Name an entry of which a part could not be read, and why."""

    path: bytes
    reason: str


@dataclass(slots=True)
class WalkReport:
    """Collect what the walks of all roots left out."""

    unread: list[Unread] = field(default_factory=list)
    mounts_left_out: list[bytes] = field(default_factory=list)
    entries: int = 0


def s_dev(st_dev: int) -> int:
    """Return a device number as the kernel writes it inside (major << 20 | minor)."""
    return beneath.s_dev(st_dev)


def inode_of(status: os.stat_result, generation: int, device: int = 0) -> Inode:
    """Return identity and metadata from what stat said; ``device`` where that is another one than the kernel's."""
    return Inode(
        device or s_dev(status.st_dev), status.st_ino, generation, status.st_mode, status.st_nlink, status.st_uid,
        status.st_gid, status.st_size, status.st_mtime_ns, s_dev(status.st_rdev),
    )  # fmt: skip


class Walk:
    """Walk one root; ``directories`` yields what is found."""

    def __init__(
        self, root: bytes, label: bytes, rules: Rules, skip: frozenset[tuple[int, int]], report: WalkReport
    ) -> None:
        """Open the root; ``label`` is what paths of the trace begin with, empty for a single root.

        ``skip`` holds (st_dev as s_dev, inode) of directories that are never looked at: the trace itself.
        """
        self._root = os.path.realpath(root)
        self._label = label
        self._rules = rules
        self._skip = skip
        self._report = report
        self._mount_points = mounts.points_below(self._root)
        try:
            self._root_fd = beneath.open_directory(self._root)
        except OSError as error:
            raise RecordError(f"watch root {os.fsdecode(root)} cannot be read: {error.strerror}") from error
        self._device = beneath.status(self._root_fd).st_dev
        self._devices = {self._device}  # of what is no other mount: btrfs and overlayfs show more than one
        kind = mounts.kind_of(self._root_fd)
        self._has_devices = kind in (b"btrfs", b"overlay")
        self._layers: dict[int, int] | None = {} if kind == b"overlay" else None

    @property
    def is_selective(self) -> bool:
        """Say whether paths must be looked at one by one.

        Some are excluded, something is mounted at them, or the file system shows several devices.
        """
        return bool(self._rules) or bool(self._mount_points) or self._has_devices

    @property
    def fd(self) -> int:
        """Return the root's descriptor."""
        return self._root_fd

    @property
    def device(self) -> int:
        """Return the root's st_dev."""
        return self._device

    @property
    def report(self) -> WalkReport:
        """Return what all walks have in common."""
        return self._report

    def path_of(self, below: bytes) -> bytes:
        """Return the path of the trace of a path below the root."""
        return self._label + b"/" + below if self._label and below else self._label or below

    def close(self) -> None:
        """Close the root; ``directories`` does it at its end."""
        beneath.close(self._root_fd)

    def directories(self, first: Found) -> Iterator[Directory]:
        """Yield each directory from the root on, whose entry is ``first``, with its entries; the caller closes them."""
        pending = [first]
        try:
            while pending:
                parent = pending.pop()
                directory = self._read(parent)
                if directory is not None:
                    pending += [found for found in directory.entries if stat.S_ISDIR(found.status.st_mode)]
                    yield directory
        finally:
            beneath.close(self._root_fd)

    def root_entry(self) -> Found:
        """Return the entry of the root itself."""
        seen_ns = time.monotonic_ns()
        found = Found(self._report.entries, NO_PARENT, b"", self._label, beneath.status(self._root_fd), seen_ns)
        self._report.entries += 1
        found.generation = _generations(self._root_fd, [b""])[0]
        found.xattrs = self._xattrs(beneath.join(self._root_fd, b""), found, follow=True)
        return found

    def _read(self, parent: Found) -> Directory | None:
        """Open a directory and read the metadata of its entries; None when it cannot be read, which is reported."""
        relative = parent.path[len(self._label) :].lstrip(b"/")
        try:
            fd = open_below(self._root_fd, relative, parent.status)
        except OSError as error:
            self._unread(parent, f"directory not read: {error.strerror}")
            return None
        try:
            return Directory(fd, self._read_entries(fd, parent))
        except OSError as error:
            beneath.close(fd)
            self._unread(parent, f"directory not read: {error.strerror}")
            return None

    def _unread(self, found: Found, reason: str) -> None:
        """Note what could not be read, if the trace should have it."""
        if not found.is_excluded:
            self._report.unread.append(Unread(found.path, reason))

    def _read_entries(self, fd: int, parent: Found) -> list[Found]:
        """Read the metadata of all entries of an open directory, by inode number, which spares a disk its seeks."""
        with beneath.scandir(fd) as listing:
            names = [os.fsencode(entry.name) for entry in sorted(listing, key=os.DirEntry.inode)]
        entries = [found for name in names if (found := self._look(fd, parent, name)) is not None]
        generations = _generations(fd, [found.name for found in entries])
        for found, generation in zip(entries, generations, strict=True):
            found.generation = generation
            self._read_rest(fd, found)
        return entries

    def _look(self, fd: int, parent: Found, name: bytes) -> Found | None:
        """Return an entry, or None when it vanished or is to be left out."""
        seen_ns = time.monotonic_ns()
        path = parent.path + b"/" + name if parent.path else name
        try:
            status = beneath.lstat(name, fd)
        except FileNotFoundError:
            return None  # it was removed since the listing; the engine saw that
        except OSError as error:
            if not parent.is_excluded:
                self._report.unread.append(Unread(path, f"metadata not read: {error.strerror}"))
            return None
        if self._is_left_out(path, status):
            return None
        found = Found(self._report.entries, parent.index, name, path, status, seen_ns)
        found.device = s_dev(self._device if self._layers is not None else status.st_dev)
        self._check_layer(found)
        found.is_excluded = parent.is_excluded or self._rules.is_excluded(path, stat.S_ISDIR(status.st_mode))
        self._report.entries += 1
        return found

    def _check_layer(self, found: Found) -> None:
        """Report a file whose number another one bears in another layer of an overlay: events would be taken for it."""
        status = found.status
        if self._layers is None or stat.S_ISDIR(status.st_mode):
            return
        if self._layers.setdefault(status.st_ino, status.st_dev) != status.st_dev:
            self._unread(found, "a file of another layer has its inode number")

    def _is_left_out(self, path: bytes, status: os.stat_result) -> bool:
        """Say whether an entry is another mount or the trace itself."""
        if status.st_dev not in self._devices:  # a subvolume, a file of another layer, or a mount that is new
            self._mount_points = mounts.points_below(self._root)
        if self._mount_points and self._absolute(path) in self._mount_points:
            self._report.mounts_left_out.append(path)
            return True
        self._devices.add(status.st_dev)
        return (s_dev(status.st_dev), status.st_ino) in self._skip

    def _absolute(self, path: bytes) -> bytes:
        """Return the absolute path of a path of the trace."""
        return os.path.join(self._root, path[len(self._label) :].lstrip(b"/"))

    def _read_rest(self, fd: int, found: Found) -> None:
        """Read what lstat does not tell: the target of a symlink, and extended attributes."""
        if stat.S_ISLNK(found.status.st_mode):
            with contextlib.suppress(OSError):  # it was removed or replaced; the engine saw that
                found.target = beneath.readlink(found.name, fd)
        found.xattrs = self._xattrs(beneath.join(fd, found.name), found, follow=False)

    def _xattrs(self, path: bytes, found: Found, *, follow: bool) -> tuple[tuple[bytes, bytes], ...]:
        """Return the extended attributes of an entry; what cannot be read is reported."""
        if not hasattr(os, "listxattr"):
            return ()
        try:
            names = map(os.fsencode, os.listxattr(path, follow_symlinks=follow))
            return tuple(
                (name, os.getxattr(path, name, follow_symlinks=follow)) for name in names if not is_second_name(name)
            )
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                self._unread(found, f"extended attributes not read: {error.strerror}")
            return ()


def _generations(fd: int, names: list[bytes]) -> list[int]:
    return native.inode_generations(fd, names) if beneath.HAS_DESCRIPTORS else [GENERATION_UNKNOWN] * len(names)


def open_below(root_fd: int, relative: bytes, expected: os.stat_result) -> int:
    """Open a directory below the root and make sure that it is the one that was seen there.

    The check is what keeps a directory that was swapped for a symlink from leading the walk out of the root.
    """
    return open_known(root_fd, relative, (expected.st_dev, expected.st_ino))


def open_known(root_fd: int, relative: bytes, identity: tuple[int, int]) -> int:
    """Open a directory below the root that is known by its (st_dev, inode)."""
    fd = _open_in_steps(root_fd, relative)
    status = beneath.status(fd)
    if (status.st_dev, status.st_ino) == identity:
        return fd
    beneath.close(fd)
    raise FileNotFoundError(0, "replaced by another entry while the tree was read")


def _open_in_steps(root_fd: int, relative: bytes) -> int:
    """Open a directory below the root however long its path is."""
    fd = beneath.open_directory(b".", root_fd)
    while relative:
        step, relative = _first_step(relative)
        try:
            deeper = beneath.open_directory(step, fd)
        finally:
            beneath.close(fd)
        fd = deeper
    return fd


def _first_step(relative: bytes) -> tuple[bytes, bytes]:
    """Split a path into what one open can take, and the rest."""
    if len(relative) <= _LONGEST_PATH_BYTES:
        return relative, b""
    cut = relative.rindex(b"/", 0, _LONGEST_PATH_BYTES)
    return relative[:cut], relative[cut + 1 :]
