"""What capture owes to where it looks: inside the lock, into the page cache, on every file system."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from diffkeeper import Trace, record
from diffkeeper.engines.decoder import decode
from diffkeeper.model.event import Event, Kind
from diffkeeper.model.observation import DataWritten, EventsLost, Flag, LateData, Lost, NameChanged
from diffkeeper.native import Capture, CaptureSettings
from diffkeeper.store.journal import JournalReader, SegmentPool

pytestmark = pytest.mark.ebpf

COPIES = """
import os, shutil, sys
source = sys.argv[1]
shutil.copyfile(source, "sendfile"); os.unlink("sendfile")
with open(source, "rb") as one, open("range", "wb") as two:
    while os.copy_file_range(one.fileno(), two.fileno(), 1 << 20): pass
os.unlink("range")
read_end, write_end = os.pipe()
os.write(write_end, b"through a pipe"); os.close(write_end)
with open("splice", "wb") as file:
    os.splice(read_end, file.fileno(), 100)
os.truncate("splice", 3)
"""
NAMES = """
mkdir d; echo one > d/a; echo two >> d/a; mv d/a d/b; ln d/b hard; ln -s target soft; cp d/b copy; rm hard
chmod 640 copy; truncate -s 9 copy; mv d e; mkfifo pipe; touch -d 2020-01-02 e/b; mkdir gone; rmdir gone
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def recorded(argv: list[str], tmp_path: Path) -> Trace:
    outcome = record(argv, state_dir=tmp_path / "trace", watch=["."])
    assert outcome.exit_code == 0
    return Trace.open(tmp_path / "trace")


def content_after(trace: Trace, path: str, kinds: frozenset[Kind]) -> bytes:
    changes: list[Event] = [event for event in trace.history(path) if event.kind in kinds]
    return trace.at(f"@{changes[-1].number}").read(path)


def test_copies_inside_the_kernel_are_exact_though_their_files_are_gone_at_once(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_001))
    with recorded([sys.executable, "-c", COPIES, str(source)], tmp_path) as trace:
        if not trace.facts.engine_facts["reads_page_cache"]:
            pytest.skip("this kernel's page cache cannot be read")
        written = frozenset({Kind.WRITE, Kind.COPY})
        assert content_after(trace, "sendfile", written) == source.read_bytes()
        assert content_after(trace, "range", written) == source.read_bytes()
        assert content_after(trace, "splice", written) == b"through a pipe"
        assert trace.info().is_complete


@pytest.fixture
def other_file_system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "mounted"
    place.mkdir()
    options = {"tmpfs": ["-t", "tmpfs", "none"]}
    if request.param == "overlay":
        for name in ("lower", "upper", "work"):
            (tmp_path / name).mkdir()
        where = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
        options["overlay"] = ["-t", "overlay", "overlay", "-o", where]
    if subprocess.run(["mount", *options[request.param], str(place)], check=False, capture_output=True).returncode:
        pytest.skip(f"{request.param} cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("other_file_system", ["tmpfs", "overlay"], indirect=True)
def test_file_systems_without_in_lock_writes_are_recorded_too(
    other_file_system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other_file_system)
    with recorded(["sh", "-ec", NAMES], tmp_path) as trace:
        tree = trace.at("end")
        assert {os.fsdecode(entry.path) for entry in tree.entries()} == {
            *("copy", "e", "e/b", "pipe", "soft"),
        }
        assert tree.read("e/b") == b"one\ntwo\n"
        assert tree.read("copy") == b"one\ntwo\n\0"
        for entry in tree.entries():
            status = os.lstat(other_file_system / os.fsdecode(entry.path))
            assert (entry.meta.mode, entry.meta.mtime_ns) == (status.st_mode, status.st_mtime_ns), entry.path


def captured(root: Path, tmp_path: Path, ring_bytes: int, script: str) -> list[object]:
    """Return what a capture with a ring of that size observes of a script, in the journal's order."""
    directory = os.open(root, os.O_RDONLY)
    status = os.fstat(directory)
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    capture = Capture(
        CaptureSettings(
            roots=[(device, status.st_ino, 0)],
            excluded=[],
            trace_id=5,
            ring_bytes=ring_bytes,
            root_fds=[directory],
        )
    )
    (tmp_path / "trace").mkdir(mode=0o700)
    pool = SegmentPool(tmp_path / "trace")
    capture.start()
    for number, descriptor in pool.create(4):
        capture.add_segment(number, descriptor)
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)  # nobody drains the ring yet
    capture.drain()
    lost = capture.stop().lost
    capture.close()
    os.close(directory)
    reader = JournalReader(tmp_path / "trace", 5)
    observations = [seen for batch in reader.batches("r") if batch.kind == 1 for seen in decode(batch.payload)]
    assert sum(seen.count for seen in observations if isinstance(seen, EventsLost)) == sum(lost.values())
    return list(observations)


def test_what_does_not_fit_the_ring_is_counted_and_in_the_journal(root: Path, tmp_path: Path) -> None:
    script = "import os; f = os.open('f', os.O_CREAT | os.O_WRONLY)\nfor i in range(2000): os.write(f, b'%04d' % i)"
    observations = captured(root, tmp_path, 1 << 16, script)
    seen = [each for each in observations if isinstance(each, DataWritten)]
    lost = [each for each in observations if isinstance(each, EventsLost)]
    assert {each.channel for each in lost} == {"ring"}
    # Only what this ring had no room for: the two add up to what was done, give or take the script's other calls.
    assert len(seen) < 2000 <= len(seen) + sum(each.count for each in lost) < 2200
    # It is known of which file, and which of its bytes.
    (begin, end) = [each for each in lost if each.what == Lost.BYTES]
    status = (root / "f").stat()
    assert (begin.count, end.count) == (2000 - len(seen), 0)
    assert (begin.file.ino, begin.offset, begin.length) == (status.st_ino, 4 * len(seen), 8000 - 4 * len(seen))
    assert begin.t_ns == begin.from_ns <= begin.exit_ns == end.t_ns


def test_payload_cannot_crowd_out_changes_of_names(root: Path, tmp_path: Path) -> None:
    """Nobody drains: large writes, then small ones, fill what is theirs of the ring; every name after that is there."""
    script = "import os\nf = os.open('f', os.O_CREAT | os.O_WRONLY)\n"
    script += "for size, times in (1 << 20, 5), (65536, 50), (4096, 200), (512, 2000), (16, 9000):\n"
    script += "    for _ in range(times): os.pwrite(f, b'x' * size, 0)\n"
    script += "for i in range(60): os.mkdir(f'd{i}'); os.rename(f'd{i}', f'e{i}')\n"
    observations = captured(root, tmp_path, 1 << 20, script)
    names = [os.fsdecode(each.path) for each in observations if isinstance(each, NameChanged)]
    # Others on this machine may change names whose place only replay can tell.
    assert [name for name in names if "/" not in name] == [f"d{number // 2}" for number in range(120)]
    # Holes are those of all files on the device: while others work there, some of theirs find no room.
    lost = [each for each in observations if isinstance(each, EventsLost) and each.what != Lost.HOLE]
    assert {each.what for each in lost} == {Lost.BYTES}
    assert sum(each.count for each in lost) + sum(isinstance(each, DataWritten) for each in observations) == 11255


def test_a_write_larger_than_the_ring_is_read_back(root: Path, tmp_path: Path) -> None:
    script = "import os; f = os.open('f', os.O_CREAT | os.O_WRONLY); os.write(f, bytes(range(256)) * 4096)"
    observations = captured(root, tmp_path, 1 << 17, script)
    (written,) = [each for each in observations if isinstance(each, DataWritten)]
    late = [each for each in observations if isinstance(each, LateData)]
    assert written.length == 1 << 20
    assert b"".join(each.data for each in late) == bytes(range(256)) * 4096


VANISHING = """
import ctypes, mmap, os, threading
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.mmap(-1, 4096)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
over = False
def hide():
    while not over:
        libc.mprotect(ctypes.c_void_p(address), 4096, 0)
        libc.mprotect(ctypes.c_void_p(address), 4096, 3)
hider = threading.Thread(target=hide)
page[:] = b"p" * 4096
hider.start()
file = os.open("file", os.O_CREAT | os.O_WRONLY, 0o644)
written = 0
while written < 4_000:  # most calls fail with EFAULT, many succeed and find the page gone when they return
    if libc.write(file, ctypes.c_void_p(address), 100) == 100:
        written += 1
over = True
hider.join()
"""


def test_a_buffer_that_is_gone_when_the_call_returns_costs_no_bytes(root: Path, tmp_path: Path) -> None:
    observations = captured(root, tmp_path, 1 << 26, VANISHING)
    writes = {seen.sequence: seen for seen in observations if isinstance(seen, DataWritten)}
    late = {seen.of: seen for seen in observations if isinstance(seen, LateData)}
    starts = sorted(writes.values(), key=lambda seen: seen.t_ns)
    next_ns = {seen.sequence: after.t_ns for seen, after in pairwise((*starts, starts[-1]))} | {
        starts[-1].sequence: 1 << 63
    }
    assert set(late) == {number for number, seen in writes.items() if seen.flags & Flag.FAULT}
    for number, seen in writes.items():
        data = late[number].data if number in late else seen.payload[0][1]
        assert data == b"p" * seen.length
        # On one page it is read before the call returns, not when the drain thread comes to it (after all of them).
        if number in late and seen.offset % 4096 + seen.length <= 4096:
            assert late[number].pid == seen.pid
            assert late[number].read_to_ns < next_ns[number]
    assert sum(seen.length for seen in writes.values()) == (root / "file").stat().st_size
