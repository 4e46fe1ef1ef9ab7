"""Bytes from before the command on file systems that lease, link and map in their own ways."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from diffkeeper import Trace
from integration.recorder import run
from oracle.file_systems import FileSystemUnavailableError, file_system, unmount

pytestmark = [pytest.mark.ebpf, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")]

LEASES_ALONE = "--baseline-budget=0"
# Each file goes in a way of its own; nothing is copied before somebody is about to change it.
CHANGES = """
printf new | dd of=file0 bs=1 seek=9 conv=notrunc 2> /dev/null
echo new >> file1
echo new > file2
rm file3
echo new > x; mv x file4
mv file5 file6
sed -i s/0/1/ file7
mv file8 ../out8
mkdir d; mv file9 d; mv d ../out9
for number in $(seq 40); do ln file10 link$number; done; rm file10; echo new > link7
rm file11; for number in $(seq 9); do head -c 200000 /dev/zero > again$number; done
fallocate -p -o 4096 -l 8192 file12 2> /dev/null || echo new > file12
cp --reflink=auto file14 file13
python3 -c "import mmap; f = open('file15', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[:3] = b'new'"
"""
FILES = 16
UNWRITTEN = (5, 14)


def content(number: int) -> bytes:
    return (b"%06d" % number) * 33_000


def fill(folder: Path) -> Path:
    folder.mkdir()
    for number in range(FILES):
        (folder / f"file{number}").write_bytes(content(number))
    return folder


def record(folder: Path, trace: Path, script: str, *options: str) -> dict[str, object]:
    done = run("record", f"--state-dir={trace}", "--json", *options, "--", "sh", "-c", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads([line for line in done.stderr.splitlines() if line.startswith("{")][-1])


def holds_all_from_before(trace: Path, without: Sequence[int] = ()) -> None:
    """Demand of the trace alone the bytes that files had before the command."""
    with Trace.open(trace, base="") as opened:
        before = opened.at("start")
        wrong = [n for n in range(FILES) if n not in without and before.read(f"file{n}") != content(n)]
    assert wrong == []


@pytest.fixture(params=["xfs", "btrfs", "tmpfs", "overlay", "overlay-two"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    try:
        with file_system(request.param, tmp_path / "fs") as place:
            folder = fill(place.folder / "work")
            place.settle()  # on an overlay the files lie below now
            yield folder
    except FileSystemUnavailableError as error:
        pytest.skip(str(error))


def test_what_files_were_before_their_first_change_is_in_the_trace(folder: Path, tmp_path: Path) -> None:
    summary = record(folder, tmp_path / "trace", CHANGES, LEASES_ALONE)
    assert (summary["counters"]["leases"], summary["counters"]["no_before_image"]) == (FILES, 0)
    assert summary["differing"] == []
    holds_all_from_before(tmp_path / "trace", UNWRITTEN)
    with Trace.open(tmp_path / "trace") as trace:  # they are still there
        assert [trace.at("start").read(f"file{n}") == content(n) for n in UNWRITTEN] == [True, True]


def test_a_file_that_another_one_was_renamed_over_counts_as_lost_where_nobody_kept_its_bytes(
    folder: Path, tmp_path: Path
) -> None:
    summary = record(folder, tmp_path / "trace", "mv file0 file1", LEASES_ALONE, "--no-leases")
    assert summary["counters"]["no_before_image"] == 1
    assert summary["complete"] is False


@pytest.mark.parametrize("folder", ["xfs"], indirect=True)
@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl")
def test_an_access_control_list_is_taken_once_though_xfs_shows_it_twice(folder: Path, tmp_path: Path) -> None:
    subprocess.run(["setfacl", "-m", "u:12345:r", "file0", "file1"], cwd=folder, check=True)
    assert "trusted.SGI_ACL_FILE" in os.listxattr(folder / "file0")
    summary = record(folder, tmp_path / "trace", "setfacl -b file0; setfacl -m u:12346:r file2")
    assert summary["differing"] == []
    with Trace.open(tmp_path / "trace") as trace:
        lists = [{entry.path: sorted(entry.xattrs) for entry in trace.at(at).entries()} for at in ("start", "end")]
    access = b"system.posix_acl_access"
    assert [lists[0][b"file%d" % number] for number in range(3)] == [[access], [access], []]
    assert [lists[1][b"file%d" % number] for number in range(3)] == [[], [access], [access]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a folder on FUSE, and the one that its server serves."""
    if shutil.which("bindfs") is None:
        pytest.skip("needs bindfs")
    behind, before = fill(tmp_path / "behind"), tmp_path / "before"
    before.mkdir()
    done = subprocess.run(["bindfs", behind, before], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"FUSE cannot be mounted: {done.stderr.strip()}")
    yield before, behind
    unmount(before)


def test_a_lease_is_not_relied_on_where_a_server_may_change_the_file(served: tuple[Path, Path], tmp_path: Path) -> None:
    folder, behind = served
    script = f"echo new > file0; echo new > {behind}/file1; rm file2; cat file3 > /dev/null"
    counters = record(folder, tmp_path / "trace", script)["counters"]
    assert (counters["leases"], counters["leases_refused"]) == (0, FILES)
    holds_all_from_before(tmp_path / "trace")
