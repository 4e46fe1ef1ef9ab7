"""A replayed tree against a live one: whatever differs is found, and after the repair nothing does."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffkeeper.baseline_index import s_dev
from diffkeeper.model.event import Event, Kind, Mark
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.tree import Tree
from diffkeeper.rules import Rules
from diffkeeper.store.format import RootFacts
from diffkeeper.verification.content import WINDOW_BYTES, Match, match
from diffkeeper.verification.live import LeftOut, LiveRoot, RootGoneError
from diffkeeper.verification.repair import Repair, meta_of
from diffkeeper.verification.result import MOST_PATHS, Verification
from diffkeeper.verification.sweep import Sweep, Touched

AFTER_EVERYTHING = 1 << 62


class Recording:
    """Be a processed recording whose last state is a folder as it is now; everything in it counts as touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = Tree()
        self.sink = self
        self.blobs: list[bytes] = []
        self.events: list[Event] = []
        self.mounts: frozenset[bytes] = frozenset()
        self.is_touched: Callable[[bytes], bool] = lambda path: True
        self._load()

    def _load(self) -> None:
        status = self.folder.lstat()
        root = self.tree.add_root(b"", (s_dev(status.st_dev), status.st_ino, 0), meta_of(status))
        waiting = [(self.folder, root.number)]
        while waiting:
            folder, number = waiting.pop()
            for path in sorted(folder.iterdir()):
                status = path.lstat()
                content = target = None
                if stat.S_ISREG(status.st_mode):
                    self.blobs.append(path.read_bytes())
                    content = ExtentMap(status.st_size, [(0, status.st_size, len(self.blobs), 0)])
                elif stat.S_ISLNK(status.st_mode):
                    target = os.fsencode(os.readlink(path))
                node = self.tree.add(
                    number, os.fsencode(path.name), (s_dev(status.st_dev), status.st_ino, 0), meta_of(status),
                    content=content, target=target or b"", xattrs=_xattrs(path),
                )  # fmt: skip
                if node.is_directory:
                    waiting.append((path, node.number))

    def read(self, blob: int, start: int, length: int) -> bytes:
        return self.blobs[blob - 1][start : start + length]

    def append(self, node: int, data: bytes) -> tuple[int, int]:
        self.blobs.append(data)
        return len(self.blobs), 0

    def peek(self, blob: int, start: int, length: int) -> bytes | None:
        return self.read(blob, start, length)

    def end(self, node: int, base_blob: int, is_executable: bool) -> None:
        pass

    def resync(self, **fields: Any) -> Event:
        event = Event(len(self.events) + 1, 0, Kind.RESYNC, 0, 0, 0, **fields)
        self.events.append(event)
        self.tree.apply(event)
        return event

    def verify(
        self, stopped_ns: int = AFTER_EVERYTHING, rules: Rules | None = None, *, has_all_bytes: bool = True
    ) -> Verification:
        touched = frozenset(node.number for path, node in self.tree.walk() if self.is_touched(path))
        sweep = Sweep(
            self.tree.nodes, Touched(touched, touched), self, Repair(self), stopped_ns=stopped_ns,
            has_all_bytes=has_all_bytes,
        )  # fmt: skip
        root = RootFacts("", os.fspath(self.folder), *self.tree.nodes[1].identity)
        with LiveRoot(root, b"", LeftOut(rules or Rules(None), mounts=self.mounts)) as live:
            sweep.root(live, self.tree.nodes[1], b"")
        return sweep.result


def _xattrs(path: Path) -> dict[bytes, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {os.fsencode(name): os.getxattr(path, name, follow_symlinks=False) for name in names}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 10_000)
    (root / "sub" / "other").write_bytes(b"other")
    os.link(root / "file", root / "sub" / "twin")
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    return root


@pytest.fixture
def recording(folder: Path) -> Recording:
    return Recording(folder)


def _run(folder: Path, command: str) -> None:
    subprocess.run(["sh", "-e", "-c", command], cwd=folder, check=True)


def test_what_is_right_is_verified(recording: Recording) -> None:
    result = recording.verify()
    assert (result.files, result.entries, result.differ, result.not_verified) == (3, 4, 0, 0)
    assert recording.events == []


# Each keeps the mtime of the folder, so that one name differs and no other.
KEEP = "touch -r . ../ref; {}; touch -r ../ref ."


@pytest.mark.parametrize(
    ("command", "differing"),
    [
        ("touch -r file ../f; printf y | dd of=file bs=1 seek=5000 conv=notrunc 2> ../log; touch -r ../f file",
         ["file", "sub/twin"]),
        ("touch -r file ../f; printf y >> file; touch -r ../f file", ["file", "sub/twin"]),
        ("touch -r sub/other ../f; : > sub/other; touch -r ../f sub/other", ["sub/other"]),
        ("chmod 600 fifo", ["fifo"]),
        ("chmod 700 sub/deep", ["sub/deep"]),
        ("touch -d @5.000000001 sub/deep", ["sub/deep"]),
        ("touch -h -d @5.000000001 link", ["link"]),
        ("chmod 750 .", ["."]),
        ("touch -d @7 .", ["."]),
        (KEEP.format("cp -Pp link ../l; ln -sf elsewhere link; touch -h -r ../l link"), ["link"]),
        (KEEP.format("cp -Pp link ../l; ln -sf fiel link; touch -h -r ../l link"), ["link"]),
        (KEEP.format("rm fifo"), ["fifo"]),
        (KEEP.format("rm fifo; mkdir fifo"), ["fifo"]),
        (KEEP.format("rm fifo; mkdir fifo; echo below > fifo/below; mkdir fifo/sub"),
         ["fifo", "fifo/below", "fifo/sub"]),
        (KEEP.format("echo new > new"), ["new"]),
        (KEEP.format(": > empty"), ["empty"]),
        (KEEP.format("ln -s target new"), ["new"]),
        (KEEP.format("mv fifo moved"), ["fifo", "moved"]),
        (KEEP.format("ln sub/other linked"), ["linked"]),
        (KEEP.format("cp -p file copy; mv copy file"), ["file"]),
        (KEEP.format("mv sub bus"), ["bus", "bus/deep", "bus/other", "bus/twin", "sub"]),
        ("truncate -s 5M sub/other", ["sub/other"]),
    ],
)  # fmt: skip
def test_every_difference_is_found_and_repaired(
    folder: Path, recording: Recording, command: str, differing: list[str]
) -> None:
    _run(folder, command)
    result = recording.verify()
    paths = set(result.paths)
    if "file" in differing and "sub/twin" in differing:  # two names of one file: it is repaired under the first
        assert paths <= set(differing)
        assert len(paths) == 1
    elif "cp -p file" in command:  # of two names that parted, the one that is met later is told
        assert paths in ({"file"}, {"sub/twin"})
    elif "linked" in command:  # met first, it counts as a file of its own
        assert paths in ({"linked"}, {"linked", "sub/other"})
    else:
        assert sorted(paths) == differing
    assert result.differ == result.resynced == len(result.paths)
    again = recording.verify()
    assert (again.differ, again.paths) == (0, [])
    assert (
        recording.tree.next_number == Tree.from_nodes(recording.tree.roots, recording.tree.nodes.values()).next_number
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, and make devices")
@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("chown 1:2 sub/other", "sub/other"),
        ("chown -h 1:2 link", "link"),
        (KEEP.format("touch -r fifo ../f; rm fifo; mknod fifo c 1 3; touch -r ../f fifo"), "fifo"),
    ],
)
def test_owners_and_devices_are_compared(folder: Path, recording: Recording, command: str, path: str) -> None:
    _run(folder, command)
    assert recording.verify().paths == [path]
    assert recording.verify().differ == 0


def test_extended_attributes_of_what_was_touched_are_compared(folder: Path) -> None:
    os.setxattr(folder / "file", "user.old", b"1")
    os.setxattr(folder / "sub", "user.gone", b"1")
    recording = Recording(folder)
    os.setxattr(folder / "file", "user.old", b"2")
    os.setxattr(folder / "file", "user.new", b"3")
    os.removexattr(folder / "sub", "user.gone")
    assert sorted(recording.verify().paths) in (["file", "sub"], ["sub", "sub/twin"])
    assert recording.verify().differ == 0
    node = recording.tree.lookup(b"file")
    assert node is not None
    assert node.xattrs == {b"user.old": b"2", b"user.new": b"3"}


def test_what_nobody_touched_is_compared_by_its_metadata(folder: Path, recording: Recording) -> None:
    recording.is_touched = lambda path: False
    _run(folder, "touch -r sub/other ../f; printf OTHER > sub/other; touch -r ../f sub/other")
    assert recording.verify().differ == 0
    (folder / "sub/other").write_text("later")
    result = recording.verify()
    assert result.paths == ["sub/other"]
    assert result.entries == 6


def test_what_changed_after_the_engine_had_stopped_is_no_difference(folder: Path, recording: Recording) -> None:
    stopped_ns = max(path.lstat().st_ctime_ns for path in folder.rglob("*")) + 1
    while os.stat(folder / "file").st_ctime_ns < stopped_ns:
        _run(folder, "chmod 600 file; mv fifo sub; mkdir new; echo in > new/in")
        recording.tree.nodes[1].meta = meta_of(folder.lstat())
        break
    result = recording.verify(stopped_ns)
    assert (result.differ, recording.events) == (0, [])
    assert result.changed_since >= 4


def test_excluded_and_left_out_entries_are_not_compared(folder: Path, recording: Recording) -> None:
    _run(folder, "echo x > sub/new.log; rm fifo; mkdir build; echo x > build/x; touch -d @0 .")
    recording.tree.nodes[1].meta = meta_of(folder.lstat())
    (folder / "sub" / "new.log").touch()
    rules = Rules.from_patterns(["*.log", "fifo", "build/"])
    result = recording.verify(rules=rules)
    assert set(result.paths) <= {"sub"}  # its own mtime, which a directory has for all that is in it


def test_what_was_a_mount_point_is_not_compared(folder: Path, recording: Recording) -> None:
    _run(folder, KEEP.format("mkdir mounted; touch mounted/below"))
    recording.mounts = frozenset({b"mounted"})
    assert recording.verify().differ == 0


def test_a_late_read_that_was_right_is_confirmed_and_one_that_was_not_is_replaced(recording: Recording) -> None:
    for path, right in ((b"file", True), (b"sub/other", False)):
        node = recording.tree.lookup(path)
        assert node is not None
        assert node.content is not None
        node.inexact = "read late"
        if not right:
            recording.blobs.append(b"OTHER")
            node.content = ExtentMap(5, [(0, 5, len(recording.blobs), 0)])
    recording.is_touched = lambda path: False
    result = recording.verify()
    assert (result.differ, result.paths) == (1, ["sub/other"])
    assert result.confirmed == 1
    confirmed = recording.tree.lookup(b"file")
    assert confirmed is not None
    assert confirmed.inexact == ""
    assert not recording.events[0].data or not recording.events[1].data
    repaired = recording.tree.lookup(b"sub/other")
    assert repaired is not None
    assert repaired.inexact == ""


def test_bytes_that_nobody_read_are_read_back_unless_the_baseline_kept_none(recording: Recording) -> None:
    node = recording.tree.lookup(b"sub/other")
    assert node is not None
    node.content = ExtentMap.unknown(5)
    result = recording.verify(has_all_bytes=False)
    assert (result.differ, result.not_verified) == (0, 1)
    assert recording.verify().paths == ["sub/other"]
    assert recording.verify().differ == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_not_verified(folder: Path, recording: Recording) -> None:
    (folder / "sub" / "other").chmod(0)
    node = recording.tree.lookup(b"sub/other")
    assert node is not None
    node.meta = meta_of((folder / "sub" / "other").lstat())
    assert recording.verify().not_verified == 1


def test_bytes_that_cannot_be_read_back_are_unknown(
    folder: Path, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(directory: int, name: bytes) -> int:
        raise PermissionError

    monkeypatch.setattr("diffkeeper.verification.sweep.open_file", refuse)
    (folder / "sub" / "other").write_text("longer than before")
    recording.verify()
    assert [event.marks for event in recording.events if event.data] == [Mark.UNKNOWN_DATA]


def test_a_root_that_was_replaced_is_not_verified(folder: Path, recording: Recording) -> None:
    _run(folder.parent, "mv root moved; mkdir root")
    with pytest.raises(RootGoneError):
        recording.verify()


def test_no_symlink_leads_out(folder: Path, recording: Recording) -> None:
    _run(folder, "mkdir ../outside; echo x > ../outside/x; rm -r sub; ln -s ../outside sub")
    result = recording.verify()
    assert "sub" in result.paths
    assert not any("outside" in path or path.endswith("/x") for path in result.paths)
    assert recording.tree.lookup(b"sub/x") is None


def test_only_the_first_paths_are_kept(folder: Path, recording: Recording) -> None:
    for number in range(50):
        (folder / f"new{number}").touch()
    result = recording.verify()
    assert result.differ == 51
    assert len(result.paths) == MOST_PATHS


def test_a_sparse_file_is_compared_and_read_back_without_its_holes(folder: Path, recording: Recording) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(700 << 20)
        file.write(b"island")
    recording.verify()
    node = recording.tree.lookup(b"sparse")
    assert node is not None
    assert node.content is not None
    assert node.content.size == 1 << 30
    assert sum(piece.length for piece in node.content.extents()) <= 1 << 20
    assert recording.verify().differ == 0


def test_windows_meet_where_pieces_do_not(tmp_path: Path) -> None:
    data = os.urandom(3 * WINDOW_BYTES + 5)
    (tmp_path / "file").write_bytes(data)
    content = ExtentMap()
    for start in range(0, len(data), 700_001):
        content.write(start, min(700_001, len(data) - start), 1, start)

    class Blobs:
        def read(self, blob: int, start: int, length: int) -> bytes:
            return data[start : start + length]

    with (tmp_path / "file").open("rb") as file:
        assert match(content, Blobs(), file.fileno()) == Match.SAME
        content.punch(2 * WINDOW_BYTES - 1, 2)
        assert match(content, Blobs(), file.fileno()) == Match.DIFFERENT
        content.write_unknown(2 * WINDOW_BYTES - 1, 2)
        assert match(content, Blobs(), file.fileno()) == Match.UNKNOWN


def test_the_result_survives_the_pipe() -> None:
    result = Verification(1, 2, 3, 4, 5, 6, 7, ["a"])
    assert Verification.from_json(result.to_json()) == result
