"""Recording changes nothing: thousands of calls on every kind of path answer the same, recorded and not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from integration.recorder import plain_environment
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf

CASES = Path(__file__).parent / "programs" / "posix_cases.py"


def prepare(root: Path) -> Path:
    (root / "before").mkdir(parents=True)
    (root / "before" / "large").write_bytes(b"large" * 60_000)
    (root / "before" / "small").write_bytes(b"small")
    return root


def answers(root: Path, *before: str) -> list[str]:
    """Run the cases in a folder of their own; return what they printed."""
    command = [*before, sys.executable, str(CASES), str(prepare(root))]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=root, env=plain_environment(), timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_calls_answer_the_same_recorded_and_not(place: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if place == "memory" else tmp_path) as top:
        plain = answers(Path(top, "plain"))
        trace = tmp_path / "trace"
        recorded = answers(
            Path(top, "recorded"),
            *diffkeeper("record", "--strict", f"--state-dir={trace}", f"--watch={top}/recorded", "--"),
        )
    assert len(plain) > 5000
    assert [pair for pair in zip(plain, recorded, strict=True) if pair[0] != pair[1]] == []
