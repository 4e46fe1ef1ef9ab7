"""One verdict: what keeps a trace from being complete is the same, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffkeeper import Trace, cli
from diffkeeper.cli.record_summary import lines
from diffkeeper.model.verdict import judge
from diffkeeper.processing import process
from diffkeeper.recording import Outcome
from scripts import File, Script, begin_trace, seal, write_ring


def test_a_trace_of_which_nothing_is_missing_is_complete() -> None:
    verdict = judge({"events": 12, "unresolved": 0, "lost_ring": 0, "outsiders": 3})
    assert (verdict.is_complete, verdict.reasons) == (True, ())


@pytest.mark.parametrize(
    ("counter", "words"),
    [
        ("lost_ring", "2 changes were lost (ring)"),
        ("unresolved", "2 events could not be placed in the tree"),
        ("unknown_files", "2 changes were to files that the trace does not know"),
    ],
)
def test_what_is_not_in_the_trace_is_a_loss(counter: str, words: str) -> None:
    verdict = judge({counter: 2})
    assert (verdict.is_complete, verdict.losses, verdict.doubts) == (False, (words,), ())


@pytest.mark.parametrize(
    "counter", ["ambiguous", "inexact", "unknown", "late", "identity_conflicts", "baseline_unread"]
)
def test_what_may_not_be_exact_is_a_doubt(counter: str) -> None:
    verdict = judge({counter: 1_000})
    assert (verdict.is_complete, verdict.losses) == (False, ())
    assert verdict.reasons[0].startswith("1,000 ")


def test_what_failed_is_named_once() -> None:
    assert judge({}, ["the helper died", "the helper died"]).losses == ("the helper died",)


def test_a_trace_that_broke_off_is_never_complete() -> None:
    verdict = judge({}, is_broken=True)
    assert (verdict.is_complete, verdict.losses) == (False, ())
    assert "broke off" in verdict.reasons[0]


def test_a_recorder_that_gave_no_reason_is_believed() -> None:
    assert judge({}, said=False).reasons == ("the recorder could not observe everything",)
    assert judge({"inexact": 1}, said=False).losses == ()
    assert judge({}, said=True).is_complete


def inexact(script: Script) -> None:
    """Let a process write to a file that the trace does not know."""
    script.files["unknown"] = File(9_999, 0o100644)
    script.write("unknown", b"1")
    del script.files["unknown"]


def test_all_that_speak_of_a_trace_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, script = tmp_path / "trace", Script()
    facts = begin_trace(place, script)
    script.save("known", b"1")
    inexact(script)
    write_ring(place, script.observations)
    facts.counters = process(place)
    seal(place, facts)
    reason = "1 changes were to files that the trace does not know"
    assert judge(facts.counters).reasons == (reason,)
    with Trace.open(place) as trace:
        assert (trace.info().defects, trace.losses, trace.info().is_complete) == ((reason,), [reason], False)
    assert cli.run(["info", "-s", str(place)]) == 3
    assert reason in capsys.readouterr().out
    assert cli.run(["timeline", "-s", str(place)]) == 3
    said = capsys.readouterr()
    assert reason in said.out.splitlines()[0]
    assert reason in said.err
    assert cli.run(["export", "-s", str(place), "--out", str(tmp_path / "out")]) == 3
    assert reason in capsys.readouterr().err
    facts.complete = False
    outcome = Outcome(0, 0, False, place, facts, defects=judge(facts.counters).reasons)
    summary = list(lines(outcome, str(place)))
    assert "NOT COMPLETE" in summary[0]
    assert f"diffkeeper: not complete: {reason}" in summary
