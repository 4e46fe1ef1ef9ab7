"""The worker beside a recording, and its protocol."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.errors import DiffkeeperError
from diffkeeper.processing.background import Background
from scripts import COMMAND, Script, begin_trace, seal, write_ring


@pytest.fixture
def place(tmp_path: Path) -> Path:
    script = Script()
    facts = begin_trace(tmp_path / "trace", script)
    script.starts(COMMAND, b"sh")
    script.at(1).save("a", b"content")
    script.exits(0)
    write_ring(tmp_path / "trace", script.observations)
    seal(tmp_path / "trace", facts)
    return tmp_path / "trace"


def test_a_worker_processes_and_tells_what_it_counted(place: Path) -> None:
    with Background(place) as worker:
        assert worker.advance() == []
        counted = worker.finish()
    assert (counted["events"], counted["files"]) == (6, 1)
    with Trace.open(place) as trace:
        assert trace.at("end").read("a") == b"content"


def test_a_worker_that_is_closed_ends(place: Path) -> None:
    with Background(place) as worker:
        worker.advance()
    assert worker._process.poll() is not None


def test_a_worker_that_cannot_work_says_why(tmp_path: Path) -> None:
    with Background(tmp_path) as worker, pytest.raises(DiffkeeperError, match="no trace at"):
        worker.finish()


def test_a_worker_that_died_is_noticed(place: Path) -> None:
    with Background(place) as worker:
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(DiffkeeperError):
            worker.finish()


def test_the_end_of_its_input_ends_the_worker(place: Path) -> None:
    command = [sys.executable, "-m", "diffkeeper.worker", str(place), str(256 << 20)]
    result = subprocess.run(command, input=b"advance\n", capture_output=True, timeout=30, check=False)
    assert (result.returncode, result.stderr) == (0, b"")


def test_a_worker_yields_to_everyone(place: Path) -> None:
    with Background(place) as worker:
        deadline = time.monotonic() + 60  # it may get no time while others work
        stat = Path(f"/proc/{worker.pid}/stat")
        while int(stat.read_text().rpartition(")")[2].split()[16]) != 19:
            assert time.monotonic() < deadline, "the worker did not become nice"
            time.sleep(0.01)
