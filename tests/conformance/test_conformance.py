"""One suite for every engine: each state that the files went through is a state of the trace, in that order."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance import real
from conformance.real import State
from conformance.scenarios import BASELINE, SCENARIOS
from diffkeeper import Trace, TreeView, record
from diffkeeper.model.event import Kind, Mark
from diffkeeper.processing import process
from scripts import COMMAND, Script, begin_trace, seal, write_ring

Recorder = Callable[[str, Path], Path]


def scripted(scenario: str, place: Path) -> Path:
    script, trace = Script(), place / "trace"
    for name, data in BASELINE.items():
        script.put(name, data)
    facts = begin_trace(trace, script)
    script.starts(COMMAND, b"play")
    SCENARIOS[scenario](script)
    script.exits(0)
    write_ring(trace, script.observations)
    process(trace)
    seal(trace, facts)
    return trace


def recorded_with_ebpf(scenario: str, place: Path) -> Path:
    root, trace = place / "recorded", place / "trace"
    real.prepare(root)
    outcome = record([sys.executable, real.__file__, scenario, str(root)], state_dir=trace, watch=[root], engine="ebpf")
    assert outcome.exit_code == 0
    return trace


def recorded_by_looking(scenario: str, place: Path) -> Path:
    """Record a scenario that gives time to look after each operation: that is what this engine needs."""
    root, trace = place / "recorded", place / "trace"
    real.prepare(root)
    command = [sys.executable, real.__file__, scenario, str(root), "0.15"]
    outcome = record(command, state_dir=trace, watch=[root], engine="watch")
    assert outcome.exit_code == 0
    return trace


ENGINES = [
    pytest.param(scripted, id="scripted"),
    pytest.param(recorded_with_ebpf, id="ebpf", marks=pytest.mark.ebpf),
]


ALL_ENGINES = [*ENGINES, pytest.param(recorded_by_looking, id="watch")]


def state_of(view: TreeView) -> State:
    return real.with_names(
        {
            entry.path: (
                entry.kind,
                stat.S_IMODE(entry.meta.mode),
                view.read(entry.path) if entry.kind == "f" else entry.target,
                entry.links,
            )
            for entry in view.entries()
        }
    )


@pytest.mark.parametrize("engine", ALL_ENGINES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_state_is_in_the_trace_in_its_order(engine: Recorder, scenario: str, tmp_path: Path) -> None:
    expected = real.states_of(scenario, tmp_path / "expected")
    with Trace.open(engine(scenario, tmp_path)) as trace:
        states = [state_of(trace.at(number)) for number in range(trace.extent.count + 1)]
        assert states[0] == expected[0]
        assert states[-1] == expected[-1]
        following = iter(states)
        missing = [state for state in expected if state not in following]
        assert not missing, f"{len(missing)} states are missing or out of order, the first: {missing[0]}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_lost_or_in_doubt(engine: Recorder, scenario: str, tmp_path: Path) -> None:
    with Trace.open(engine(scenario, tmp_path)) as trace:
        info = trace.info()
        assert (info.defects, trace.damage) == ((), [])
        assert info.is_complete
        assert [event for event in trace.timeline(ops="all") if event.marks] == []


@pytest.mark.parametrize("engine", ENGINES)
def test_events_know_their_process_and_their_time(engine: Recorder, tmp_path: Path) -> None:
    with Trace.open(engine("overwriting", tmp_path)) as trace:
        events = list(trace.timeline())
        assert [event.t_ns for event in events] == sorted(event.t_ns for event in events)
        assert len({event.process for event in events}) == 1
        assert trace.process(events[0].process).argv
        assert all(event.enter_ns <= event.t_ns <= event.exit_ns for event in events if event.enter_ns)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_was_looked_at_is_inexact_and_says_nothing_else(scenario: str, tmp_path: Path) -> None:
    with Trace.open(recorded_by_looking(scenario, tmp_path)) as trace:
        info, events = trace.info(), list(trace.timeline(ops="all"))
        assert {event.kind for event in events} == {Kind.CHANGED}
        assert all(event.marks & Mark.INEXACT for event in events)
        assert all(0 <= event.enter_ns <= event.t_ns <= event.exit_ns for event in events)
        assert [event.t_ns for event in events] == sorted(event.t_ns for event in events)
        assert {event.process for event in events} == {0}
        assert (list(info.differing), trace.damage) == ([], [])
        assert not info.is_complete
        assert all("looking at the files" in defect for defect in info.defects)
