"""``diffkeeper seal``: a trace whose recorder was killed, made ready to be given away."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from diffkeeper.store.format import read_session, trace_state
from integration.recorder import descendants, fingerprint, is_running, plain_environment, run, wait_until
from oracle.recorded import diffkeeper

SECRET = "do not tell"


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Return a folder with the trace of a recorder that was killed while its command changed files."""
    folder = tmp_path / "work"
    folder.mkdir()
    script = "echo $IT > left-out; n=0; while :; do n=$((n+1)); echo $n > file; echo $IT >> left-out; done"
    command = diffkeeper("record", "--exclude", "left-out", "--", "sh", "-c", script)
    process = subprocess.Popen(command, cwd=folder, env=plain_environment(IT=SECRET), stderr=subprocess.DEVNULL)
    wait_until((folder / "file").exists)
    own = descendants(process.pid)
    process.kill()
    process.wait()
    shells = [pid for pid, line in own.items() if line.startswith("sh ")]
    for pid in shells:
        subprocess.run(["kill", "-9", str(pid)], check=True)
    wait_until(lambda: not any(map(is_running, own)))
    return folder


@pytest.mark.ebpf
def test_a_trace_of_a_killed_recorder_is_sealed_without_what_is_excluded(killed: Path) -> None:
    trace = killed / "diffkeeper-trace"
    assert trace_state(trace) == "broken"
    before = run("timeline", "--json", cwd=killed, XDG_CACHE_HOME=str(killed.parent / "cache")).stdout.splitlines()
    result = run("seal", cwd=killed)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert trace_state(trace) == "sealed"
    assert not (trace / "journal").exists()
    assert not [path for path in trace.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    after = run("timeline", "--json", cwd=killed)
    assert after.stdout.splitlines()[1:] == before[1:]
    assert len(before) > 3
    assert after.returncode == 3
    facts = read_session(trace)
    assert (facts.complete, facts.processed, facts.exit_code) == (False, True, None)
    assert "the recorder was killed: what happened after its last batch is not in the trace" in after.stderr


@pytest.mark.ebpf
def test_a_sealed_trace_is_left_as_it_is(tmp_path: Path) -> None:
    assert run("record", "-q", "--", "sh", "-c", "echo x > f", cwd=tmp_path).returncode == 0
    before = fingerprint(tmp_path / "diffkeeper-trace")
    result = run("seal", "--json", cwd=tmp_path)
    assert json.loads(result.stdout) | {"trace": ""} == {"v": 1, "type": "seal", "trace": "", "sealed_now": False}
    assert fingerprint(tmp_path / "diffkeeper-trace") == before


def test_what_is_no_trace_cannot_be_sealed(tmp_path: Path) -> None:
    assert run("seal", cwd=tmp_path).returncode == 10
