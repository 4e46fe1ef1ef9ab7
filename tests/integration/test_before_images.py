"""Bytes from before the command: what the trace holds of files that were changed, however that was done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.errors import UnknownContentError
from integration.recorder import descendants, plain_environment, run, wait_until
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf


def content(number: int, size: int = 200_000) -> bytes:
    return (b"%06d" % number) * (size // 6)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "work"
    place.mkdir()
    for number in range(8):
        (place / f"file{number}").write_bytes(content(number))
    return place


# Without a budget nothing is copied before somebody is about to change it: leases are all that there is.
LEASES_ALONE = "--baseline-budget=0"


def record(folder: Path, script: str, *options: str, code: int = 0) -> dict[str, object]:
    done = run("record", "--state-dir=../trace", "--json", *options, "--", "sh", "-c", script, cwd=folder)
    assert done.returncode == code, done.stderr
    return json.loads([line for line in done.stderr.splitlines() if line.startswith("{")][-1])


def holds_all_from_before(folder: Path, *numbers: int) -> None:
    """Demand of the trace alone the bytes that files had before the command."""
    with Trace.open(folder.parent / "trace", base="") as trace:
        before = trace.at("start")
        for number in numbers:
            assert before.read(f"file{number}") == content(number)


MAPPER = "import mmap; f = open('file0', 'r+b'); m = mmap.mmap(f.fileno(), 0); m[:3] = b'new'; m.flush()"
CHANGES = {
    "in place": "printf new | dd of=file0 bs=1 seek=9 conv=notrunc 2> /dev/null",
    "anew": "echo new > file0",
    "appended": "echo new >> file0",
    "removed": "rm file0",
    "replaced": "echo new > x; mv x file0",
    "replaced by another": "mv file1 file0",
    "exchanged by a program": "sed -i s/0/1/ file0",
    "moved out": "mv file0 ../out",
    "folder moved out": "mkdir d; mv file0 d; mv d ../out",
    "cut": "python3 -c \"import os; os.truncate('file0', 5)\"",
    "mapped": f'python3 -c "{MAPPER}"',
}


@pytest.mark.parametrize("script", CHANGES.values(), ids=CHANGES.keys())
def test_what_a_file_was_before_its_first_change_is_in_the_trace(folder: Path, script: str) -> None:
    summary = record(folder, script, LEASES_ALONE)
    assert summary["counters"]["no_before_image"] == 0
    assert summary["complete"] is True
    holds_all_from_before(folder, 0)


def test_what_is_left_of_a_file_after_a_write_is_known(folder: Path) -> None:
    record(folder, CHANGES["in place"])
    with Trace.open(folder.parent / "trace", base="") as trace:
        assert trace.at("end").read("file0") == content(0)[:9] + b"new" + content(0)[12:]


def test_files_that_nobody_changed_are_not_copied(folder: Path) -> None:
    script = "cat file* > /dev/null; echo new > file0; chmod 600 file1; mv file2 file9"
    counters = record(folder, script, LEASES_ALONE)["counters"]
    assert (counters["leases"], counters["before_images"]) == (8, 1)
    said = run("info", "../trace", cwd=folder).stdout
    assert "touched; 1 of 8 files have their content in the trace, 7 are taken from the base" in said


def test_without_leases_large_files_are_copied_first_as_far_as_the_budget_goes(folder: Path) -> None:
    summary = record(folder, "echo new > file0; echo new > file7", "--no-leases", "--baseline-budget=1M")
    counters = summary["counters"]
    assert "leases" not in counters
    assert counters["baseline_kept"] == 5
    assert counters["no_before_image"] == 1
    assert summary["complete"] is False
    assert any("bytes from before were not kept" in defect for defect in summary["defects"])


def test_an_open_that_will_not_wait_is_counted_and_the_remedy_named(folder: Path) -> None:
    script = "import os; os.open('file0', os.O_WRONLY | os.O_NONBLOCK)"
    done = run("record", LEASES_ALONE, "--state-dir=../trace", "--", "python3", "-c", script, cwd=folder)
    assert done.returncode == 1
    assert "1 open with O_NONBLOCK failed with EAGAIN" in done.stderr
    assert "--no-leases" in done.stderr
    assert "--no-leases" in run("info", "../trace", cwd=folder).stdout
    for option in ("--no-leases", "--baseline-budget=1M"):
        again = run("record", "--force", option, "--state-dir=../trace", "--", "python3", "-c", script, cwd=folder)
        assert again.returncode == 0, again.stderr


def test_what_the_budget_has_room_for_is_copied_before_anybody_waits_the_smallest_first(folder: Path) -> None:
    (folder / "large").write_bytes(content(9, 600_000))
    opened = "import os; [os.open(f'file{n}', os.O_RDONLY | os.O_TRUNC) for n in range(8)]"
    counters = record(folder, f'python3 -c "{opened}"; rm large', "--baseline-budget=1600K")["counters"]
    # Such an open breaks no lease: what had only that is lost.
    assert (counters["leases"], counters["before_images"], counters["no_before_image"]) == (9, 9, 0)
    holds_all_from_before(folder, *range(8))


def test_copies_of_files_that_nobody_touched_are_not_kept(folder: Path) -> None:
    assert "before_images" not in record(folder, "cat file*")["counters"]
    with Trace.open(folder.parent / "trace") as trace:
        assert trace.at("start").read("file3") == content(3)
    shutil.rmtree(folder)
    with Trace.open(folder.parent / "trace") as trace, pytest.raises(UnknownContentError):
        trace.at("start").read("file3")


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs tar")
def test_tar_overwrite_works_without_leases(folder: Path) -> None:
    subprocess.run(["tar", "cf", "../all.tar", "."], cwd=folder, check=True)
    record(folder, "tar xf ../all.tar --overwrite", "--no-leases")
    record(folder, "tar xf ../all.tar --overwrite", "--force")  # a small tree needs no leases
    summary = record(folder, "tar xf ../all.tar --overwrite 2> /dev/null", "--force", LEASES_ALONE, code=2)
    assert summary["counters"]["disturbed_opens"] >= 8


def test_a_low_limit_of_descriptors_takes_more_holders(folder: Path) -> None:
    for number in range(8, 700):
        (folder / f"file{number}").write_bytes(content(number, 70_000))
    command = [
        "sh",
        "-c",
        'ulimit -n 320; exec "$@"',
        "sh",
        *diffkeeper("record", "--state-dir=../trace", LEASES_ALONE),
    ]
    command.append("--json")
    script = "for number in $(seq 8 699); do echo new > file$number; done"
    done = subprocess.run(
        [*command, "--", "sh", "-c", script], cwd=folder, env=plain_environment(), capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counters = json.loads(done.stderr.splitlines()[-1])["counters"]
    assert (counters["leases"], counters["before_images"], counters["no_before_image"]) == (700, 692, 0)


def test_a_file_that_is_open_for_writing_is_copied_at_once(folder: Path) -> None:
    with (folder / "file0").open("r+b"):
        summary = record(folder, "echo new >> file0")
    assert (summary["counters"]["leases"], summary["counters"]["leases_refused"]) == (7, 1)
    holds_all_from_before(folder, 0)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_without_the_right_to_lease_the_files_of_others_are_copied_first(folder: Path) -> None:
    for number in range(4):
        os.chown(folder / f"file{number}", 12345, 12345)
    command = ["setpriv", "--bounding-set=-lease", "--inh-caps=-lease", *diffkeeper("record", "--state-dir=../trace")]
    done = subprocess.run(
        [*command, "--json", "--", "sh", "-c", "echo new > file0; echo new > file7"], cwd=folder, check=False,
        env=plain_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counters = json.loads(done.stderr.splitlines()[-1])["counters"]
    assert (counters["leases"], counters["leases_refused"]) == (4, 4)
    holds_all_from_before(folder, 0, 7)


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    command = diffkeeper("record", "--state-dir=../trace", "--json", LEASES_ALONE, "--", "sh", "-c", script)
    return subprocess.Popen(command, cwd=folder, env=plain_environment(), stderr=subprocess.PIPE, text=True)


def holder_of(recorder: int) -> int:
    """Return the pid of the holder: the helper's child of that name."""
    for pid in descendants(recorder):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "diffkeeper-hold":
                return pid
        except OSError:
            continue
    return 0


def test_a_recording_that_is_killed_keeps_what_was_copied(folder: Path) -> None:
    process = start(folder, "echo new > file0; rm file1; touch done; sleep 60")
    wait_until((folder / "done").exists)
    time.sleep(0.3)
    process.kill()
    process.wait()
    wait_until(lambda: not is_recording(folder))
    holds_all_from_before(folder, 0, 1)


def is_recording(folder: Path) -> bool:
    return bool([entry for entry in os.listdir("/proc") if entry.isdigit() and _has_open(entry, folder.parent)])


def _has_open(pid: str, folder: Path) -> bool:
    try:
        if Path(f"/proc/{pid}/comm").read_text().strip() != "diffkeeper-hold":
            return False
        return any(os.readlink(fd).startswith(str(folder)) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_without_its_holder_the_command_goes_on_and_what_it_covered_is_said(folder: Path, number: int) -> None:
    process = start(folder, "touch began; while [ ! -e go ]; do sleep 0.02; done; echo new > file0; touch done")
    wait_until((folder / "began").exists)
    os.kill(holder_of(process.pid), number)
    began = time.monotonic()
    (folder / "go").touch()
    wait_until((folder / "done").exists)
    assert time.monotonic() - began < 10
    counters = json.loads(process.communicate(timeout=60)[1].splitlines()[-1])["counters"]
    assert counters["uncovered"] == 8
    assert counters["no_before_image"] == 1
    assert "no longer covered" in run("info", "../trace", cwd=folder).stdout
