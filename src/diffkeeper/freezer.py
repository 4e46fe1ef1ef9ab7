"""The freezer of a process: a cgroup of its own below the one that it is in, of version 2 or, where not, of version 1.

Version 2 goes first: what it has frozen can still be killed.
"""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False  # as in native.py
if TYPE_CHECKING:
    from collections.abc import Iterator

_STATES = {1: "freezer.state", 2: "cgroup.freeze"}
_THAWED = {1: b"THAWED", 2: b"0"}
_PROCESSES = "cgroup.procs"


class Freezer:
    """Name a cgroup that can be frozen; ``version`` is that of its hierarchy."""

    def __init__(self, version: int, parent: str, name: str) -> None:
        """Make nothing yet."""
        self.version = version
        self.parent = parent
        self.directory = os.path.join(parent, name)

    @property
    def state_file(self) -> str:
        """Return the file that freezes."""
        return os.path.join(self.directory, _STATES[self.version])

    def take(self, pid: int) -> None:
        """Make the cgroup and move a process into it; raises OSError, and leaves nothing behind then.

        One that is there already is from a former process of that number, whose guardian was killed as well.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o755)
        try:
            os.stat(self.state_file)
            _write(os.path.join(self.directory, _PROCESSES), b"%d" % pid)
        except OSError:
            os.rmdir(self.directory)
            raise

    def thaw(self) -> None:
        """Let everything in it run."""
        _write(self.state_file, _THAWED[self.version])

    def processes(self) -> list[int]:
        """Return who is in it."""
        with open(os.path.join(self.directory, _PROCESSES), "rb") as file:
            return [int(word) for word in file.read().split()]

    def give_back(self, pid: int) -> None:
        """Move a process to where it would be without us; raises OSError if it has gone."""
        _write(os.path.join(self.parent, _PROCESSES), b"%d" % pid)

    def remove(self) -> None:
        """Remove the empty cgroup; raises OSError where it is not empty."""
        os.rmdir(self.directory)


def _write(path: str, word: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, word)
    finally:
        os.close(descriptor)


def candidates(pid: int, name: str) -> list[Freezer]:
    """Return the freezers that a process could be given, the best first; none where no hierarchy has one."""
    found = [Freezer(version, parent, name) for version, parent in _places(pid)]
    return sorted(found, key=lambda freezer: -freezer.version)


def refusal(pid: int) -> str:
    """Return why the processes of a command started by ``pid`` cannot be held, empty if nothing speaks against it."""
    parents = [freezer.parent for freezer in candidates(pid, "")]
    if not parents:
        return "no cgroup hierarchy with a freezer is mounted"
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not any(os.access(parent, os.W_OK) for parent in parents):
        return f"{parents[0]} cannot be written to"
    return ""


def _places(pid: int) -> Iterator[tuple[int, str]]:
    """Yield version and directory of a process's cgroup in each hierarchy that has a freezer, where it is mounted."""
    paths = _paths(pid)
    for line in _lines("/proc/self/mountinfo"):
        fields, _, more = line.partition(b" - ")
        kind, _, options = more.split(b" ")[:3]
        root, mount_point = fields.split(b" ")[3:5]
        is_freezer = kind == b"cgroup" and b"freezer" in options.split(b",")
        version = 2 if kind == b"cgroup2" else 1 if is_freezer else 0
        path = os.path.relpath(paths.get(version, b"/.."), root)
        if version and version in paths and not path.startswith(b".."):
            yield version, os.path.normpath(os.path.join(_unescaped(mount_point), os.fsdecode(path)))


def _paths(pid: int) -> dict[int, bytes]:
    paths = {}
    for line in _lines(f"/proc/{pid:d}/cgroup"):
        number, controllers, path = line.split(b":", 2)
        if number == b"0":
            paths[2] = path
        elif b"freezer" in controllers.split(b","):
            paths[1] = path
    return paths


def _lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _unescaped(path: bytes) -> str:
    for code in (b"040", b"011", b"012", b"134"):  # as mountinfo writes blanks and backslashes
        path = path.replace(b"\\" + code, bytes([int(code, 8)]))
    return os.fsdecode(path)
