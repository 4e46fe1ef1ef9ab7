"""Compare what a trace says of a tree with what was true of it, through the API and through ``diffkeeper export``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffkeeper import Event, Trace
from oracle.folder import FolderReader
from oracle.manifest import Difference, Manifest, compare
from oracle.recorded import Instant, Recorded, diffkeeper
from oracle.replayed import TraceReader

_SHOWN_DIFFERENCES = 6
_SHOWN_EVENTS = 6


@dataclass
class Verdict:
    """Hold what was found about one recording; nothing in ``faults`` means that it is exact."""

    events: int = 0
    trace_bytes: int = 0
    instants: int = 0
    exports: int = 0
    faults: list[str] = field(default_factory=list)


def judge(recorded: Recorded, exports: int = 2) -> Verdict:
    """Hold a trace against the truth at every instant; ``exports`` of them are also exported by the command line."""
    verdict = Verdict(trace_bytes=_size(recorded.trace))
    with Trace.open(recorded.trace) as trace:
        _Judge(trace, recorded, verdict).judge()
        _judge_exports(trace, recorded, verdict, exports)
    return verdict


class _Judge:
    """Compare through the API."""

    def __init__(self, trace: Trace, recorded: Recorded, verdict: Verdict) -> None:
        self._trace = trace
        self._recorded = recorded
        self._verdict = verdict
        self._reader = TraceReader()

    def judge(self) -> None:
        """Compare every instant, the baseline and the end, and demand that nothing was lost."""
        info = self._trace.info()
        self._verdict.events = info.events
        self._verdict.faults += (f"info: {defect}" for defect in (*info.defects, *info.damage))
        if not info.is_complete:
            self._verdict.faults.append("info: the trace does not call itself complete")
        self._compare("start", self._recorded.before)
        for instant in self._recorded.instants:
            self._verdict.instants += 1
            self._compare(position_of(self._trace, instant), instant.manifest)
        self._compare("end", self._recorded.after)

    def _compare(self, position: str, truth: Manifest) -> None:
        differences = compare(truth, self._reader.read(self._trace.at(position)))
        self._verdict.faults += self._describe(position, differences)
        inexact = self._reader.inexact
        if inexact:
            path = min(inexact)
            self._verdict.faults.append(
                f"at {position}: {len(inexact)} entries are not exact, {path!r}: {inexact[path]}"
            )

    def _describe(self, position: str, differences: list[Difference]) -> Iterator[str]:
        for difference in differences[:_SHOWN_DIFFERENCES]:
            events = "".join(f"\n      {line}" for line in self._events_near(position, difference.path))
            yield f"at {position}: {difference}{events}"
        if len(differences) > _SHOWN_DIFFERENCES:
            yield f"at {position}: {len(differences) - _SHOWN_DIFFERENCES} more differences"

    def _events_near(self, position: str, path: bytes) -> Iterator[str]:
        """Yield the last events of a path before the position, and the first after it."""
        cut = self._trace.cut(position)
        events = [event for event in self._trace.timeline() if path in (event.path, event.path2)]
        before = [event for event in events if event.number <= cut]
        yield from map(describe_event, before[-_SHOWN_EVENTS:])
        yield f"-- @{cut}"
        yield from map(describe_event, [event for event in events if event.number > cut][:2])


def describe_event(event: Event) -> str:
    """Return an event in one line, with what replay needs of it."""
    return (
        f"@{event.number} {event.kind.name} node {event.node} {event.path!r} {event.path2!r} t {event.t_ns}"
        f" pid {event.pid} offset {event.offset} length {event.length} size {event.size} {event.marks!r}"
    )


def position_of(trace: Trace, instant: Instant) -> str:
    """Return the position of an instant, exact to the nanosecond (a duration in ns covers just that one)."""
    return f"{max(0, instant.t_ns - trace.facts.start_monotonic_ns)}ns"


def _judge_exports(trace: Trace, recorded: Recorded, verdict: Verdict, count: int) -> None:
    """Export some instants by the command line, among them the end, and compare the folders."""
    instants = recorded.instants
    chosen = [instants[at * len(instants) // count] for at in range(count)] if instants else []
    moments = [(position_of(trace, instant), instant.manifest) for instant in chosen] + [("end", recorded.after)]
    for number, (position, truth) in enumerate(moments):
        out = recorded.trace.with_name(f"export{number}")
        done = subprocess.run(
            [*diffkeeper("export"), f"--state-dir={recorded.trace}", f"--time={position}", f"--out={out}"],
            capture_output=True,
            text=True,
            check=False,
        )
        verdict.exports += 1
        if done.returncode != 0:
            verdict.faults.append(f"export --time={position} ended with {done.returncode}: {done.stderr.strip()}")
        if out.exists():
            differences = compare(truth, FolderReader(os.fsencode(out)).read())
            verdict.faults += (f"export --time={position}: {each}" for each in differences[:_SHOWN_DIFFERENCES])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
