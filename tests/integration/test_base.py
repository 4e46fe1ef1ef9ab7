"""Files that are not in the trace because nobody touched them: taken from the base, and from nowhere else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from diffkeeper import Exactness, Trace, UnknownContentError
from integration.recorder import run

pytestmark = pytest.mark.ebpf
LARGE = os.urandom(200_000)
SMALL = b"small enough to be kept"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "work"
    (place / "sub").mkdir(parents=True)
    (place / "sub/large").write_bytes(LARGE)
    (place / "small").write_bytes(SMALL)
    return place


def record(folder: Path, script: str, *options: str) -> dict[str, object]:
    done = run("record", "--state-dir=../trace", "--json", *options, "--", "sh", "-c", script, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr)


def export(folder: Path, *options: str) -> tuple[int, dict[str, object]]:
    shutil.rmtree(folder.parent / "out", ignore_errors=True)
    done = run("export", "../trace", "--out=../out", "--json", *options, cwd=folder)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("baseline", ["index", "touched"])
def test_untouched_files_come_from_where_they_were_recorded(folder: Path, baseline: str) -> None:
    record(folder, "echo new > new; chmod 600 sub/large; mv sub moved", f"--baseline={baseline}")
    code, report = export(folder, "--time=start")
    assert (code, report["is_complete"]) == (0, True)
    assert report["from_base"] == (2 if baseline == "index" else 0)
    assert (folder.parent / "out/sub/large").read_bytes() == LARGE
    assert (folder.parent / "out/small").read_bytes() == SMALL
    with Trace.open(folder.parent / "trace") as trace:
        assert trace.at("end").read("moved/large") == LARGE


def test_a_file_that_was_written_after_the_recording_is_not_taken_for_what_it_was(folder: Path) -> None:
    record(folder, "echo new > new", "--baseline=index")
    old = (folder / "sub/large").stat()
    (folder / "sub/large").write_bytes(LARGE[::-1])
    os.utime(folder / "sub/large", ns=(old.st_mtime_ns, old.st_mtime_ns))
    code, report = export(folder)
    assert code == 3
    assert [remark["path"] for remark in report["skipped"]] == ["sub/large"]
    assert report["unknown"] == 1
    assert not (folder.parent / "out/sub/large").exists()
    with Trace.open(folder.parent / "trace") as trace:
        assert trace.at("end").stat("sub/large").content == Exactness.UNKNOWN
        with pytest.raises(UnknownContentError):
            trace.at("end").read("sub/large")


def test_a_copy_can_be_named_as_the_base(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "copy", symlinks=True)
    record(folder, "rm sub/large; echo x >> small", "--baseline=index")
    assert export(folder, "--time=start")[0] == 3
    code, report = export(folder, "--time=start", "--base=../copy")
    assert (code, report["from_base"]) == (0, 2)
    assert (folder.parent / "out/sub/large").read_bytes() == LARGE
    assert (folder.parent / "out/small").read_bytes() == SMALL


def test_without_a_base_only_the_trace_counts(folder: Path) -> None:
    record(folder, "echo new > new", "--baseline=touched")
    code, report = export(folder, "--base=")
    assert (code, report["unknown"], report["from_base"]) == (3, 1, 0)
    assert (folder.parent / "out/small").read_bytes() == SMALL


def test_a_write_into_a_file_that_nobody_kept_leaves_the_rest_unknown(folder: Path) -> None:
    script = "printf new | dd of=sub/large bs=1 seek=100 conv=notrunc 2> /dev/null; cp sub/large copy"
    summary = record(folder, script, "--baseline=index")
    with Trace.open(folder.parent / "trace") as trace:
        for name in ("sub/large", "copy"):
            assert trace.at("end").stat(name).content == Exactness.UNKNOWN
            read = trace.at("end").read(name, allow_unknown=True)
            assert (read[100:103], read[:100], len(read)) == (b"new", bytes(100), len(LARGE))
        assert trace.at("start").stat("sub/large").content == Exactness.UNKNOWN
    assert summary["counters"]["differ"] == 0


def test_a_copy_of_an_untouched_file_is_exact_as_long_as_that_is(folder: Path) -> None:
    summary = record(folder, "cp sub/large copy; cp copy again", "--baseline=index")
    assert summary["counters"]["not_verified"] == 0
    with Trace.open(folder.parent / "trace") as trace:
        assert trace.at("end").read("copy") == LARGE
        assert trace.at("end").read("again") == LARGE
        assert [change.letter for change in trace.diff("start", "end")] == ["A", "A"]


def test_a_killed_recording_takes_only_what_is_older_than_itself(folder: Path) -> None:
    record(folder, "echo new > new; chmod 600 small", "--baseline=index")
    session = folder.parent / "trace/session.json"
    facts = json.loads(session.read_text())
    facts["counters"]["lost_ring"] = 1  # now a change to `small` may be missing, as far as anyone knows
    session.write_text(json.dumps(facts))
    with Trace.open(folder.parent / "trace") as trace:
        assert trace.at("end").stat("sub/large").content == Exactness.EXACT
        assert trace.at("end").stat("small").content == Exactness.UNKNOWN
