"""The whole loop as a newcomer meets it: the flaky test of ``demo/`` recorded, read, restored; and record's options."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffkeeper import Trace
from integration.recorder import plain_environment, run
from integration.ways import open_terminal
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

DEMO = Path(__file__).resolve().parents[2] / "demo" / "flaky_ci_test.py"
LINE = re.compile(r"\[(\d\dm:\d\ds)\] ([A-Z]+) +(.*?) +@(\d+) ")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the demo as the README does; return the folder with ``trace`` and what record said."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo").mkdir()
    shutil.copy(DEMO, folder / "demo")
    result = run("record", "--state-dir=./trace", "--", sys.executable, "demo/flaky_ci_test.py", cwd=folder)
    assert result.returncode == 1
    (folder / "said").write_text(result.stderr)
    return folder


def test_the_last_change_before_the_failure_is_marked(demo: Path) -> None:
    result = run("timeline", "--state-dir=./trace", cwd=demo)
    assert result.returncode == 0
    assert "exit 1" in result.stdout.splitlines()[0]
    (marked,) = [line for line in result.stdout.splitlines() if "<--" in line]
    assert marked.startswith("[00m:02s] WRITE    status.log (22B) ")
    assert marked.endswith("<-- last change before exit 1")
    found = [LINE.match(line) for line in result.stdout.splitlines()[1:]]
    told = [(match[1], match[2], match[3]) for match in found if match]
    assert ("00m:00s", "WRITE", "status.log (15B)") in told
    assert ("00m:01s", "CREATE", "db.lock (0B)") in told
    assert ("00m:02s", "TRUNCATE", "status.log (0B)") in told


def test_the_classic_format_is_the_prefix_alone(demo: Path) -> None:
    result = run("timeline", "--state-dir=./trace", "--format", "classic", cwd=demo)
    assert "[00m:02s] WRITE    status.log (22B)" in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("time", "status", "has_lock"),
    [
        ("2s", "ERROR: Connection Lost", True),
        ("1s", "INIT: System OK", True),
        ("0s", "INIT: System OK", False),
        ("[00m:02s]", "ERROR: Connection Lost", True),
        ("end", "ERROR: Connection Lost", True),
        ("exit", "ERROR: Connection Lost", True),
    ],
)
def test_a_position_restores_the_files_as_they_were(
    demo: Path, tmp_path: Path, time: str, status: str, has_lock: bool
) -> None:
    result = run("export", "--state-dir=./trace", f"--out={tmp_path}/restored", f"--time={time}", cwd=demo)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "restored/status.log").read_text() == status
    assert (tmp_path / "restored/db.lock").exists() is has_lock
    assert (tmp_path / "restored/demo/flaky_ci_test.py").read_bytes() == DEMO.read_bytes()


def test_the_hints_that_record_prints_can_be_pasted(demo: Path, tmp_path: Path) -> None:
    hints = [line.split() for line in (demo / "said").read_text().splitlines() if line.startswith("  diffkeeper ")]
    assert [words[1] for words in hints] == ["timeline", "export"]
    for words in hints:
        arguments = [word.replace("--out=debug_fs", f"--out={tmp_path}/debug_fs") for word in words[1:]]
        assert run(*arguments, cwd=demo).returncode == 0
    assert (tmp_path / "debug_fs/status.log").read_text() == ""  # emptied, and not yet written again


def test_info_says_that_all_was_recorded(demo: Path) -> None:
    result = run("info", "--state-dir=./trace", "--json", cwd=demo)
    info = json.loads(result.stdout)
    assert result.returncode == 0
    assert (info["state"], info["exit_code"], info["is_complete"]) == ("sealed", 1, True)
    assert {name: count for name, count in info["counters"].items() if name.startswith("lost") and count} == {}


# --- record's options


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def test_a_timeout_ends_the_command_and_not_the_trace(folder: Path) -> None:
    began = time.monotonic()
    script = "echo before > a; sleep 30; echo after > a"
    result = run("record", "--state-dir=../trace", "--timeout=300ms", "--", "sh", "-c", script, cwd=folder)
    assert result.returncode == 124
    assert time.monotonic() - began < 5
    assert "Command was ended by --timeout." in result.stderr
    with Trace.open(folder.parent / "trace") as trace:
        assert trace.info().is_complete
        assert trace.facts.timed_out
        assert trace.at("end").read("a") == b"before\n"


def test_several_roots_stand_beside_each_other_under_their_labels(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "here before").write_text("kept")
    script = f"echo one > a; echo two > {other}/b; mv a {other}/moved; echo out > {tmp_path}/unwatched"
    arguments = ("record", "--state-dir=../trace", "--watch=.", f"--watch={other}", "--", "sh", "-c", script)
    assert run(*arguments, cwd=folder).returncode == 0
    assert run("export", "../trace", "--out=../out", cwd=folder).returncode == 0
    restored = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert restored == {"other/b", "other/moved", "other/here before"}
    said = run("timeline", "../trace", "--format=classic", cwd=folder).stdout
    assert "RENAME   work/a -> other/moved (4B)" in said
    assert "unwatched" not in said


def test_an_index_as_baseline_keeps_no_content_and_the_export_says_so(folder: Path, tmp_path: Path) -> None:
    (folder / "untouched").write_text("nobody kept this")
    (folder / "appended").write_text("beginning ")
    arguments = (
        "record",
        "--state-dir=../trace",
        "--baseline=index",
        "--",
        "sh",
        "-c",
        "printf end >> appended; echo n > new",
    )
    assert run(*arguments, cwd=folder).returncode == 0
    result = run("export", "../trace", "--out=../out", "--base=", "--json", "--verbose", cwd=folder)
    assert result.returncode == 3
    report = json.loads(result.stdout)
    named = {remark["path"] for remark in (*report["skipped"], *report["inexact"])}
    assert named == {"untouched", "appended"}
    assert report["is_complete"] is False
    assert (tmp_path / "out/new").read_text() == "n\n"
    assert not (tmp_path / "out/untouched").exists()


def test_output_stands_on_the_timeline_and_the_command_keeps_its_terminal(folder: Path) -> None:
    """There both streams are one open file, and the number of the descriptor says which is meant."""
    script = "import os; os.write(1, b'on a terminal\\n' * all(map(os.isatty, range(3)))); os.write(2, b'complaint\\n')"
    master, slave = open_terminal()
    process = subprocess.Popen(
        diffkeeper("record", "-q", "--state-dir=../trace", "--", sys.executable, "-c", script),
        cwd=folder,
        env=plain_environment(),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    assert process.wait(30) == 0
    assert os.read(master, 4096) == b"on a terminal\r\ncomplaint\r\n"
    os.close(master)
    lines = run("timeline", "../trace", "--output", "--format=classic", cwd=folder).stdout.splitlines()
    assert [line for line in lines if "OUTPUT" in line] == [
        "[00m:00s] OUTPUT   stdout: on a terminal",
        "[00m:00s] OUTPUT   stderr: complaint",
    ]
    assert "OUTPUT" not in run("timeline", "../trace", cwd=folder).stdout


def test_quiet_and_json_leave_the_command_its_output(folder: Path) -> None:
    script = "echo out; echo err >&2; echo x > a; exit 3"
    quiet = run("record", "-q", "--state-dir=../quiet", "--", "sh", "-c", script, cwd=folder)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (3, "out\n", "err\n")
    told = run("record", "--json", "--state-dir=../json", "--", "sh", "-c", script, cwd=folder)
    assert (told.returncode, told.stdout) == (3, "out\n")
    complaint, summary = told.stderr.splitlines()
    assert complaint == "err"
    document = json.loads(summary)
    assert (document["exit_code"], document["complete"]) == (3, True)
    assert document["counters"]["changes"] == 2
