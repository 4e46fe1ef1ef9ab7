"""File systems made for a test: in a file, by a loop device, or in memory, mounted in a scratch place."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_IMAGE_BYTES = 1 << 30  # sparse


class FileSystemUnavailableError(Exception):
    """Report that a file system cannot be had here, and why."""


@dataclass(frozen=True)
class Kind:
    """Say how a file system in an image is made and mounted."""

    make: Sequence[str]
    options: str = ""


_IN_IMAGE = {
    "ext4": Kind(("mkfs.ext4", "-q", "-F")),
    "ext4-1k": Kind(("mkfs.ext4", "-q", "-F", "-b", "1024")),
    "ext4-journal": Kind(("mkfs.ext4", "-q", "-F"), "data=journal"),
    "ext4-inline": Kind(("mkfs.ext4", "-q", "-F", "-O", "inline_data", "-I", "256")),
    "ext4-bigalloc": Kind(("mkfs.ext4", "-q", "-F", "-O", "bigalloc", "-C", "16384")),
    "xfs": Kind(("mkfs.xfs", "-q", "-f")),
    "btrfs": Kind(("mkfs.btrfs", "-q", "-f")),
    "vfat": Kind(("mkfs.vfat",)),
}
_OVERLAYS = ("overlay", "overlay-tmpfs", "overlay-two")
NAMES = (*_IN_IMAGE, "tmpfs", *_OVERLAYS)


class Place:
    """A mounted file system; ``folder`` is its root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settle(self) -> None:
        """Make what was written so far old: on an overlay it goes down to the lower layer, to be copied up again."""


@contextlib.contextmanager
def file_system(name: str, home: Path) -> Iterator[Place]:
    """Mount a fresh file system of a kind below ``home`` for the duration of a block.

    Raises FileSystemUnavailableError where its tools, loop devices or the right to mount are missing.
    """
    home.mkdir(parents=True, exist_ok=True)
    if name in _OVERLAYS:
        with _layers(name, home) as layers, _overlay(*layers, home) as place:
            yield place
        return
    folder = home / name
    folder.mkdir()
    if name == "tmpfs":
        _run("mount", "-t", "tmpfs", "none", str(folder))
    else:
        _mount_image(_IN_IMAGE[name], name, home, folder)
    try:
        yield Place(folder)
    finally:
        unmount(folder)


def _mount_image(kind: Kind, name: str, home: Path, folder: Path) -> None:
    image = home / f"{name}.image"
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    _run(*kind.make, str(image))
    _run("mount", "-o", ",".join(filter(None, ("loop", kind.options))), str(image), str(folder))
    image.unlink()  # the loop device keeps it until it is unmounted


@contextlib.contextmanager
def _layers(name: str, home: Path) -> Iterator[tuple[Path, Path]]:
    """Give (where lower layers are, where the upper one is)."""
    if name == "overlay-tmpfs":
        with file_system("tmpfs", home / "upper") as upper:
            yield upper.folder, upper.folder
    elif name == "overlay-two":  # upper and lower on different file systems, as of a container with a volume
        with file_system("ext4", home / "low") as lower, file_system("tmpfs", home / "up") as upper:
            yield lower.folder, upper.folder
    else:
        with file_system("ext4", home / "layers") as both:
            yield both.folder, both.folder


class _Overlay(Place):
    def __init__(self, folder: Path, lower: Path, upper: Path) -> None:
        super().__init__(folder)
        self._lower = [lower / "lower0"]
        self._lower_home, self._upper_home = lower, upper
        self._lower[0].mkdir()
        self._mount()

    def _mount(self) -> None:
        for layer in ("upper", "work"):
            (self._upper_home / layer).mkdir()
        layers = {
            "lowerdir": ":".join(map(str, reversed(self._lower))),
            "upperdir": self._upper_home / "upper",
            "workdir": self._upper_home / "work",
        }
        options = ",".join(f"{key}={value}" for key, value in layers.items())
        _run("mount", "-t", "overlay", "overlay", "-o", options, str(self.folder))

    def settle(self) -> None:
        unmount(self.folder)
        layer = self._lower_home / f"lower{len(self._lower)}"
        _run("cp", "-a", str(self._upper_home / "upper"), str(layer))
        for name in ("upper", "work"):
            shutil.rmtree(self._upper_home / name)
        self._lower.append(layer)
        self._mount()


@contextlib.contextmanager
def _overlay(lower: Path, upper: Path, home: Path) -> Iterator[Place]:
    folder = home / "overlay"
    folder.mkdir()
    place = _Overlay(folder, lower, upper)
    try:
        yield place
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    """Take a mount away, though something may still be open there."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise FileSystemUnavailableError(f"{command[0]} is not installed") from None
    if done.returncode != 0:
        raise FileSystemUnavailableError(f"{' '.join(command)}: {done.stderr.strip()}")
