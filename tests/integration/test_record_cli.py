"""``diffkeeper record`` as a user meets it: messages, exit codes, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from diffkeeper.store.format import read_session, trace_state

SOURCE = Path(__file__).resolve().parents[2] / "src"
RECORD = [
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from diffkeeper.__main__ import main; main()",
]
RECORD += ["record"]


def _record(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIFFKEEPER_")}
    return subprocess.run(
        [*RECORD, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _await(condition: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.mark.ebpf
def test_one_line_before_and_a_summary_after(folder: Path) -> None:
    result = _record(folder, "--", "sh", "-c", "echo out; echo one > a; exit 3")
    assert (result.returncode, result.stdout) == (3, "out\n")
    first, summary, *hints = result.stderr.splitlines()
    assert first == "diffkeeper: recording . with ebpf into diffkeeper-trace"
    assert "1 file by 1 process" in summary
    assert summary.endswith(", 4 B, complete, verified 1 file. Command exited 3.")
    assert hints[0].startswith("diffkeeper: last change before exit  00:00.")
    assert "WRITE a (4B)  sh[" in hints[0]
    assert [hint.split()[:2] for hint in hints[1:]] == [["diffkeeper", "timeline"], ["diffkeeper", "export"]]


@pytest.mark.ebpf
def test_quiet_says_nothing(folder: Path) -> None:
    assert _record(folder, "-q", "--", "true").stderr == ""


@pytest.mark.ebpf
def test_json_is_one_object_on_standard_error(folder: Path) -> None:
    result = _record(folder, "--json", "--", "sh", "-c", "echo out; exit 3")
    assert result.stdout == "out\n"
    document = json.loads(result.stderr)
    assert (document["v"], document["type"], document["exit_code"], document["complete"]) == (1, "recording", 3, True)
    assert document["trace"] == str(folder / "diffkeeper-trace")


@pytest.mark.ebpf
def test_options_after_the_command_are_the_commands_own(folder: Path) -> None:
    assert _record(folder, "-q", "sh", "-c", "exit 4").returncode == 4
    assert _record(folder, "-q", "--force", "--", "echo", "--force", "--", "-q").stdout == "--force -- -q\n"


@pytest.mark.ebpf
def test_a_timeout_exits_124(folder: Path) -> None:
    result = _record(folder, "--timeout", "300ms", "--", "sleep", "30")
    assert result.returncode == 124
    assert "--timeout" in result.stderr


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 125, "COMMAND"),
        (("--nonsense", "--", "true"), 125, "--nonsense"),
        (("--baseline", "nonsense", "--", "true"), 125, "nonsense"),
        (("--timeout", "soon", "--", "true"), 125, "duration"),
        (("--watch", "missing", "--", "true"), 125, "no such directory"),
        (("--state-dir", "full", "--", "true"), 125, "not empty"),
        (("--", "no-such-command"), 127, "no such command"),
        (("--", "./full/notes"), 126, "may not be executed"),
    ],
)
def test_bad_input_touches_nothing_and_says_what_to_do(
    folder: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (folder / "full").mkdir()
    (folder / "full" / "notes").write_text("mine")
    result = _record(folder, *arguments)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert os.listdir(folder) == ["full"]


@pytest.mark.ebpf
def test_a_killed_recorder_leaves_a_broken_trace_and_an_unharmed_command(folder: Path) -> None:
    script = "echo before > a; while [ ! -e go ]; do sleep 0.01; done; echo survived > b"
    process = subprocess.Popen([*RECORD, "-q", "--", "sh", "-c", script], cwd=folder)
    _await((folder / "a").exists)
    time.sleep(0.2)
    helpers = _children(process.pid, b"helper.py")
    assert trace_state(folder / "diffkeeper-trace") == "recording"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder / "go").touch()
    _await((folder / "b").exists)
    _await(lambda: not any(_is_running(pid) for pid in helpers), 2)
    assert trace_state(folder / "diffkeeper-trace") == "broken"
    assert any((folder / "diffkeeper-trace" / "journal").glob("r*.seg"))


@pytest.mark.ebpf
def test_a_killed_helper_leaves_the_command_unharmed_and_the_trace_says_so(folder: Path) -> None:
    process = subprocess.Popen(
        [*RECORD, "--", "sh", "-c", "touch a; sleep 0.5; exit 6"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    _await((folder / "a").exists)
    for pid in _children(process.pid, b"helper.py"):
        os.kill(pid, signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 6
    assert "NOT COMPLETE" in stderr
    assert "helper process ended unexpectedly" in stderr
    facts = read_session(folder / "diffkeeper-trace")
    assert facts.complete is False


@pytest.mark.ebpf
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_command_starts_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    for index in range(3000):
        (folder / f"file{index}").write_bytes(b"x" * 5000)
    process = subprocess.Popen([*RECORD, "--", "touch", "touched"], cwd=folder, stderr=subprocess.PIPE)
    _await((folder / "diffkeeper-trace" / "session.json").exists)
    process.send_signal(number)
    process.wait(timeout=20)
    if (folder / "touched").exists():
        pytest.skip("the baseline was quicker than the signal")
    assert process.returncode == 128 + number
    assert not (folder / "diffkeeper-trace").exists()


def _children(parent: int, name: bytes) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            is_child = f"PPid:\t{parent}\n" in Path(f"/proc/{entry}/status").read_text()
            if is_child and name in Path(f"/proc/{entry}/cmdline").read_bytes():
                found.append(int(entry))
        except OSError:
            continue
    assert found, "the helper is a child of a recorder that is root"
    return found


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
