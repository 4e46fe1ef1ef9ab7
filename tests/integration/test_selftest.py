"""Every hook is tried when a recording starts: one that does not deliver is named, and nothing of the trial is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.store.format import read_session
from oracle.recorded import diffkeeper

pytestmark = pytest.mark.ebpf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def record(folder: Path, command: str, faults: str = "", state: Path | None = None) -> Trace:
    state = state or folder.parent / "trace"
    arguments = ["record", "--state-dir", str(state), "--watch", str(folder), "--", "sh", "-c", command]
    environment = os.environ | {"DIFFKEEPER_FAULTS": faults}
    done = subprocess.run(
        [*diffkeeper(), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return Trace.open(state)


def number_of(folder: Path, hook: str) -> int:
    record(folder, "true", state=folder.parent / "first").close()
    hooks = read_session(folder.parent / "first").engine_facts["hooks"]
    if hook not in hooks:
        pytest.skip(f"there is no {hook} here")
    return int(hooks.index(hook)) + 1


def test_nothing_of_the_trial_is_in_the_trace_or_in_the_folder(folder: Path) -> None:
    before = folder.stat()
    with record(folder, "true", state=folder / "trace") as trace:
        assert [event for event in trace.timeline() if event.path] == []
        assert trace.info().engine_exceptions == ()
        assert trace.info().is_complete, trace.info().defects
    with record(folder, "true") as trace:
        assert [event for event in trace.timeline() if event.path] == []
        assert trace.info().engine_exceptions == ()
    (folder / "trace").rename(folder.parent / "moved")
    assert (before.st_mode, before.st_nlink) == (folder.stat().st_mode, folder.stat().st_nlink)


@pytest.mark.parametrize(
    ("hook", "named"),
    [
        ("enter", "enter"),
        ("leave", "leave"),
        ("touch_set", "touch_set"),
        ("touch_exchange", "touch_exchange"),
        ("touch_skip", "touch_skip"),
        ("process_forked", "process_forked"),
        ("process_exited", "process_exited"),
        ("direct_began", "direct_began"),
        ("ext4_delayed_write", "places-of-writes"),
    ],
)
def test_a_hook_that_is_silent_is_named(folder: Path, hook: str, named: str) -> None:
    number = number_of(folder, hook)
    with record(folder, "echo x > f", f"hook={number}") as trace:
        info = trace.info()
    assert any(named in exception for exception in info.engine_exceptions), info.engine_exceptions
    assert any(named in defect for defect in info.defects), info.defects
    assert not info.is_complete


def test_what_a_silent_hook_missed_is_found_all_the_same(folder: Path) -> None:
    (folder / "f").write_text("before")
    number = number_of(folder, "leave")
    with record(folder, "echo after > f; mkdir d; echo new > d/new", f"hook={number}") as trace:
        info = trace.info()
        assert info.differing or info.counters["unexplained"]
        tree = trace.at("end")
        assert tree.read("f") == b"after\n"
        assert tree.read("d/new") == b"new\n"


def test_what_one_silent_touch_hook_leaves_out_is_found(folder: Path) -> None:
    (folder / "f").write_text("before")
    number = number_of(folder, "touch_exchange")
    program = "import os; os.chmod(b'f', 0o600); os.stat('f'); os.rename('f', 'g'); os.stat('g'); os.chmod('g', 0o640)"
    with record(folder, f'exec {sys.executable} -c "{program}"', f"hook={number}") as trace:
        assert sorted(entry.path for entry in trace.at("end").entries()) == [b"g"]
        assert trace.at("end").stat("g").meta.mode & 0o777 == 0o640
