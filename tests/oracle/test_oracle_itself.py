"""The oracle tells apart what differs, and holds processes still."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from oracle.folder import FolderReader
from oracle.freezer import Freezer, refusal
from oracle.manifest import compare
from oracle.workloads import load_workloads


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 10_000)
    os.link(root / "file", root / "sub" / "twin")
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    return root


def differences_after(tree: Path, command: str) -> list[str]:
    before = FolderReader(bytes(tree)).read()
    subprocess.run(["sh", "-e", "-c", command], cwd=tree, check=True)
    return [f"{os.fsdecode(each.path)} {each.what}" for each in compare(before, FolderReader(bytes(tree)).read())]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("true", []),
        ("touch -r file ref; printf y | dd of=file bs=1 seek=5000 conv=notrunc 2> /dev/null; touch -r ref file; rm ref",
         ["file bytes", "sub/twin bytes"]),
        ("chmod 600 fifo", ["fifo mode"]),
        ("touch -h -d @5.000000001 link", ["link mtime_ns"]),
        ("touch -r sub ref; cp -p file new; mv new sub/twin; touch -r ref sub; rm ref", ["sub/twin links"]),
        ("touch -r link ref; ln -sf other link; touch -h -r ref link; rm ref", ["link target"]),
        ("touch -r sub ref; mv sub/twin sub/other; touch -r ref sub; rm ref",
         ["sub/other should not be there", "sub/twin missing"]),
    ],
)  # fmt: skip
def test_every_difference_is_found_and_no_other(tree: Path, command: str, expected: list[str]) -> None:
    assert differences_after(tree, command) == expected


def test_where_bytes_part_is_told(tree: Path) -> None:
    before = FolderReader(bytes(tree)).read()
    with (tree / "file").open("r+b") as file:
        file.seek(5000)
        file.write(b"y")
    found = [str(each) for each in compare(before, FolderReader(bytes(tree)).read()) if each.what == "bytes"]
    assert "the first at 4096 of 10000" in found[0]


def test_a_true_copy_does_not_differ(tree: Path, tmp_path: Path) -> None:
    if shutil.which("cp") is None:
        pytest.skip("there is no cp")
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    assert compare(FolderReader(bytes(tree)).read(), FolderReader(bytes(tmp_path / "copy")).read()) == []


def test_frozen_processes_do_nothing(tmp_path: Path) -> None:
    reason = refusal()
    if reason is not None:
        pytest.skip(reason)
    freezer = Freezer(f"diffkeeper-oracle-test-{os.getpid()}")
    count = "i=0; while :; do i=$((i+1)); echo $i > count; done"
    script = f'echo $$ > "$0" && {count}'
    process = subprocess.Popen(["sh", "-c", script, freezer.join_file], cwd=tmp_path)
    try:
        while not (tmp_path / "count").exists():
            time.sleep(0.001)
        with freezer.frozen() as t_ns:
            assert t_ns is not None
            first = FolderReader(bytes(tmp_path)).read()
            time.sleep(0.05)
            assert compare(first, FolderReader(bytes(tmp_path)).read()) == []
        time.sleep(0.05)
        assert compare(first, FolderReader(bytes(tmp_path)).read()) != []
    finally:
        process.kill()
        process.wait()
        freezer.close()


def test_every_workload_says_why_it_is_there() -> None:
    assert all(workload.why and workload.command for workload in load_workloads().values())
