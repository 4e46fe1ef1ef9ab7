"""The base: files that still have the bytes which the trace only promises; whatever is not the same is not taken."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from diffkeeper.base import Base, Wanted

BLOB = 1 << 40


def wanted(path: Path, **changes: object) -> Wanted:
    status = path.stat()
    inode = os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino
    fields = {
        "paths": [os.fsencode(path.name)],
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "inode": inode,
        "before_ns": status.st_ctime_ns + 1,
    }
    return Wanted(**{**fields, **changes})


def base_of(folder: Path, what: Wanted | None, label: bytes = b"") -> Base:
    return Base([(label, os.fsencode(folder))], lambda blob: what)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"before the command")
    return path


def test_an_unchanged_file_has_the_bytes(file: Path) -> None:
    base = base_of(file.parent, wanted(file))
    assert base.has(BLOB)
    assert base.read(BLOB, 7, 3) == b"the"
    base.close()


@pytest.mark.parametrize(
    "changes",
    [{"size": 17}, {"mtime_ns": 1}, {"inode": (1, 1)}, {"before_ns": 1}, {"paths": [b"other"]}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_file_that_differs_in_anything_is_not_taken(file: Path, changes: dict[str, object]) -> None:
    base = base_of(file.parent, wanted(file, **changes))
    assert not base.has(BLOB)
    assert base.read(BLOB, 0, 1) is None
    base.close()


def test_no_path_leads_out_of_the_base(file: Path) -> None:
    (file.parent / "sub").mkdir()
    assert not base_of(file.parent / "sub", wanted(file, paths=[b"../file"])).has(BLOB)
    assert not base_of(file.parent, wanted(file, paths=[b"sub/../file"])).has(BLOB)


def test_a_write_that_sets_the_old_time_again_is_told_by_ctime(file: Path) -> None:
    what = wanted(file)
    time.sleep(0.02)
    file.write_bytes(b"after the command!")
    os.utime(file, ns=(what.mtime_ns, what.mtime_ns))
    assert not base_of(file.parent, what).has(BLOB)


def test_a_change_while_it_is_read_is_told(file: Path) -> None:
    base = base_of(file.parent, wanted(file))
    assert base.read(BLOB, 0, 6) == b"before"
    time.sleep(0.02)
    with file.open("r+b") as opened:
        opened.write(b"BEHIND")
    assert base.read(BLOB, 0, 6) is None
    base.close()


def test_no_symlink_below_the_base_is_followed(file: Path) -> None:
    real = file.parent / "real"
    real.mkdir()
    file.rename(real / "file")
    (file.parent / "link").symlink_to("real")
    (real / "alias").symlink_to("file")
    what = wanted(real / "file")
    assert base_of(file.parent, Wanted([b"real/file"], what.size, what.mtime_ns)).has(BLOB)
    assert not base_of(file.parent, Wanted([b"link/file"], what.size, what.mtime_ns)).has(BLOB)
    assert not base_of(file.parent, Wanted([b"real/alias"], what.size, what.mtime_ns)).has(BLOB)


def test_the_first_path_that_fits_is_taken(file: Path) -> None:
    what = wanted(file, paths=[b"renamed away", b"file"])
    assert base_of(file.parent, what).read(BLOB, 0, 6) == b"before"


def test_several_roots_are_told_by_their_labels(file: Path) -> None:
    base = base_of(file.parent, wanted(file, paths=[b"work/file"]), b"work")
    assert base.read(BLOB, 0, 6) == b"before"
    assert not base_of(file.parent, wanted(file, paths=[b"workshop/file"]), b"work").has(BLOB)
    base.close()


def test_what_nobody_promised_is_nowhere(file: Path) -> None:
    assert not base_of(file.parent, None).has(BLOB)
