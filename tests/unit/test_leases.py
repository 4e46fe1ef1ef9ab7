"""Holders of leases, without an engine: what they copy before it changes, and that nobody waits for them for long."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import native
from diffkeeper.baseline_native import LargeFile
from diffkeeper.recording_leases import Leases
from diffkeeper.store.images import Image, ImageState, images

TRACE_ID = 77
SILENT_NS = 2_000_000_000

pytestmark = pytest.mark.skipif(
    native._load() is None or not sys.platform.startswith("linux"), reason="there is no native library"
)


class _Engine:
    """Fork holders as the helper does, and watch them."""

    def __init__(self) -> None:
        self.holders: list[native.Holder] = []
        self._watch = threading.Event()

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        self.holders.append(native.Holder(socket, images, trace_id, most))
        return True

    def watch(self) -> None:
        """Look at the holders until all have ended."""
        end = time.monotonic() + 20
        while not all(one.has_ended(SILENT_NS) for one in self.holders):
            assert time.monotonic() < end, "a holder does not end"
            time.sleep(0.005)


class Held:
    """Hold leases on files of a folder, and know them by their index."""

    def __init__(self, place: Path, most: int = 0) -> None:
        self.root = place / "root"
        self.root.mkdir()
        self.trace = place / "trace"
        self.trace.mkdir()
        self.engine = _Engine()
        self._root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        self.leases = Leases(self.trace, TRACE_ID, self.engine, [self._root], most)
        self.files: list[Path] = []

    def make(self, name: str, data: bytes = b"before" * 20_000) -> Path:
        path = self.root / name
        path.write_bytes(data)
        return path

    def cover(self, *paths: Path) -> list[bool]:
        """Have files leased, as they are now."""
        opened = []
        for path in paths:
            fd, status = os.open(path, os.O_RDONLY), path.stat()
            opened.append(LargeFile(fd, len(self.files), status.st_size, status.st_mtime_ns, status.st_nlink))
            self.files.append(path)
        try:
            return self.leases.cover(opened)
        finally:
            for file in opened:
                os.close(file.fd)

    def end(self) -> dict[str, Image]:
        """End the holders; return the images by the names that their files had."""
        self.leases.finish()
        self.engine.watch()
        return {self.files[image.index].name: image for image in images(self.trace, TRACE_ID)}

    def close(self) -> None:
        self.leases.__exit__()
        for holder in self.engine.holders:
            if not holder.has_ended(SILENT_NS):
                os.kill(holder.pid, signal.SIGKILL)
        self.engine.watch()
        os.close(self._root)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    value = Held(tmp_path)
    yield value
    value.close()


def bytes_of(image: Image) -> bytes:
    assert image.is_whole, ImageState(image.state)
    return b"".join(image.chunks())


def seconds_to(path: Path, flags: int) -> float:
    """Open a file and return how long that took."""
    began = time.monotonic()
    os.close(os.open(path, flags))
    return time.monotonic() - began


def test_a_file_is_copied_before_it_can_be_opened_for_writing(held: Held) -> None:
    path, other = held.make("file"), held.make("untouched")
    assert held.cover(path, other) == [True, True]
    with path.open("r+b") as opened:
        opened.write(b"after")
    found = held.end()
    assert found.keys() == {"file"}
    assert bytes_of(found["file"]) == b"before" * 20_000


def test_a_truncation_by_name_waits_too(held: Held) -> None:
    path = held.make("file")
    held.cover(path)
    os.truncate(path, 3)
    assert bytes_of(held.end()["file"]) == b"before" * 20_000


def test_readers_and_programs_never_wait_and_nothing_is_copied_for_them(held: Held) -> None:
    program = held.root / "sleep"
    shutil.copy(shutil.which("sleep") or "", program)
    running = subprocess.Popen([program, "30"])
    try:
        assert held.cover(program) == [True]
        assert subprocess.run([program, "0"], check=False).returncode == 0
        assert program.read_bytes()
        with pytest.raises(OSError, match="Text file busy"):
            os.open(program, os.O_WRONLY)
    finally:
        running.kill()
        running.wait()
    assert held.end().keys() <= {"sleep"}


@pytest.mark.parametrize("how", ["unlink", "replace", "link kept elsewhere", "moved out"])
def test_the_bytes_of_a_file_that_goes_away_are_copied(held: Held, how: str) -> None:
    path = held.make("file")
    if how == "link kept elsewhere":
        os.link(path, held.root.parent / "elsewhere")
    held.cover(path)
    if how == "replace":
        held.make("new", b"new").replace(path)
    elif how == "moved out":
        path.rename(held.root.parent / "out")
    else:
        path.unlink()
    found = held.end()
    assert bytes_of(found["file"]) == b"before" * 20_000


def test_a_file_that_was_only_renamed_or_relabelled_is_not_copied(held: Held) -> None:
    path, other = held.make("file"), held.make("other")
    held.cover(path, other)
    path.rename(held.root / "renamed")
    other.chmod(0o600)
    assert held.end() == {}


def test_the_room_of_a_removed_file_is_given_back_while_the_recording_goes_on(held: Held) -> None:
    path = held.make("file")
    held.cover(path)
    path.unlink()
    end = time.monotonic() + 10
    fds = Path(f"/proc/{held.engine.holders[0].pid}/fd")
    while any("file (deleted)" in os.readlink(fd) for fd in fds.iterdir()):
        assert time.monotonic() < end, "the holder keeps the file"
        time.sleep(0.05)
    assert bytes_of(held.end()["file"]) == b"before" * 20_000


def test_as_many_holders_are_started_as_the_limit_of_descriptors_demands(tmp_path: Path) -> None:
    held = Held(tmp_path, most=20)
    paths = [held.make(f"file{number}") for number in range(90)]
    assert all(held.cover(*paths[:50]) + held.cover(*paths[50:]))
    assert len(held.engine.holders) >= 4
    for path in paths:
        path.write_bytes(b"after")
    found = held.end()
    assert len(found) == 90
    assert all(bytes_of(image) == b"before" * 20_000 for image in found.values())
    held.close()


def test_a_file_that_is_open_for_writing_is_refused(held: Held) -> None:
    path, other = held.make("file"), held.make("other")
    with path.open("r+b"):
        assert held.cover(path, other) == [False, True]


def test_a_file_that_is_not_as_it_was_indexed_is_refused(held: Held) -> None:
    path = held.make("file")
    fd, status = os.open(path, os.O_RDONLY), path.stat()
    assert held.leases.cover([LargeFile(fd, 0, status.st_size, status.st_mtime_ns - 1, 1)]) == [False]
    os.close(fd)


def test_an_open_that_will_not_wait_fails_once_as_the_kernel_decides(held: Held) -> None:
    path = held.make("file")
    held.cover(path)
    with pytest.raises(BlockingIOError):
        os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    assert seconds_to(path, os.O_WRONLY) < 5
    assert bytes_of(held.end()["file"]) == b"before" * 20_000


def test_bytes_that_went_by_a_way_that_breaks_no_lease_are_not_taken_for_the_old_ones(held: Held) -> None:
    path = held.make("file")
    held.cover(path)
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))  # not an open for writing, says the kernel
    path.unlink()
    image = held.end()["file"]
    assert ImageState(image.state) == ImageState.CHANGED
    assert not image.is_whole


def test_nobody_waits_for_the_copy_of_a_huge_file(held: Held) -> None:
    path = held.root / "huge"
    with path.open("wb") as opened:
        opened.truncate(3 << 30)
    held.cover(path)
    assert seconds_to(path, os.O_WRONLY) < 2
    image = held.end()["huge"]
    assert ImageState(image.state) in (ImageState.TOO_LARGE, ImageState.CLONED)


def test_holes_stay_holes(held: Held) -> None:
    path = held.root / "sparse"
    with path.open("wb") as opened:
        opened.write(b"begin")
        opened.truncate(500 << 20)
        opened.seek(0, os.SEEK_END)
        opened.write(b"end")
    held.cover(path)
    assert seconds_to(path, os.O_WRONLY) < 2
    image = held.end()["sparse"]
    assert (image.is_whole, image.size) == (True, (500 << 20) + 3)
    assert image.path.stat().st_blocks * 512 < 50 << 20
    assert next(image.chunks())[:6] == b"begin\0"


def test_a_stopped_holder_is_killed_and_whoever_waits_for_it_goes_on(held: Held) -> None:
    path = held.make("file")
    held.cover(path)
    os.kill(held.engine.holders[0].pid, signal.SIGSTOP)
    waited: list[float] = []
    opener = threading.Thread(target=lambda: waited.append(seconds_to(path, os.O_WRONLY)))
    opener.start()
    held.engine.watch()
    opener.join(10)
    assert waited
    assert waited[0] < 5
    held.leases.finish()
    assert held.leases.uncovered == 1


def test_a_killed_holder_delays_nobody_and_what_it_covered_is_counted(held: Held) -> None:
    path = held.make("file")
    held.cover(path, held.make("other"))
    os.kill(held.engine.holders[0].pid, signal.SIGKILL)
    assert seconds_to(path, os.O_WRONLY) < 2
    assert held.end() == {}
    assert held.leases.uncovered == 2


def test_another_holder_takes_over_from_one_that_died(held: Held) -> None:
    held.cover(held.make("first"))
    os.kill(held.engine.holders[0].pid, signal.SIGKILL)
    time.sleep(0.05)
    results = [held.cover(held.make(f"file{number}"))[0] for number in range(3)]
    assert results[-1]


def test_a_holder_whose_recorder_is_gone_copies_what_was_removed_and_ends(held: Held) -> None:
    path = held.make("file")
    held.cover(path, held.make("other"))
    path.unlink()
    held.leases.__exit__()
    held.engine.watch()
    assert [bytes_of(image) for image in images(held.trace, TRACE_ID)] == [b"before" * 20_000]


def test_many_at_once_are_all_copied(held: Held) -> None:
    paths = [held.make(f"file{number}", bytes([number]) * 300_000) for number in range(60)]
    held.cover(*paths)
    threads = [threading.Thread(target=path.write_bytes, args=(b"after",)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    found = held.end()
    assert {name: bytes_of(image)[:1] for name, image in found.items()} == {
        f"file{number}": bytes([number]) for number in range(60)
    }


def test_a_watcher_beside_it_sees_every_write_and_no_change_of_ours(held: Held) -> None:
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    path = held.make("file")
    held.cover(path)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(held.root), 0xFFF) >= 0
    with path.open("r+b") as opened:
        opened.write(b"after")
    held.end()
    seen = 0
    while select.select([watch], [], [], 0.1)[0]:
        with contextlib.suppress(BlockingIOError):
            data = os.read(watch, 65536)
            while data:
                length = int.from_bytes(data[12:16], sys.byteorder)
                seen |= int.from_bytes(data[4:8], sys.byteorder)
                data = data[16 + length :]
    os.close(watch)
    modify, close_write, attributes = 0x2, 0x8, 0x4
    assert seen & modify
    assert seen & close_write
    assert not seen & attributes


def test_an_image_is_damaged_where_its_head_or_its_bytes_are(held: Held) -> None:
    path = held.make("file")
    held.cover(path)
    path.write_bytes(b"after")
    image = held.end()["file"]
    data = bytearray(image.path.read_bytes())
    data[8] ^= 1
    image.path.write_bytes(data)
    assert list(images(held.trace, TRACE_ID)) == []
    assert list(images(held.trace, TRACE_ID + 1)) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_file_of_an_overlay_that_is_mapped_for_writing_is_copied_at_once(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    held = Held(tmp_path)
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, held.root], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no overlay here: {mounted.stderr.decode()}")
    script = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(fd, 0)
os.close(fd)
print("mapped", flush=True)
sys.stdin.readline()
memory[:5] = b"AFTER"
"""
    path = held.make("file")
    mapper = subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert mapper.stdout is not None
        mapper.stdout.readline()
        if held.cover(path) == [True]:  # what the kernel refuses needs nothing more
            held.leases.settle()
            mapper.communicate(b"\n")
            image = held.end()["file"]
            assert bytes_of(image) == b"before" * 20_000
    finally:
        mapper.kill()
        mapper.wait()
        held.close()
        subprocess.run(["umount", "--lazy", held.root], check=False)
