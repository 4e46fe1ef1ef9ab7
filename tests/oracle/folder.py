"""The manifest of a folder as it is now."""

from __future__ import annotations

import os
import resource
import stat
import time
from collections.abc import Container, Iterable, Iterator

from oracle.manifest import Content, Hasher, Manifest, State, with_links

_READ_BYTES = 1 << 20
_SETTLED_NS = 1_000_000_000  # a file changed more recently may change again within the grain of its ctime
_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}


class FolderReader:
    """Take manifests of a folder; files that did not change since the last one are not read again.

    Stores into a mapping may change bytes and no time: files that are mapped are always read; without a disk, all.
    """

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._known: dict[tuple[int, ...], Content] = {}
        self._names: dict[int, list[bytes]] = {}  # of each inode, when the last manifest was taken
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one descriptor a level of a deep tree

    def read(self, mapped: Container[int] = ()) -> Manifest:
        """Return the manifest of the folder as it is now; its own metadata is not part of it.

        ``mapped`` are the inodes that some process may store into.
        """
        states: Manifest = {}
        files: dict[bytes, object] = {}
        self._names = {}
        for path, fd, name, status in _walk(self._root):
            states[path] = self._state(fd, name, status, status.st_ino in mapped)
            files[path] = (status.st_dev, status.st_ino)
            self._names.setdefault(status.st_ino, []).append(path)
        return with_links(states, files)

    def names_of(self, inodes: Iterable[int]) -> frozenset[bytes]:
        """Return all names that the inodes had in the last manifest."""
        return frozenset(name for inode in inodes for name in self._names.get(inode, ()))

    def _state(self, fd: int, name: bytes, status: os.stat_result, is_mapped: bool) -> State:
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        return State(
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            s_dev(status.st_rdev),
            os.readlink(name, dir_fd=fd) if kind == "l" else b"",
            _xattrs(b"/proc/self/fd/%d/%s" % (fd, name)),
            b"",
            self._content(fd, name, status, is_mapped) if kind == "f" else None,
        )

    def _content(self, fd: int, name: bytes, status: os.stat_result, is_mapped: bool) -> Content:
        if is_mapped or os.major(status.st_dev) == 0:
            return _read(fd, name)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        content = self._known.get(key)
        if content is None:
            content = _read(fd, name)
            if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
                self._known[key] = content
        return content


def s_dev(device: int) -> int:
    """Return a device number as a trace has it."""
    return os.major(device) << 20 | os.minor(device)


def _walk(root: bytes) -> Iterator[tuple[bytes, int, bytes, os.stat_result]]:
    """Yield (path, descriptor of its directory, name, status) of all that is below a folder, however deep."""
    fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    waiting = [(b"", [os.fsencode(name) for name in os.listdir(fds[0])])]
    while waiting:
        path, names = waiting[-1]
        if not names:
            waiting.pop()
            os.close(fds.pop())
            continue
        name = names.pop()
        status = os.stat(name, dir_fd=fds[-1], follow_symlinks=False)
        yield path + name, fds[-1], name, status
        if stat.S_ISDIR(status.st_mode):
            fds.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fds[-1]))
            waiting.append((path + name + b"/", [os.fsencode(inner) for inner in os.listdir(fds[-1])]))


def _read(fd: int, name: bytes) -> Content:
    hasher = Hasher()
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME, dir_fd=fd), "rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            hasher.add(data)
    return hasher.content()


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    # XFS shows an access control list a second time, under a name of its own.
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted.SGI_ACL_")]
    return tuple(sorted((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names))
