"""The native walk finds what the one in Python finds, entry by entry, and keeps the bytes of small files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from diffkeeper import native
from diffkeeper.baseline import BaselineRoot, Selection, take_baseline
from diffkeeper.baseline_format import (
    KIND_CONTENT,
    KIND_ENTRIES,
    KIND_PACK,
    KIND_SUPPLY,
    PACK_BYTES,
    BaselineEntry,
    ContentState,
    decode_content,
    decode_entries,
    decode_pack,
    decode_supply,
)
from diffkeeper.baseline_index import Walk
from diffkeeper.baseline_native import LargeFile
from diffkeeper.rules import Rules
from diffkeeper.store import deltas

pytestmark = pytest.mark.skipif(not native.can_walk(), reason="there is no native library")


class Taken:
    """Hold what a baseline wrote."""

    def __init__(self, root: Path, selection: Selection | None, skip: list[tuple[int, int]] | None = None) -> None:
        self.entries: dict[bytes, BaselineEntry] = {}
        self.packs: dict[int, bytes] = {}
        self.chunks: dict[bytes, bytes] = {}
        self.supplies: dict[int, tuple[ContentState, bytes]] = {}
        self._paths: dict[int, bytes] = {}
        encode = None if selection is None else deltas.encode
        self.report = take_baseline(
            [BaselineRoot(os.fsencode(root))], self, encode=encode, rules=Rules.from_patterns([]), selection=selection,
            skip=skip or [],
        )  # fmt: skip

    def append(self, kind: int, payload: bytes) -> None:
        if kind == KIND_ENTRIES:
            for entry in decode_entries(payload):
                above = self._paths.get(entry.parent, b"")
                self._paths[entry.index] = path = os.path.join(above, entry.name)
                assert path not in self.entries
                self.entries[path] = entry
        elif kind == KIND_PACK:
            number, length, _, value = decode_pack(payload)
            self.packs[number] = deltas.decode(deltas.parse(value))
            assert len(self.packs[number]) == length
        elif kind == KIND_CONTENT:
            self.chunks.update(
                (digest, deltas.decode(deltas.parse(value))) for digest, value in decode_content(payload)
            )
        else:
            assert kind == KIND_SUPPLY
            index, state, chunks = decode_supply(payload)
            assert index in self._paths, "an entry comes before what supplies it"
            self.supplies[index] = state, b"".join(self.chunks[digest] for digest, _ in chunks)

    def content(self, path: bytes) -> bytes:
        """Return the bytes of a file."""
        entry = self.entries[path]
        if entry.index in self.supplies:
            return self.supplies[entry.index][1]
        assert entry.content == ContentState.PACKED
        number, start = divmod(int.from_bytes(entry.chunks[0][0], "little"), PACK_BYTES)
        return self.packs.get(number, b"")[start : start + entry.inode.size]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for number in range(30):
        folder = root / f"d{number % 7}" / f"sub{number}"
        folder.mkdir(parents=True)
        for size in (0, 1, 500, 65_536, 65_537, 200_000):
            (folder / f"f{size}").write_bytes((b"%d " % (number * size))[:1] * size)
    (root / "link").symlink_to("d1/" + "x" * 200)
    os.link(root / "d1/sub1/f200000", root / "hard")
    os.link(root / "d1/sub1/f500", root / "hard too")
    os.mkfifo(root / "fifo")
    (root / os.fsdecode(b"\xff\n name")).write_bytes(b"odd")
    with (root / "sparse").open("wb") as file:
        file.truncate(3 << 20)
        file.seek(2 << 20)
        file.write(b"data")
    (root / "d1/sub1").chmod(0o711)
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)
        server.bind("socket")
        os.chdir(here)
    os.setxattr(root / "hard", "user.one", b"value")
    os.setxattr(root / "d2", "user.two", b"")
    return root


def plain(entries: dict[bytes, BaselineEntry]) -> dict[bytes, tuple[object, ...]]:
    """Return what must be equal, whoever walked."""
    parents = {entry.index: path for path, entry in entries.items()}
    return {
        path: (entry.inode, entry.target, sorted(entry.xattrs), parents.get(entry.parent), entry.content)
        for path, entry in entries.items()
    }


def test_both_walks_find_the_same(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Taken(tree, None)
    monkeypatch.setattr(Walk, "is_selective", True)
    theirs = Taken(tree, None)
    assert plain(ours.entries) == plain(theirs.entries)
    assert len(ours.entries) == ours.report.entries == theirs.report.entries > 200
    assert ours.report.files == theirs.report.files


def test_small_files_are_packed_and_larger_ones_supplied_without_leases(tree: Path) -> None:
    taken = Taken(tree, Selection(65_536, 1 << 30))
    files = [path for path in tree.rglob("*") if path.is_file() and path.stat().st_size]
    supplied = {taken.entries[name].inode.ino for name in taken.entries if taken.entries[name].index in taken.supplies}
    for path in files:
        name = os.fsencode(path.relative_to(tree))
        if path.stat().st_size <= 65_536 or taken.entries[name].index in taken.supplies:
            assert taken.content(name) == path.read_bytes()
    assert supplied == {path.stat().st_ino for path in files if path.stat().st_size > 65_536}
    assert len(taken.packs) >= 8
    assert all(len(pack) <= PACK_BYTES for pack in taken.packs.values())


def test_beyond_the_budget_bytes_are_only_promised(tree: Path) -> None:
    taken = Taken(tree, Selection(65_536, 100_000))
    kept = sum(entry.inode.size for entry in taken.entries.values() if entry.content == ContentState.PACKED)
    assert 0 < kept + sum(len(data) for _, data in taken.supplies.values()) <= 100_000
    assert any(entry.content == ContentState.PROMISED for entry in taken.entries.values())


def test_large_files_are_given_open_and_each_once(tree: Path) -> None:
    given: list[tuple[int, int, bytes]] = []

    def cover(files: list[LargeFile]) -> list[bool]:
        given.extend((file.index, file.size, os.pread(file.fd, 4, 0)) for file in files)
        return [True] * len(files)

    before = len(os.listdir("/proc/self/fd"))
    taken = Taken(tree, Selection(65_536, 1 << 30, cover))
    assert len(os.listdir("/proc/self/fd")) == before
    large = {path.stat().st_ino for path in tree.rglob("*") if path.is_file() and path.stat().st_size > 65_536}
    assert len(given) == len({index for index, _, _ in given}) == len(large)
    assert not taken.supplies
    sizes = {entry.index: entry.inode.size for entry in taken.entries.values()}
    assert all(sizes[index] == size for index, size, _ in given)


def test_what_is_to_be_skipped_is_not_there(tree: Path) -> None:
    status = (tree / "d1").stat()
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    taken = Taken(tree, None, [(device, status.st_ino)])
    assert b"d1" not in taken.entries
    assert b"d2" in taken.entries
    assert not any(path.startswith(b"d1/") for path in taken.entries)


def test_a_folder_with_very_many_entries_is_whole(tmp_path: Path) -> None:
    for number in range(9_000):
        (tmp_path / f"file{number}").write_bytes(b"%d" % number)
    taken = Taken(tmp_path, Selection(65_536, 1 << 30))
    assert len(taken.entries) == 9_001
    assert all(taken.content(b"file%d" % number) == b"%d" % number for number in range(0, 9_000, 97))
