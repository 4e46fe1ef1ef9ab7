"""The parts of the engine that looks at files, each by itself."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffkeeper import beneath
from diffkeeper.engines import look_record
from diffkeeper.engines.decoder import decode
from diffkeeper.engines.watch import WatchEngine, survey
from diffkeeper.engines.watch_mirror import Entry, Folder, Root, is_fresh, packed
from diffkeeper.engines.watch_reading import BLOCK_BYTES, Reading
from diffkeeper.engines.watch_rounds import _place_of
from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.observation import Base, Flag, Inode, Looked, LookOp, Read

INODE = Inode(8 << 20 | 1, 1234, -1, 0o100644, 1, 1000, 1001, 5, -5, 7)
COMMON = (9, 100, 90, 100, 0, 0, Flag(0), 0)
BASE, FAR = Base(3, 4, 0), Base(1 << 40, 1 << 63, 5)
XATTRS = ((b"user.a", b"1"), (b"user.b", b""))
LOOKS = [
    Looked(7, 100, 90, 100, 0, 0, Flag(0), 0, LookOp.FOUND, INODE, Base(1, 2, -1), b"name", 12, xattrs=()),
    Looked(8, 100, 90, 100, 0, 0, Flag(0), 0, LookOp.FOUND, INODE, Base(1, 2, -1), b"", read=Read.WHOLE),
    Looked(*COMMON, LookOp.FOUND, INODE, FAR, b"\xff\n", 1, BASE, b"old", 2, Read.EXTENTS, 0, b"target", XATTRS),
    Looked(1, 2, 1, 2, 0, 0, Flag(0), 0, LookOp.BYTES, INODE, Base(1, 2, -1), b"", offset=1 << 40, data=b"x" * 70_000),
    Looked(2, 2, 1, 2, 0, 0, Flag(0), 0, LookOp.GONE, INODE, Base(1, 2, -1), b"gone", 9),
]


@pytest.mark.parametrize("seen", LOOKS, ids=lambda seen: seen.op.name)
def test_a_look_is_decoded_as_it_was_encoded(seen: Looked) -> None:
    assert decode(look_record.encode(seen)) == [seen]


@pytest.mark.parametrize("cut", range(8, 400, 8))
def test_a_record_that_is_cut_is_damage(cut: int) -> None:
    record = look_record.encode(LOOKS[2])
    shortened = cut.to_bytes(4, "little") + record[4:cut]
    if cut < len(record):
        with pytest.raises(DamagedTraceError):
            decode(shortened)


def read(path: Path, known: bytes | None) -> tuple[list[tuple[int, bytes]], Read, bytes | None]:
    with Reading(os.fsencode(path), known) as reading:
        pieces = list(reading.pieces())
        return pieces, reading.read, reading.digests


def test_a_file_that_was_never_read_is_new_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"small")
    assert read(path, None)[:2] == ([(0, b"small")], Read.WHOLE)
    path.write_bytes(b"")
    assert read(path, None) == ([], Read.WHOLE, b"")


def test_of_a_large_file_the_blocks_that_changed_are_new(tmp_path: Path) -> None:
    path, data = tmp_path / "f", bytearray(os.urandom(40 * BLOCK_BYTES + 100))
    path.write_bytes(data)
    pieces, what, digests = read(path, None)
    assert (b"".join(piece for _, piece in pieces), what) == (bytes(data), Read.WHOLE)
    assert read(path, digests)[:2] == ([], Read.AS_KNOWN)
    data[3 * BLOCK_BYTES] ^= 1
    data[20 * BLOCK_BYTES - 1] ^= 1
    path.write_bytes(data)
    pieces, what, _ = read(path, digests)
    assert what == Read.EXTENTS
    assert [(offset // BLOCK_BYTES, len(piece)) for offset, piece in pieces] == [(3, BLOCK_BYTES), (19, BLOCK_BYTES)]


@pytest.mark.parametrize("size", [5 * BLOCK_BYTES, 5 * BLOCK_BYTES + 7, 45 * BLOCK_BYTES])
def test_what_was_appended_or_cut_off_is_told_by_the_last_block_and_the_size(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "f", os.urandom(20 * BLOCK_BYTES + 50)
    path.write_bytes(data)
    digests = read(path, None)[2]
    new = (data + os.urandom(size))[:size] if size < len(data) else data + os.urandom(size - len(data))
    path.write_bytes(new)
    pieces, what, _ = read(path, digests)
    assert what == Read.EXTENTS
    rebuilt = bytearray(data[:size].ljust(size, b"\0"))
    for offset, piece in pieces:
        rebuilt[offset : offset + len(piece)] = piece
    assert bytes(rebuilt) == new


def test_holes_of_a_sparse_file_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"data")
    pieces, what, digests = read(path, None)
    assert what == Read.WHOLE
    assert digests is None
    assert sum(len(piece) for _, piece in pieces) <= 1 << 20
    assert any(b"data" in piece for _, piece in pieces)


def test_a_mirror_knows_a_file_that_moved_from_one_whose_number_was_used_again(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x")
    status = os.lstat(path)
    entry = Entry(packed(status), 0, is_fresh(status))
    assert entry.is_of(status)
    assert entry.has_moved_as(status)
    assert entry.key == (status.st_dev, status.st_ino)
    os.utime(path, ns=(1, 1))
    assert not entry.has_moved_as(os.lstat(path))


def folder_of(root: Root, *names: bytes) -> Folder:
    """Return a root with folders one in another."""
    top = at = Folder(Base(0, 1, -1), None, b"", root)
    for name in names:
        entry = Entry(root.entry.status, 0, is_fresh=False)
        entry.folder = Folder(Base(0, 2, -1), at, name, root)
        at.children[name] = entry
        at = entry.folder
    return top


def test_a_path_leads_to_the_deepest_folder_that_is_known(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path)
    root = Root(path, b"", os.stat(tmp_path), takes_device=False)
    top = folder_of(root, b"a", b"b")
    for below, expected in ((b"a/b/c", (b"a/b", b"c")), (b"a/x/y/z", (b"a", b"x")), (b"n", (b"", b"n"))):
        place = _place_of(top, path + b"/" + below)
        assert place is not None
        assert (place[0].below, place[1]) == expected
    assert _place_of(top, path) == (top, b"")
    assert _place_of(top, path + b"-other/f") is None


def test_what_is_below_a_folder_comes_before_it(tmp_path: Path) -> None:
    root = Root(os.fsencode(tmp_path), b"", os.stat(tmp_path), takes_device=False)
    top = folder_of(root, *(b"%d" % depth for depth in range(500)))
    names = [name for _, name, _ in top.under()]
    assert names == [b"%d" % depth for depth in reversed(range(500))]


def test_what_fsevents_and_windows_dropped_is_told() -> None:
    notify = pytest.importorskip("diffkeeper.engines.notify", exc_type=ImportError)
    told: list[str] = []
    emitter: Any = SimpleNamespace(events_callback=lambda *arguments: told.append("passed on"))
    notify.tell_drops(emitter, lambda: told.append("dropped"))
    emitter.events_callback([b"/a"], [1], [0x100], [1])
    emitter.events_callback([b"/a"], [1], [0x1], [2])
    assert told == ["passed on", "dropped", "passed on"]
    told.clear()
    waiting = SimpleNamespace(put=lambda item: told.append("passed on"))
    windows: Any = SimpleNamespace(_reader=SimpleNamespace(_buf_queue=waiting))
    notify.tell_empty_results(windows, lambda: told.append("dropped"))
    waiting.put((b"full", True))
    waiting.put((b"", True))
    assert told == ["passed on", "dropped", "passed on"]
    notify.tell_drops(SimpleNamespace(), lambda: None)
    notify.tell_empty_results(SimpleNamespace(), lambda: None)


def test_the_observers_of_other_systems_hint_by_path_and_prove_that_they_are_done(tmp_path: Path) -> None:
    notify = pytest.importorskip("diffkeeper.engines.notify", exc_type=ImportError)
    root = Root(os.fsencode(tmp_path), b"", os.stat(tmp_path), takes_device=False)
    hinted: set[bytes] = set()
    observed = notify._Observed([folder_of(root)], lambda path, since_ns: hinted.add(path), lambda since_ns: None)
    try:
        (tmp_path / "f").write_bytes(b"x")
        assert observed.drain(10)
        assert os.fsencode(tmp_path / "f") in hinted
        assert not any(notify.COOKIE in path for path in hinted)
        assert os.listdir(tmp_path) == ["f"]
    finally:
        observed.close()


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    from diffkeeper.engines.protocol import EngineRequest
    from diffkeeper.errors import EngineUnavailableError

    engine = WatchEngine()
    places = ((b"", os.fsencode(tmp_path / "gone")),)
    engine.begin(EngineRequest(1, (), (), (), places=places, trace_path=os.fsencode(tmp_path)))
    with pytest.raises(EngineUnavailableError, match="gone"):
        engine.wait_until_started()
    engine.close()


def test_the_survey_says_how_it_looks() -> None:
    assert survey().is_usable
    assert survey().text().startswith("watch: usable, inexact; ")


def test_without_descriptors_of_directories_paths_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "HAS_DESCRIPTORS", False)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to("d")
    top = beneath.open_directory(os.fsencode(tmp_path))
    inner = beneath.open_directory(b"d", top)
    twin = beneath.dup(inner)
    assert beneath.lstat(b"f", inner).st_size == 5
    assert beneath.status(inner).st_ino == os.stat(tmp_path / "d").st_ino
    with beneath.scandir(twin) as listing:
        assert [entry.name for entry in listing] == [b"f"]
    assert beneath.readlink(b"link", top) == b"d"
    with pytest.raises(NotADirectoryError):
        beneath.open_directory(b"link", top)
    fd = beneath.open_file(b"f", inner)
    assert os.read(fd, 9) == b"bytes"
    for number in (fd, top, inner, twin):
        beneath.close(number)
    assert not beneath._paths
