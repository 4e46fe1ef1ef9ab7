"""Mounts as this process sees them: which there are, and where in its file system an open directory lies."""

from __future__ import annotations

import os
import re

from diffkeeper.model.values import dataclass

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """Hold one line of mountinfo (proc(5)); ``device`` is the kernel's s_dev, ``inside`` the path that is shown."""

    number: int
    device: int
    inside: bytes
    point: bytes
    kind: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """Say where a directory lies, whatever mount it is reached by: file system and path in it."""

    device: int
    path: bytes

    def is_within(self, other: Place) -> bool:
        """Say whether this is the other place or lies below it."""
        prefix = other.path.rstrip(b"/") + b"/"
        return self.device == other.device and (self.path == other.path or self.path.startswith(prefix))


def mounts() -> list[Mount]:
    """Return all mounts of this process's namespace; none where they cannot be read."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return [_parse(line) for line in file]
    except OSError:
        return []


def _parse(line: bytes) -> Mount:
    fields, _, more = line.partition(b" - ")
    number, _, device, inside, point, *_ = fields.split()
    major, _, minor = device.partition(b":")
    return Mount(int(number), int(major) << 20 | int(minor), _plain(inside), _plain(point), more.split(maxsplit=1)[0])


def _plain(path: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 255]), path)


def points_below(root: bytes) -> frozenset[bytes]:
    """Return the mount points below a directory: a bind mount of the same device is not told by its device number."""
    prefix = root.rstrip(b"/") + b"/"
    return frozenset(mount.point for mount in mounts() if mount.point.startswith(prefix) and mount.point != root)


def kind_of(descriptor: int) -> bytes:
    """Return the type of the file system that an open file lies on, empty where that cannot be told."""
    mount = _mount_of(descriptor)
    return mount.kind if mount is not None else b""


def _mount_of(descriptor: int) -> Mount | None:
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            number = next(int(line.split()[1]) for line in file if line.startswith(b"mnt_id:"))
    except (OSError, StopIteration):
        return None
    return next((mount for mount in mounts() if mount.number == number), None)


def place_of(descriptor: int) -> Place | None:
    """Return where an open directory lies, None where that cannot be told."""
    mount = _mount_of(descriptor)
    try:
        path = os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:
        return None
    if mount is None:
        return None
    below = os.path.relpath(path, mount.point)
    return None if below.startswith(b"..") else Place(mount.device, os.path.normpath(os.path.join(mount.inside, below)))


def kind_of_path(path: bytes) -> bytes:
    """Return the type of the file system that a path lies on, empty where that cannot be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return kind_of(descriptor)
    finally:
        os.close(descriptor)
