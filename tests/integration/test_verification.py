"""The check at the end of real recordings: silent where all was caught, not to be fooled where something was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffkeeper import Kind, Trace
from diffkeeper.store.format import read_session

pytestmark = pytest.mark.ebpf

SOURCE = Path(__file__).resolve().parents[2] / "src"
RUN = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from diffkeeper.cli import run; sys.exit(run(sys.argv[1:]))"
# Loses, between journal and replay, every write to a file whose first bytes are these.
WITHHOLD = """
from diffkeeper.engines.decoder import Decoder
whole = Decoder.decode
def decode(self, payload, *places):
    return [one for one in whole(self, payload, *places) if "WITHHELD" not in str(getattr(one, "payload", ""))]
Decoder.decode = decode
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def _record(folder: Path, command: str, *options: str, patch: str = "") -> subprocess.CompletedProcess[str]:
    program = patch + RUN
    arguments = [sys.executable, "-c", program, "record", *options, "--", "sh", "-c", command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFKEEPER_")}
    environment["PYTHONPATH"] = str(SOURCE)
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _counters(folder: Path) -> dict[str, int]:
    return read_session(folder / "diffkeeper-trace").counters


def test_a_recording_that_caught_all_is_verified(folder: Path) -> None:
    (folder / "kept").write_text("kept")
    (folder / "kept-too").mkdir()
    script = """
        mkdir -p a/b/c; echo one > a/one; cp a/one a/b/two; ln a/one a/b/c/three; ln -s ../one a/b/link; mkfifo a/fifo
        echo more >> kept; chmod 600 kept; touch -d @5 a/b/two; truncate -s 3M a/sparse; echo end >> a/sparse
        mv a/b/c a/moved; rm a/one; echo x > gone; rm gone; mkdir gone; rmdir gone
    """
    result = _record(folder, script, "--strict")
    assert result.returncode == 0, result.stderr
    assert ", complete, verified 4 files." in result.stderr
    counters = _counters(folder)
    assert counters["differ"] == counters["changed_since"] == counters["not_verified"] == 0
    assert counters["verified_entries"] == 6


def test_a_withheld_write_is_found_and_repaired(folder: Path) -> None:
    script = "echo right > right; printf WITHHELD > wrong; printf before > half; printf WITHHELD >> half"
    result = _record(folder, script, patch=WITHHOLD)
    assert result.returncode == 0
    assert "NOT COMPLETE" in result.stderr
    assert "not complete: 2 differ: " in result.stderr
    assert sorted(read_session(folder / "diffkeeper-trace").differing) == ["half", "wrong"]
    with Trace.open(folder / "diffkeeper-trace") as trace:
        assert sorted(event.path for event in trace.timeline() if event.kind == Kind.RESYNC) == [b"half", b"wrong"]
        trace.export("end", folder.parent / "out")
    shutil.rmtree(folder / "diffkeeper-trace")
    for name in ("right", "wrong", "half"):
        live, exported = folder / name, folder.parent / "out" / name
        assert exported.read_bytes() == live.read_bytes()
        assert exported.stat().st_mtime_ns == live.stat().st_mtime_ns


def test_strict_makes_a_difference_a_failure_unless_the_command_failed_itself(folder: Path) -> None:
    script = "printf WITHHELD > wrong"
    assert _record(folder, script, "--strict", patch=WITHHOLD).returncode == 125
    assert _record(folder, f"{script}; exit 3", "--strict", "--force", patch=WITHHOLD).returncode == 3
    assert _record(folder, "echo x > right", "--strict", "--force", patch=WITHHOLD).returncode == 0
    unverified = _record(folder, script, "--strict", "--no-verify", "--json", "--force", patch=WITHHOLD)
    assert json.loads(unverified.stderr)["verification"] == "off"


def test_what_a_daemon_writes_after_the_end_is_not_held_against_the_recording(folder: Path) -> None:
    loop = "while :; do echo x >> log; : > new$((i += 1)); sleep 0.001; done"
    script = f"echo x > log; ({loop}) > /dev/null 2>&1 & echo $! > pid"
    result = _record(folder, script, "--json")
    daemon = int((folder / "pid").read_text())
    try:
        time.sleep(0.01)
        document = json.loads(result.stderr)
        assert (document["verification"], document["counters"]["differ"]) == ("done", 0), document["differing"]
        assert document["counters"]["changed_since"] > 0
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_what_is_excluded_or_mounted_is_not_compared(folder: Path) -> None:
    (folder / "mounted").mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "none", str(folder / "mounted")], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        script = "mkdir cache; echo x > cache/x; echo x > a.tmp; echo x > mounted/x; echo x > a"
        options = ("--exclude", "cache/", "--exclude", "*.tmp", "--exclude", "" if mounted else "mounted", "--json")
        document = json.loads(_record(folder, script, *options).stderr)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder / "mounted")], check=True)
    assert (document["counters"]["differ"], document["differing"]) == (0, [])


def test_what_comes_to_light_when_something_is_unmounted_is_not_compared(folder: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "none", "mounted"]
    (folder / "mounted").mkdir()
    (folder / "mounted" / "beneath").touch()
    if os.geteuid() or subprocess.run(mount, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    document = json.loads(_record(folder, "umount mounted; echo x > a", "--json").stderr)
    assert (document["counters"]["differ"], document["differing"]) == (0, [])


def test_an_index_without_content_is_verified_as_far_as_it_goes(folder: Path) -> None:
    (folder / "old").write_text("0123456789" * 100)
    (folder / "untouched").write_text("x")
    script = "printf new > new; printf XY | dd of=old bs=1 seek=3 conv=notrunc 2> /dev/null"
    document = json.loads(_record(folder, script, "--baseline", "index", "--json").stderr)
    counters = document["counters"]
    assert (counters["differ"], counters["verified_files"], counters["not_verified"]) == (0, 1, 1)
