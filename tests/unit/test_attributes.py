"""Extended attributes change as the kernel changes them: held against a real file system."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
from pathlib import Path

import pytest

from diffkeeper.model.attributes import ACCESS, CAPABILITY, DEFAULT, inherit, settle
from diffkeeper.model.event import Kind

NOBODY = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


MINIMAL = acl((1, 6, NOBODY), (4, 4, NOBODY), (0x20, 4, NOBODY))
NAMED = acl((1, 7, NOBODY), (2, 5, 1234), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 1, NOBODY))


def xattrs_of(path: Path) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.getxattr(path, name) for name in os.listxattr(path)}


def set_or_skip(path: Path, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"this file system refuses {os.fsdecode(name)}: {error.strerror}")


@pytest.mark.parametrize("value", [MINIMAL, NAMED, acl()])
@pytest.mark.parametrize("mode", [0o600, 0o754, 0o000, 0o777])
def test_lists_follow_the_mode_as_on_disk(tmp_path: Path, value: bytes, mode: int) -> None:
    path = tmp_path / "file"
    path.touch()
    set_or_skip(path, ACCESS, value)
    ours = {ACCESS: value}
    settle(ours, Kind.SETXATTR, path.stat().st_mode)
    assert ours == xattrs_of(path)
    path.chmod(mode)
    if ours:
        settle(ours, Kind.CHMOD, path.stat().st_mode)
    assert ours == xattrs_of(path)


@pytest.mark.parametrize("value", [MINIMAL, NAMED])
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o750])
def test_what_is_born_inherits_as_on_disk(tmp_path: Path, value: bytes, mode: int) -> None:
    set_or_skip(tmp_path, DEFAULT, value)
    (tmp_path / "folder").mkdir(mode)
    os.close(os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY, mode))
    for name in ("folder", "file"):
        status = (tmp_path / name).stat()
        is_directory = stat.S_ISDIR(status.st_mode)
        assert inherit({DEFAULT: value}, status.st_mode, is_directory) == xattrs_of(tmp_path / name)


def test_a_write_takes_capabilities_away_as_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    set_or_skip(path, CAPABILITY, bytes.fromhex("0100000200040000000000000000000000000000"))
    ours = xattrs_of(path)
    subprocess.run(["sh", "-c", 'echo x >> "$0"', path], check=True)
    settle(ours, Kind.WRITE, path.stat().st_mode)
    assert ours == xattrs_of(path) == {}


@pytest.mark.parametrize("name", ["file", "folder"])
def test_a_new_owner_takes_capabilities_away_as_on_disk(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    set_or_skip(path, CAPABILITY, bytes.fromhex("0100000200040000000000000000000000000000"))
    ours = xattrs_of(path)
    os.chown(path, 1, 1)
    settle(ours, Kind.CHOWN, path.stat().st_mode)
    assert ours == xattrs_of(path)


@pytest.mark.parametrize("value", [b"", b"\2", b"\1\0\0\0", MINIMAL[:-1]])
def test_what_is_no_list_is_left_alone(value: bytes) -> None:
    xattrs = {ACCESS: value}
    settle(xattrs, Kind.CHMOD, 0o600)
    assert xattrs == {ACCESS: value}
