"""The baseline holds the tree as it stands: every entry, the bytes of every file, and the names of what it lacks."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diffkeeper import baseline_content, native
from diffkeeper.baseline import BaselineReport, BaselineRoot, take_baseline
from diffkeeper.baseline_format import (
    CHUNK_BYTES,
    KIND_CONTENT,
    KIND_ENTRIES,
    NO_PARENT,
    BaselineEntry,
    ContentState,
    decode_content,
    decode_entries,
)
from diffkeeper.errors import RecordError
from diffkeeper.rules import Rules


class Taken:
    """Read the batches of a baseline as processing will: in order, content before the entries that name it."""

    def __init__(self, labels: list[bytes]) -> None:
        self.labels = labels
        self.entries: dict[bytes, BaselineEntry] = {}
        self.by_index: dict[int, bytes] = {}
        self.chunks: dict[bytes, bytes] = {}
        self.report = BaselineReport(0)

    def append(self, kind: int, payload: bytes) -> None:
        if kind == KIND_CONTENT:
            for digest, value in decode_content(payload):
                assert digest not in self.chunks, "a chunk was stored twice"
                self.chunks[digest] = value
        else:
            assert kind == KIND_ENTRIES
            for entry in decode_entries(payload):
                self.add(entry)

    def add(self, entry: BaselineEntry) -> None:
        if entry.parent == NO_PARENT:
            assert entry.name == b""
            path = self.labels[entry.index]
        else:
            path = os.path.join(self.by_index[entry.parent], entry.name)
        self.by_index[entry.index] = path
        self.entries[path] = entry
        assert all(digest in self.chunks for digest, _ in entry.data_chunks())

    def read(self, path: bytes) -> bytes:
        entry = self.entries[path]
        assert entry.content in (ContentState.KEPT, ContentState.CHANGED)
        stream = b"".join(self.chunks[digest] for digest, _ in entry.data_chunks())
        content = bytearray(entry.inode.size)
        for offset, length, start in entry.extents():
            content[offset : offset + length] = stream[start : start + length]
        return bytes(content)


def take(
    *roots: Path,
    patterns: list[str] | None = None,
    skip: set[tuple[int, int]] | None = None,
    encode: Callable[[bytes], bytes] | None = bytes,
) -> Taken:
    labels = [b"" if len(roots) == 1 else os.fsencode(root.name) for root in roots]
    labelled = [BaselineRoot(bytes(root), label) for root, label in zip(roots, labels, strict=True)]
    taken = Taken(labels)
    taken.report = take_baseline(
        labelled, taken, encode=encode, rules=Rules.from_patterns(patterns or []), skip=skip or set()
    )
    return taken


def test_every_kind_of_entry_is_there_with_its_metadata(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "file").chmod(0o640)
    os.utime(tmp_path / "file", ns=(5, 1_234_567_890_123_456_789))
    (tmp_path / "dir" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("nowhere/else")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    os.link(tmp_path / "file", tmp_path / "dir" / "twin")
    taken = take(tmp_path)
    assert set(taken.entries) == {b"", b"file", b"dir", b"dir/inner", b"dir/twin", b"link", b"pipe", b"socket"}
    for path, entry in taken.entries.items():
        status = os.lstat(os.path.join(bytes(tmp_path), path))
        inode = entry.inode
        assert (inode.mode, inode.uid, inode.gid, inode.nlink, inode.ino) == (
            status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_ino,
        )  # fmt: skip
        assert (inode.size, inode.mtime_ns) == (status.st_size, status.st_mtime_ns)
        assert inode.dev == os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    assert taken.entries[b"link"].target == b"nowhere/else"
    assert taken.entries[b"file"].inode.identity == taken.entries[b"dir/twin"].inode.identity
    assert taken.read(b"dir/twin") == b"content"
    assert (taken.report.entries, taken.report.files, taken.report.chunks) == (8, 2, 1)


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b" ", b"-rf", b"x" * 255]
    for name in names:
        Path(os.fsdecode(os.path.join(bytes(tmp_path), name))).write_bytes(name)
    taken = take(tmp_path)
    assert {path: taken.read(path) for path in taken.entries if path} == {name: name for name in names}


def test_a_tree_deeper_than_a_path_may_be_long_is_read_whole(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=fd)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    with open(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(b"deep")
    os.close(fd)
    taken = take(tmp_path)
    deepest = max(taken.entries, key=len)
    assert len(deepest) > 8000
    assert taken.read(deepest) == b"deep"
    assert taken.report.unread == []


def test_bytes_come_back_at_every_size_around_a_chunk(tmp_path: Path) -> None:
    contents = {b"%d" % size: os.urandom(size) for size in (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7)}
    for name, content in contents.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    taken = take(tmp_path)
    assert {name: taken.read(name) for name in contents} == contents
    assert all(taken.entries[name].content == ContentState.KEPT for name in contents)


def test_holes_are_neither_read_nor_stored(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(5 * CHUNK_BYTES + 10)
        file.write(b"island")
        file.truncate(1 << 40)
    taken = take(tmp_path)
    assert taken.entries[b"sparse"].inode.size == 1 << 40
    assert sum(len(value) for value in taken.chunks.values()) <= CHUNK_BYTES
    (extent,) = taken.entries[b"sparse"].extents()
    assert extent == (5 * CHUNK_BYTES, CHUNK_BYTES, 0)


def test_equal_files_are_stored_once(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_bytes(b"same")
    taken = take(tmp_path)
    assert list(taken.chunks.values()) == [b"same"]
    assert taken.report.content_bytes == 800
    assert taken.report.stored_bytes == 4


def test_an_index_holds_no_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    taken = take(tmp_path, encode=None)
    assert taken.chunks == {}
    assert taken.entries[b"file"].content == ContentState.PROMISED
    assert taken.entries[b"file"].inode.size == 7


def test_extended_attributes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    try:
        os.setxattr(tmp_path / "file", "user.note", b"\0\1")
        os.setxattr(tmp_path, "user.root", b"top")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    taken = take(tmp_path)
    assert dict(taken.entries[b"file"].xattrs)[b"user.note"] == b"\0\1"
    assert dict(taken.entries[b""].xattrs)[b"user.root"] == b"top"


def test_what_is_skipped_is_not_there_and_what_is_excluded_has_no_content(tmp_path: Path) -> None:
    for name in ("keep", "trace", "build"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.o").write_text("object")
        (tmp_path / name / "x.c").write_text("source")
    status = (tmp_path / "trace").stat()
    skip = {(os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino)}
    taken = take(tmp_path, patterns=["*.o", "/build"], skip=skip)
    assert {path for path in taken.entries if path.startswith(b"trace")} == set()
    kept = {path for path, entry in taken.entries.items() if entry.content == ContentState.KEPT}
    assert (kept, taken.report.content_bytes, taken.report.entries) == ({b"keep/x.c"}, 6, 3)
    assert {b"build", b"build/x.c", b"keep/x.o"} < set(taken.entries)
    assert list(taken.chunks.values()) == [b"source"]


def test_a_file_with_an_included_name_is_kept_whatever_other_names_it_has(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_text("linked")
    os.link(tmp_path / "x.o", tmp_path / "y")
    taken = take(tmp_path, patterns=["*.o"])
    assert taken.entries[b"y"].content == ContentState.KEPT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_is_excluded_need_not_be_readable(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert take(tmp_path, patterns=["closed"]).report.unread == []


def test_several_roots_come_first_and_paths_begin_with_their_labels(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    taken = take(tmp_path / "one", tmp_path / "two", patterns=["/two/file"])
    assert list(taken.entries) == [b"one", b"two", b"one/file", b"two/file"]
    assert [entry.index for entry in taken.entries.values()] == [0, 1, 2, 3]
    assert taken.entries[b"two/file"].content == ContentState.NOT_KEPT


_IN_MOUNTS = """
import subprocess, sys
from diffkeeper.baseline import BaselineRoot, take_baseline
from diffkeeper.baseline_format import decode_entries
from diffkeeper.rules import Rules

class Names:
    def append(self, kind, payload):
        print(*sorted(entry.name.decode() for entry in decode_entries(payload) if entry.name))

for command in ("mount -t tmpfs none other", "mount --bind kept bound", "mount --bind kept/file bound_file"):
    subprocess.run(command.split(), check=True)
report = take_baseline([BaselineRoot(b".")], Names(), encode=None, rules=Rules(None))
print(*sorted(path.decode() for path in report.mounts_left_out))
"""


def _may_mount() -> bool:
    """Say whether mounts of our own can be made: only by root, and not in a chroot."""
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "--mount", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="mounts can be made only by root, and not in a chroot")
def test_other_mounts_are_left_out_and_named_bind_mounts_too(tmp_path: Path) -> None:
    for name in ("kept", "other", "bound"):
        (tmp_path / name).mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "bound_file").touch()
    command = ["unshare", "--mount", sys.executable, "-c", _IN_MOUNTS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["file kept", "bound bound_file other"]


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "way_out").symlink_to(tmp_path / "outside")
    assert set(take(tmp_path / "root").entries) == {b"", b"way_out"}


def test_a_file_that_changes_whenever_it_is_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "busy"
    path.write_bytes(b"x")
    read_chunk = baseline_content._read_chunk

    def read_and_append(fd: int, offset: int) -> bytes:
        data = read_chunk(fd, offset)
        with path.open("ab") as file:
            file.write(b"y")
        return data

    monkeypatch.setattr(baseline_content, "_read_chunk", read_and_append)
    taken = take(tmp_path)
    assert taken.entries[b"busy"].content == ContentState.CHANGED
    assert [(unread.path, unread.reason) for unread in taken.report.unread] == [
        (b"busy", "content changed while it was read")
    ]
    assert taken.read(b"busy").startswith(b"x")


def test_a_file_that_is_replaced_before_it_is_opened_has_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    open_file = baseline_content._open_file

    def replace_and_open(name: bytes, directory_fd: int) -> int:
        (tmp_path / "new").write_bytes(b"new")
        (tmp_path / "new").rename(tmp_path / "file")
        return open_file(name, directory_fd)

    monkeypatch.setattr(baseline_content, "_open_file", replace_and_open)
    assert take(tmp_path).entries[b"file"].content == ContentState.VANISHED


@pytest.fixture
def folder_of_another_user() -> Iterator[Path]:
    """Yield an empty folder of a user without privileges, as whom the test then runs."""
    user = os.geteuid() or 65534
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, user, -1)
        os.seteuid(user)
        yield Path(folder)
        os.seteuid(os.getuid())


def test_what_may_not_be_read_is_named(folder_of_another_user: Path) -> None:
    root = folder_of_another_user
    (root / "file").touch(0)
    (root / "dir").mkdir(0)
    reasons = {unread.path: unread.reason for unread in take(root).report.unread}
    (root / "dir").chmod(0o700)
    assert reasons == {b"file": "content not read: Permission denied", b"dir": "directory not read: Permission denied"}


def test_a_root_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        take(tmp_path / "none")


def test_entries_without_handles_have_an_unknown_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(native, "inode_generations", lambda fd, names: [-1] * len(names))
    assert {entry.inode.generation for entry in take(tmp_path).entries.values()} == {-1}


def test_reading_leaves_access_times_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    for path in (tmp_path / "file", tmp_path):
        os.utime(path, ns=(1, 2))
    take(tmp_path)
    assert (tmp_path / "file").stat().st_atime_ns == 1
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
    assert tmp_path.stat().st_atime_ns == 1
