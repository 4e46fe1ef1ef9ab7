"""Without POSIX, as far as Linux can pretend that: windows_like.py takes from diffkeeper what Windows lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WINDOWS_LIKE = Path(__file__).parent / "windows_like.py"
DEMO = Path(__file__).parents[2] / "demo" / "flaky_ci_test.py"


def elsewhere(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, WINDOWS_LIKE, *arguments]
    return subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "kept").write_text("from before")
    return folder


def test_the_demo_is_recorded_told_and_restored(root: Path, tmp_path: Path) -> None:
    trace, out = tmp_path / "trace", tmp_path / "out"
    ran = elsewhere("record", "--engine", "watch", "-s", trace, "--", sys.executable, DEMO, cwd=root)
    assert ran.returncode == 1, ran.stderr
    assert "inexact" in ran.stderr
    assert "verified 2 files" in ran.stderr
    told = elsewhere("timeline", "-s", trace, cwd=root)
    assert told.returncode == 0, told.stderr
    assert "CHANGED  status.log (" in told.stdout
    assert "appeared" in told.stdout
    assert "INEXACT changed between scans" in told.stdout
    restored = elsewhere("export", "-s", trace, "--time", "1.5s", "--out", out, cwd=root)
    assert restored.returncode == 3, restored.stderr
    assert (out / "status.log").read_text() == "INIT: System OK"
    assert (out / "kept").read_text() == "from before"
    assert elsewhere("info", "-s", trace, cwd=root).returncode in (0, 3)


def test_names_trees_and_links_come_out_right(root: Path, tmp_path: Path) -> None:
    program = "import os, time\nos.makedirs('a/b/c'); open('a/b/c/leaf', 'w').write('deep'); os.link('kept', 'twin')\n"
    program += "time.sleep(0.3); os.rename('a', 'z'); os.symlink('kept', 'link'); os.remove('kept'); time.sleep(0.2)"
    trace, out = tmp_path / "trace", tmp_path / "out"
    ran = elsewhere("record", "--engine", "watch", "-s", trace, "--", sys.executable, "-c", program, cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert "differ" not in ran.stderr
    restored = elsewhere("export", "-s", trace, "--out", out, cwd=root)
    assert restored.returncode == 3, restored.stderr
    assert (out / "z" / "b" / "c" / "leaf").read_text() == "deep"
    assert (out / "twin").read_text() == "from before"
    assert (out / "link").is_symlink()
    assert not (out / "kept").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--", sys.executable, "-c", "import sys; sys.exit(7)"], 7),
        (["--", "no-such-program"], 127),
        (["--timeout", "1s", "--", sys.executable, "-c", "import time; time.sleep(60)"], 124),
    ],
)
def test_exit_codes_are_those_of_everywhere(root: Path, tmp_path: Path, arguments: list[str], code: int) -> None:
    ran = elsewhere("record", "--engine", "watch", "-s", tmp_path / "trace", *arguments, cwd=root)
    assert ran.returncode == code, ran.stderr


def test_plain_record_refuses_and_auto_chooses(root: Path, tmp_path: Path) -> None:
    refused = elsewhere("record", "-s", tmp_path / "trace", "--", sys.executable, "-c", "", cwd=root)
    assert refused.returncode == 125
    assert "--engine watch" in refused.stderr
    assert not (tmp_path / "trace").exists()
    program = "open('f', 'w').close()"
    chosen = elsewhere(
        "record", "--engine", "auto", "-s", tmp_path / "trace", "--", sys.executable, "-c", program, cwd=root
    )
    assert chosen.returncode == 0
    assert "cannot record with ebpf" in chosen.stderr
    assert "with watch into" in chosen.stderr


def test_doctor_tells_of_every_engine(root: Path) -> None:
    told = elsewhere("doctor", cwd=root)
    assert told.returncode == 0, told.stderr
    assert "cannot record with ebpf: eBPF exists on Linux only" in told.stdout
    assert "watch: usable" in told.stdout
