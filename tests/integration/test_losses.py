"""Each kind of loss, made to happen (docs/faults.md): the GAP, the taint, exit 3, --strict, and the last state."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.model.event import Event, Kind
from integration.recorder import run

pytestmark = [
    pytest.mark.ebpf,
    pytest.mark.skipif(os.geteuid() != 0, reason="sudo passes no faults on to the helper"),
]

PYTHON = "import os, sys\nf = os.open('f', os.O_CREAT | os.O_WRONLY)\n"
WRITES = PYTHON + "for i in range(3000): os.write(f, b'%04d' % i)\n"
NAMES = PYTHON + "for i in range(3000): os.mkdir(f'd{i}'); os.write(f, b'%04d' % i)\n"
LATER = "os.close(f); open('g', 'w').write('later')\n"


@dataclass
class Lossy:
    """Hold a recording in which something was lost on purpose."""

    home: Path
    code: int = 0
    said: str = ""
    names: list[str] = field(default_factory=list)

    def record(self, faults: str, script: str, *options: str) -> None:
        (self.home / "root").mkdir()
        for name in ("e", "f"):
            (self.home / "root" / name).write_text("from before")
        arguments = [
            "record",
            f"--state-dir={self.home}/trace",
            "--no-stall",
            *options,
            "--",
            sys.executable,
            "-c",
            script,
        ]
        result = run(*arguments, cwd=self.home / "root", DIFFKEEPER_FAULTS=faults)
        self.code, self.said = result.returncode, result.stderr
        assert "Traceback" not in self.said

    def export(self, position: str) -> int:
        """Return the exit code of an export to a folder of that name; its reasons are in ``said``."""
        out = self.home / f"out{position.strip('@')}"
        result = run("export", f"--state-dir={self.home}/trace", f"--time={position}", f"--out={out}", cwd=self.home)
        self.said = result.stderr
        return result.returncode

    def gaps(self, channel: bytes) -> list[Event]:
        with Trace.open(self.home / "trace") as trace:
            assert any("faults on purpose" in words for words in trace.info().engine_exceptions)
            assert not trace.info().is_complete
            return [event for event in trace.timeline() if event.kind == Kind.GAP and event.text == channel]

    def check_the_end(self, *codes: int) -> None:
        """The state at the end is that of the disk, and nothing in it is in doubt.

        ``codes`` may be those of its export: 3 where the trace has lost more than what its losses explain.
        """
        with Trace.open(self.home / "trace") as trace:
            assert trace.facts.verification == "done"
            assert trace.facts.counters["differ"] == 0, trace.facts.differing
            tree = trace.at("end")
            assert tree.doubt == ""
            live = sorted(os.listdir(self.home / "root"))
            assert sorted(os.fsdecode(entry.path) for entry in tree.entries()) == live
            for entry in tree.entries():
                assert entry.content.value == "exact", (entry.path, entry.reason)
                if entry.kind == "f":
                    assert tree.read(entry.path) == (self.home / "root" / os.fsdecode(entry.path)).read_bytes()
        assert self.export("end") in (codes or (0,)), self.said


@pytest.fixture
def lossy(tmp_path: Path) -> Lossy:
    return Lossy(tmp_path)


def test_a_lost_write_spoils_its_file_from_there_on_and_nothing_else(lossy: Lossy) -> None:
    lossy.record("ring=65536,stall=60000", WRITES, "--strict")
    assert lossy.code == 125
    assert "changes were lost (ring)" in lossy.said
    (begin, *_, end) = [event for event in lossy.gaps(b"ring") if event.value == b"bytes"]
    assert (begin.path, end.path, end.detail) == (b"f", b"f", 0)
    assert begin.detail > 1000
    assert begin.pid > 0
    with Trace.open(lossy.home / "trace") as trace:
        before, within = trace.at(f"@{begin.number - 1}"), trace.at(f"@{begin.number}")
        assert [entry.content.value for entry in before.entries()] == ["exact", "exact"]
        held = len(before.read("f"))
        assert before.read("f")[: held - held % 4] == b"".join(b"%04d" % i for i in range(held // 4))
        assert {entry.path: entry.content.value for entry in within.entries()} == {b"e": "exact", b"f": "unknown"}
    assert lossy.export(f"@{begin.number - 1}") == 0
    assert lossy.export(f"@{begin.number}") == 3
    assert "  f: " in lossy.said
    assert "  e: " not in lossy.said
    lossy.check_the_end()


def test_a_lost_name_spoils_the_tree_until_it_is_read_back(lossy: Lossy) -> None:
    lossy.record("ring=65536,stall=60000", NAMES + LATER)
    assert lossy.code == 0
    assert "NOT COMPLETE" in lossy.said
    begin = next(event for event in lossy.gaps(b"ring") if event.value == b"name")
    with Trace.open(lossy.home / "trace") as trace:
        assert trace.at(f"@{begin.number - 1}").doubt == ""
        assert {entry.content.value for entry in trace.at(f"@{begin.number}").entries()} <= {"inexact", "unknown"}
    assert lossy.export(f"@{begin.number}") == 3
    assert "the trace is not complete" in lossy.said
    lossy.check_the_end()


def test_a_caller_s_memory_that_cannot_be_read_is_read_from_the_file_or_said_to_be_lost(lossy: Lossy) -> None:
    lossy.record("probe=7", NAMES + LATER, "--strict")
    assert lossy.code == 125
    assert lossy.gaps(b"probe")
    lossy.check_the_end(0, 3)  # 3 if events could not be placed


@pytest.mark.parametrize(("fault", "channel"), [("table=40", b"table"), ("recursion=3", b"recursion")])
def test_what_the_programs_missed_spoils_the_tree(lossy: Lossy, fault: str, channel: bytes) -> None:
    processes = "for i in range(60): os.waitpid(os.posix_spawnp('touch', ['touch', f't{i}'], os.environ), 0)\n"
    lossy.record(fault, PYTHON + processes + LATER, "--strict")
    assert lossy.code == 125
    first = lossy.gaps(channel)[0]
    assert lossy.export(f"@{first.number}") == 3
    lossy.check_the_end(0, 3)  # 3 if it has met files that it does not know


def test_a_batch_that_cannot_be_decoded_is_a_gap_in_the_time_that_it_was_of(lossy: Lossy) -> None:
    pauses = "import time\nfor i in range(40): os.write(f, b'%04d' % i); time.sleep(0.01)\n"
    lossy.record("decode=3", PYTHON + pauses + LATER, "--strict")
    assert lossy.code == 125
    assert "of the journal cannot be read" in lossy.said
    (gap,) = lossy.gaps(b"decode")
    with Trace.open(lossy.home / "trace") as trace:
        assert 0 < gap.t_ns <= gap.exit_ns < trace.extent.end_ns
        assert trace.at(f"@{gap.number - 1}").doubt == ""
        assert trace.at(f"@{gap.number}").doubt != ""
        assert trace.at("end").doubt == ""
        assert trace.at("end").read("g") == b"later"


def test_a_journal_without_free_segments_ends_and_the_command_does_not(lossy: Lossy) -> None:
    large = PYTHON + "b = os.urandom(65536)\nfor i in range(500): os.pwrite(f, b, i << 16)\n"
    lossy.record("segments=1", large + LATER, "--strict")
    assert lossy.code == 125
    (gap,) = lossy.gaps(b"queue")
    with Trace.open(lossy.home / "trace") as trace:
        assert trace.at(f"@{gap.number - 1}").doubt == ""
        assert trace.at(f"@{gap.number}").doubt != ""
        assert trace.at("end").doubt == ""
        assert trace.at("end").read("f") == (lossy.home / "root" / "f").read_bytes()


def test_a_helper_that_dies_leaves_a_gap_up_to_the_end(lossy: Lossy) -> None:
    pauses = "import time\nfor i in range(60): os.write(f, b'%04d' % i); time.sleep(0.01)\n"
    lossy.record("kill=5", PYTHON + pauses + LATER, "--strict")
    assert lossy.code == 125
    assert "the eBPF helper process ended unexpectedly" in lossy.said
    (gap,) = lossy.gaps(b"queue")
    with Trace.open(lossy.home / "trace") as trace:
        held = trace.at(f"@{gap.number - 1}").read("f")
        numbers = len(held) // 4
        assert 0 < numbers < 60
        assert held == b"".join(b"%04d" % i for i in range(numbers)) + held[4 * numbers :]
        assert trace.at(f"@{gap.number}").doubt != ""
        assert trace.at("end").doubt == ""
        assert trace.at("end").read("g") == b"later"


def test_a_fault_that_nobody_knows_is_refused(lossy: Lossy) -> None:
    lossy.record("typo=3", "")
    assert lossy.code == 125
    assert "'typo=3' is no fault" in lossy.said
