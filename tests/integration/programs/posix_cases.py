"""Every call that changes names or metadata, on every kind of path, as root and as nobody: what does it answer?

Prints a line a case: the call, its arguments by kind, errno or ``ok``, and what stands in the folder afterwards. Two
runs on one file system print the same, recorded or not; what POSIX demands is not judged here, only that nothing of it
changes. Usage: posix_cases.py FOLDER
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import shutil
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator

NOBODY = 65534
LONG, TOO_LONG = "n" * 255, "n" * 256
OLD_NS = 1_000_000_000 * 10**9
libc = ctypes.CDLL(None, use_errno=True)


def _file(path: str) -> None:
    with open(path, "w") as file:
        file.write("bytes of " + os.path.basename(path))


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


def _full_folder(path: str) -> None:
    os.mkdir(path)
    _file(path + "/inside")


def _of_another(path: str) -> None:
    _file(path)
    os.chown(path, 4321, 4321)
    os.chmod(path, 0o600)


def _in_sticky(path: str) -> None:
    os.mkdir(os.path.dirname(path))
    _of_another(path)
    os.chmod(os.path.dirname(path), 0o1777)


def _in_closed(path: str) -> None:
    os.mkdir(os.path.dirname(path))
    _file(path)
    os.chmod(os.path.dirname(path), 0o500)


def _set_id(path: str) -> None:
    _file(path)
    os.chmod(path, 0o6755)


def _two_links(path: str) -> None:
    _file(path)
    os.link(path, path + ".second")


# kind: (name below the case's folder, how it is made)
KINDS: dict[str, tuple[str, Callable[[str], None] | None]] = {
    "missing": ("missing", None),
    "file": ("file", _file),
    "two links": ("linked", _two_links),
    "another's file": ("another", _of_another),
    "set-id file": ("setid", _set_id),
    "folder": ("folder", os.mkdir),
    "full folder": ("full", _full_folder),
    "symlink to a file": ("to_file", lambda path: (_file(path + ".target"), os.symlink("to_file.target", path))[0]),
    "symlink to a folder": ("to_dir", lambda path: (os.mkdir(path + ".target"), os.symlink("to_dir.target", path))[0]),
    "dangling symlink": ("dangling", lambda path: os.symlink("nowhere", path)),
    "symlink to itself": ("loop", lambda path: os.symlink("loop", path)),
    "fifo": ("fifo", os.mkfifo),
    "socket": ("socket", _socket),
    "below a file": ("file/below", lambda path: _file(os.path.dirname(path))),
    "below nothing": ("nothing/below", None),
    "in another's sticky folder": ("sticky/file", _in_sticky),
    "in a closed folder": ("closed/file", _in_closed),
    "longest name": (LONG, _file),
    "name too long": (TOO_LONG, None),
    "path too long": ("./" * 2100 + "x", None),
    "file with a slash": ("slashed/", lambda path: _file(path.rstrip("/"))),
    "folder with a slash": ("slashdir/", os.mkdir),
    "dot": (".", None),
    "dot dot": ("..", None),
    "empty": ("", None),
}
PAIR_KINDS = [kind for kind in KINDS if kind not in ("path too long", "fifo", "socket", "set-id file")]


def _renameat2(old: str, new: str, flags: int) -> None:
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def _open_and_close(flags: int) -> Callable[[str], object]:
    return lambda path: os.close(os.open(path, flags | os.O_NONBLOCK, 0o640))


ONE: dict[str, Callable[[str], object]] = {
    "open for reading": _open_and_close(os.O_RDONLY),
    "open for writing": _open_and_close(os.O_WRONLY),
    "open to truncate": _open_and_close(os.O_WRONLY | os.O_TRUNC),
    "open to create": _open_and_close(os.O_RDWR | os.O_CREAT),
    "open to create anew": _open_and_close(os.O_RDWR | os.O_CREAT | os.O_EXCL),
    "open, no link": _open_and_close(os.O_RDWR | os.O_NOFOLLOW),
    "open a folder": _open_and_close(os.O_RDONLY | os.O_DIRECTORY),
    "open without a name": _open_and_close(os.O_RDWR | os.O_TMPFILE),
    "mkdir": lambda path: os.mkdir(path, 0o750),
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "mkfifo": lambda path: os.mkfifo(path, 0o640),
    "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o640),
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o640, os.makedev(1, 3)),
    "symlink": lambda path: os.symlink("target of it", path),
    "chmod": lambda path: os.chmod(path, 0o2741),
    "chown": lambda path: os.chown(path, NOBODY, NOBODY),
    "lchown": lambda path: os.lchown(path, -1, NOBODY),
    "utime": lambda path: os.utime(path, ns=(5, 7)),
    "utime of a link": lambda path: os.utime(path, ns=(5, 7), follow_symlinks=False),
    "truncate down": lambda path: os.truncate(path, 3),
    "truncate up": lambda path: os.truncate(path, 5000),
    "truncate to less than nothing": lambda path: os.truncate(path, -1),
    "setxattr": lambda path: os.setxattr(path, "user.one", b"1", follow_symlinks=False),
    "removexattr": lambda path: os.removexattr(path, "user.none"),
    "read the link": os.readlink,
    "bind": _socket,
    "list": os.listdir,
}
TWO: dict[str, Callable[[str, str], object]] = {
    "rename": os.rename,
    "rename, nothing replaced": lambda old, new: _renameat2(old, new, 1),
    "exchange": lambda old, new: _renameat2(old, new, 2),
    "link": lambda old, new: os.link(old, new, follow_symlinks=False),
    "link, followed": lambda old, new: os.link(old, new, follow_symlinks=True),
}


def _make(folder: str, kind: str) -> str:
    name, make = KINDS[kind]
    path = f"{folder}/{name}" if name else ""
    if make is not None:
        make(path)
    return path


def _answer(call: Callable[..., object], *paths: str) -> str:
    try:
        found = call(*paths)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return f"ok {sorted(found) if isinstance(found, list) else found or ''}".strip()


def _state(folder: str) -> str:
    """Tell all that a call may change; times only as far as they are still what they were set to."""
    lines = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in (".", *sorted(folders + files)):
            found = os.lstat(os.path.join(place, name))
            path = os.path.relpath(os.path.join(place, name), folder)
            mtime = {OLD_NS: "old", 7: "set"}.get(found.st_mtime_ns, "new")
            size = found.st_size if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else "-"
            links = found.st_nlink if not stat.S_ISDIR(found.st_mode) else "-"
            names = f"{path[:20]}…{len(path)}" if len(path) > 40 else path
            lines.append(f"{names}:{found.st_mode:o}:{found.st_uid}:{found.st_gid}:{size}:{links}:{mtime}")
    return " ".join(lines)


def _age(folder: str) -> None:
    for place, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            os.utime(os.path.join(place, name), ns=(OLD_NS, OLD_NS), follow_symlinks=False)
    os.utime(folder, ns=(OLD_NS, OLD_NS))


def _cases() -> Iterator[tuple[str, Callable[..., object], tuple[str, ...]]]:
    for name, call in ONE.items():
        for kind in KINDS:
            yield name, call, (kind,)
    for name, two in TWO.items():
        for old, new in itertools.product(PAIR_KINDS, PAIR_KINDS):
            if KINDS[old][0].split("/")[0] != KINDS[new][0].split("/")[0] or not KINDS[old][0]:
                yield name, two, (old, new)


def _all_cases(top: str, user: int) -> None:
    for number, (name, call, kinds) in enumerate(_cases()):
        folder = f"{top}/{user}-{number}"
        os.chown(top, 0, 0)
        os.chmod(top, 0o777)
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        paths = [_make(folder, kind) for kind in kinds]
        _age(folder)
        os.seteuid(user)
        answer = _answer(call, *paths)
        os.seteuid(0)
        print(f"{user} {name} ({', '.join(kinds)}): {answer} | {_state(folder)}")
        shutil.rmtree(folder)


def _locks(top: str) -> None:
    """Locks and leases of the program itself, which a recorder that holds files open could refuse."""
    path = f"{top}/locked"
    _file(path)
    with open(path, "r+") as one, open(path, "r+") as other:
        for what, lock in (("flock", fcntl.LOCK_EX), ("shared flock", fcntl.LOCK_SH)):
            fcntl.flock(one, lock | fcntl.LOCK_NB)
            print(f"{what}, second: {_answer(lambda: fcntl.flock(other, lock | fcntl.LOCK_NB))}")  # noqa: B023
            fcntl.flock(one, fcntl.LOCK_UN)
    for what, flags, lease in (("read", os.O_RDONLY, fcntl.F_RDLCK), ("write", os.O_RDWR, fcntl.F_WRLCK)):
        descriptor = os.open(path, flags)
        print(f"{what} lease: {_answer(lambda: fcntl.fcntl(descriptor, fcntl.F_SETLEASE, lease))}")  # noqa: B023
        os.close(descriptor)


def _notices(top: str) -> None:
    """Tell what a watcher is told while a file is written, renamed and removed: a reader beside it would show."""
    folder = f"{top}/watched"
    os.mkdir(folder)
    notify = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(notify, folder.encode(), 0xFFF)
    for number in range(20):
        _file(f"{folder}/{number}")
        os.rename(f"{folder}/{number}", f"{folder}/renamed{number}")
        shutil.copyfile(f"{folder}/renamed{number}", f"{folder}/copy{number}")
        os.unlink(f"{folder}/renamed{number}")
    raw = os.read(notify, 1 << 20)
    at = 0
    while at < len(raw):
        _, mask, _, length = struct.unpack_from("iIII", raw, at)
        print(f"notice {mask:x} {raw[at + 16 : at + 16 + length].rstrip(bytes(1)).decode()}")
        at += 16 + length


def _descriptors(top: str) -> None:
    """Calls through descriptors: offsets, appending, what remains of an unlinked file."""
    path = f"{top}/through"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    print(os.write(descriptor, b"12345"), os.pwrite(descriptor, b"ab", 0), os.lseek(descriptor, 0, os.SEEK_CUR))
    print(os.pread(descriptor, 20, 0), _answer(lambda: os.posix_fallocate(descriptor, 0, 9000)))
    for mode, offset, length in ((0, 0, 0), (3, 0, 4096), (1, 20_000, 10), (8, 0, 4096), (32, 0, 4096), (255, 0, 1)):
        failed = libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length))
        print(f"fallocate {mode} {length}: {errno.errorcode[ctypes.get_errno()] if failed else 'ok'}")
    print(_answer(lambda: os.copy_file_range(descriptor, descriptor, 10, 0, 5)), os.fstat(descriptor).st_size)
    os.unlink(path)
    print(os.fstat(descriptor).st_nlink, _answer(lambda: os.write(descriptor, b"gone")))
    os.close(descriptor)
    print(_answer(lambda: os.write(descriptor, b"closed")))


def _what_was_there(folder: str) -> None:
    """Use what stood there before the recording began."""
    for name in sorted(os.listdir(folder)):
        path = f"{folder}/{name}"
        before = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"changed")
        after = os.stat(path)
        print(name, before.st_atime_ns == after.st_atime_ns, before.st_nlink, after.st_size)
        os.unlink(path)


def main(top: str) -> None:
    os.umask(0o022)
    _what_was_there(top + "/before")
    for user in (0, NOBODY):
        _all_cases(top, user)
    _locks(top)
    _notices(top)
    _descriptors(top)


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    main(".")
