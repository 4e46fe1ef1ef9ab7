"""The oracle tells apart what differs, and holds processes still."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from diffkeeper import Event, Kind, Mark
from oracle.folder import FolderReader
from oracle.freezer import Freezer, refusal
from oracle.judge import Finding, Verdict
from oracle.manifest import Difference, compare
from oracle.mapped import mapped_inodes
from oracle.marks import Marks
from oracle.stepwise import read_steps, without_digests
from oracle.table import NoSuchSectionError, Row, has_section, write_table
from oracle.workloads import HERE, Workload, load_workloads


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 10_000)
    os.link(root / "file", root / "sub" / "twin")
    (root / "link").symlink_to("file")
    os.mkfifo(root / "fifo")
    return root


def event_about(kind: Kind, marks: Mark, path: bytes, number: int = 5) -> Event:
    return Event(number, 0, kind, 1, 1, 0, marks, path=path)


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


def test_a_mapping_that_is_stored_into_is_seen_and_one_that_is_only_read_is_not(tmp_path: Path) -> None:
    stored, looked_at = tmp_path / "stored", tmp_path / "looked at"
    for path in (stored, looked_at):
        path.write_bytes(b"x" * 5000)
    with (
        stored.open("r+b") as file,
        mmap.mmap(file.fileno(), 0),
        looked_at.open("rb") as other,
        mmap.mmap(other.fileno(), 0, prot=mmap.PROT_READ),
    ):
        assert mapped_inodes([os.getpid()]) >= {stored.stat().st_ino}
        assert looked_at.stat().st_ino not in mapped_inodes([os.getpid()])
    assert stored.stat().st_ino not in mapped_inodes([os.getpid()])


def test_a_file_that_is_mapped_is_read_though_its_times_stayed(tree: Path) -> None:
    path = tree / "file"
    os.utime(path, ns=(5, 5))
    time.sleep(1.1)  # until it is old enough to be remembered
    reader = FolderReader(bytes(tree))
    before = reader.read()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0:1] = b"y"
        os.utime(path, ns=(5, 5))
        after = reader.read({path.stat().st_ino})
        pages[0:1] = b"z"
        again = reader.read({path.stat().st_ino})
    assert {each.what for each in compare(before, after)} == {"bytes"} == {each.what for each in compare(after, again)}


def test_what_a_program_wrote_down_is_read_as_a_folder_is(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    program, root = tmp_path / "pairs", tmp_path / "root"
    root.mkdir()
    subprocess.run(["cc", "-o", program, HERE / "programs" / "pairs.c"], check=True)
    subprocess.run([program, tmp_path / "states", "1", "3"], cwd=root, check=True)
    steps = read_steps(tmp_path / "states")
    assert len(steps) == 6
    last = {step.folder: step for step in steps}
    for folder, step in last.items():
        truth = FolderReader(os.path.join(os.fsencode(root), folder)).read()
        assert compare(without_digests(truth), step.manifest) == []


def test_a_table_goes_between_its_comments_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("before\n<!-- oracle: disk -->\nold\n<!-- end of oracle: disk -->\nafter\n")
    verdict = Verdict(events=1234, findings=Counter({Finding.EXACT: 5, Finding.WRONG: 1}), lost=7)
    write_table([Row(Workload("w", "true", why="a|b"), verdict, 1.5)], document, "disk", "conditions")
    text = document.read_text()
    assert text.startswith("before\n<!-- oracle: disk -->\nconditions\n\n| workload |")
    assert "| `w` | a/b | 1,234 | 1.5 s | 6 | 5 | 0 | 0 | 1 | 7 | 0 | 0 |\n" in text
    assert text.endswith("<!-- end of oracle: disk -->\nafter\n")


def test_a_document_without_the_section_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("all about it\n")
    assert not has_section(document, "disk")
    with pytest.raises(NoSuchSectionError):
        write_table([], document, "disk", "conditions")
    assert document.read_text() == "all about it\n"
    for conditions in ("first", "second"):
        write_table([], tmp_path / "new.md", "disk", conditions)
    assert "\nsecond\n" in (tmp_path / "new.md").read_text()
    assert "first" not in (tmp_path / "new.md").read_text()


@pytest.mark.parametrize(
    ("difference", "is_covered"),
    [
        (Difference(b"doubtful", "bytes", 1, 2), True),
        (Difference(b"doubtful", "mode", 1, 2), False),
        (Difference(b"sure", "bytes", 1, 2), False),
    ],
)
def test_a_mark_excuses_only_what_it_is_about(difference: Difference, is_covered: bool) -> None:
    marks = Marks([])
    assert marks.cover(difference, 10, {b"doubtful": "read late"}) == is_covered


@pytest.mark.parametrize(
    ("event", "path", "is_covered"),
    [
        (event_about(Kind.RENAME, Mark.UNRESOLVED, b"d/a"), b"d/a", True),
        (event_about(Kind.RENAME, Mark.UNRESOLVED, b"d/a"), b"d/a/below", True),
        (event_about(Kind.RENAME, Mark.UNRESOLVED, b"d/a"), b"d", True),
        (event_about(Kind.RENAME, Mark.UNRESOLVED, b"d/a"), b"d/b", False),
        (event_about(Kind.RENAME, Mark.OUTSIDER, b"d/a"), b"d/a", False),
        (event_about(Kind.GAP, Mark(0), b""), b"anything", True),
        (event_about(Kind.GAP, Mark(0), b"d"), b"e", False),
        (event_about(Kind.RENAME, Mark.UNRESOLVED, b"d/a", number=11), b"d/a", False),
    ],
)
def test_an_event_in_doubt_excuses_what_it_names_from_then_on(event: Event, path: bytes, is_covered: bool) -> None:
    assert Marks([event]).cover(Difference(path, "missing", "f", None), 10, {}) == is_covered
