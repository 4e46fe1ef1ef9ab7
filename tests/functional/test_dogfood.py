"""Runs the functional test of the workflow, so that it cannot break unseen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("dogfood.sh")


@pytest.mark.ebpf
def test_states_between_two_writes_are_restored() -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-2:] == ["at 500ms: STATE_1", "at 1500ms: STATE_2"]
