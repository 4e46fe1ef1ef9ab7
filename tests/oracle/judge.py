"""Compare what a trace says of a tree with what was true of it, through the API and through ``diffkeeper export``."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from diffkeeper import Event, Kind, Trace, TraceInfo
from oracle.folder import FolderReader
from oracle.manifest import Difference, Manifest, compare
from oracle.marks import Marks
from oracle.recorded import Instant, Recorded, diffkeeper
from oracle.replayed import TraceReader
from oracle.stepwise import Step, compare_sample, compare_steps, read_steps

_SHOWN_DIFFERENCES = 6
_SHOWN_EVENTS = 6


class Finding(StrEnum):
    """Say how a state of the trace stands to the truth."""

    EXACT = "exact"
    MARKED = "right, but marked"
    WRONG_MARKED = "wrong where marked"
    WRONG = "wrong and unmarked"


@dataclass
class Verdict:
    """Hold what was found about one recording; without ``failures`` and ``doubts`` it is exact.

    ``failures`` are what no recording may have, ``doubts`` what the trace itself says is not exact or not there.
    """

    events: int = 0
    trace_bytes: int = 0
    findings: Counter[Finding] = field(default_factory=Counter)  # of the frozen instants
    exports: int = 0
    lost: int = 0
    resynced: int = 0
    holes: int = 0
    failures: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def instants(self) -> int:
        """Return at how many instants the workload was held still."""
        return self.findings.total()

    def faults(self, marks_allowed: bool) -> list[str]:
        """Return what is wrong; where ``marks_allowed``, what is marked is not."""
        return self.failures if marks_allowed else self.failures + self.doubts

    def __iadd__(self, other: Verdict) -> Verdict:
        """Add what another recording of the same workload came to."""
        self.events += other.events
        self.trace_bytes += other.trace_bytes
        self.findings += other.findings
        self.exports += other.exports
        self.lost += other.lost
        self.resynced += other.resynced
        self.holes += other.holes
        self.failures += other.failures
        self.doubts += other.doubts
        return self


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
        """Compare every instant, the baseline, the end, and what would be the end without the check at the end."""
        self._count(self._trace.info())
        self._compare("start", self._recorded.before)
        for instant in self._recorded.instants:
            self._verdict.findings[self._compare_instant(instant)] += 1
        if self._recorded.workload.states:
            self._judge_steps(read_steps(self._recorded.scratch / self._recorded.workload.states))
        unchecked = _before_check(self._trace)
        if unchecked is not None:
            self._compare(unchecked, self._recorded.after)
        self._compare("end", self._recorded.after)

    def _count(self, info: TraceInfo) -> None:
        """Note what the trace says of itself."""
        self._verdict.events = info.events
        self._verdict.lost = _sum(info, "lost_")
        self._verdict.holes = info.counters.get("unexplained", 0)
        self._verdict.resynced = info.counters.get("differ", 0)
        self._verdict.failures += (f"info: {damage}" for damage in info.damage)
        self._verdict.doubts += (f"info: {defect}" for defect in info.defects)
        if not info.is_complete and not info.defects:
            self._verdict.doubts.append("info: the trace does not call itself complete")

    def _compare_instant(self, instant: Instant) -> Finding:
        """Compare an instant; files that were mapped only after the time in which stores are noticed."""
        if not instant.mapped:
            return self._compare(position_of(self._trace, instant), instant.manifest)
        settled = position_at(self._trace, instant.settled_ns)
        at_once = self._compare(position_of(self._trace, instant), instant.manifest, without=instant.mapped)
        return max(at_once, self._compare(settled, instant.manifest), key=list(Finding).index)

    def _judge_steps(self, steps: list[Step]) -> None:
        """Compare what the workload wrote down itself; a few of these states by their position, too."""
        for result in (*compare_steps(self._trace, steps), *compare_sample(self._trace, steps, seed=len(steps))):
            where = f"@{result.cut} after {result.step.words} in {os.fsdecode(result.step.folder)}"
            prefix = result.step.folder + b"/"
            below = [replace(each, path=prefix + each.path) for each in result.differences]
            inexact = {prefix + path: reason for path, reason in result.inexact.items()}
            self._verdict.findings[self._find(where, result.cut, below, inexact)] += 1

    def _compare(self, position: str, truth: Manifest, without: frozenset[bytes] = frozenset()) -> Finding:
        cut = self._trace.cut(position)
        differences = compare(truth, self._reader.read(self._trace.at(position)))
        inexact = self._reader.inexact
        differences = [each for each in differences if each.path not in without or each.what in _OF_NAMES]
        return self._find(position, cut, differences, inexact)

    def _find(self, where: str, cut: int, differences: list[Difference], inexact: dict[bytes, str]) -> Finding:
        """Note differences and marks of the state after event ``cut``."""
        wrong = [each for each in differences if not self._marks.cover(each, cut, inexact)]
        marked = [each for each in differences if each not in wrong]
        self._verdict.failures += self._describe(where, cut, wrong)
        self._verdict.doubts += (f"{Finding.WRONG_MARKED}: {line}" for line in self._describe(where, cut, marked))
        if inexact:
            path = min(inexact)
            self._verdict.doubts.append(f"at {where}: {len(inexact)} are not exact, {path!r}: {inexact[path]}")
        if wrong:
            return Finding.WRONG
        return Finding.WRONG_MARKED if marked else Finding.MARKED if inexact else Finding.EXACT

    @cached_property
    def _marks(self) -> Marks:
        return Marks(self._trace.timeline(ops="all"))

    @cached_property
    def _events(self) -> list[Event]:
        return list(self._trace.timeline(ops="all"))

    def _describe(self, where: str, cut: int, differences: list[Difference]) -> Iterator[str]:
        for difference in differences[:_SHOWN_DIFFERENCES]:
            events = "".join(f"\n      {line}" for line in self._events_near(cut, difference.path))
            yield f"at {where}: {difference}{events}"
        if len(differences) > _SHOWN_DIFFERENCES:
            yield f"at {where}: {len(differences) - _SHOWN_DIFFERENCES} more differences"

    def _events_near(self, cut: int, path: bytes) -> Iterator[str]:
        """Yield the last events of a path up to event ``cut``, and the first after it."""
        events = [event for event in self._events if path in (event.path, event.path2)]
        before = [event for event in events if event.number <= cut]
        yield from map(describe_event, before[-_SHOWN_EVENTS:])
        yield f"-- @{cut}"
        yield from map(describe_event, [event for event in events if event.number > cut][:2])


# Differences that a mapping does not explain: they count at once, mapped or not.
_OF_NAMES = frozenset({"missing", "should not be there", "kind", "links", "target", "rdev", "uid", "gid", "xattrs"})


def describe_event(event: Event) -> str:
    """Return an event in one line, with what replay needs of it."""
    return (
        f"@{event.number} {event.kind.name} node {event.node} {event.path!r} {event.path2!r} t {event.t_ns}"
        f" pid {event.pid} offset {event.offset} length {event.length} size {event.size} {event.marks!r}"
    )


def position_of(trace: Trace, instant: Instant) -> str:
    """Return the position of an instant."""
    return position_at(trace, instant.t_ns)


def position_at(trace: Trace, t_ns: int) -> str:
    """Return the position of a time, exact to the nanosecond (a duration in ns covers just that one)."""
    return f"{max(0, t_ns - trace.facts.start_monotonic_ns)}ns"


def _before_check(trace: Trace) -> str | None:
    """Return the position before what the check at the end read back; None if it found nothing.

    Its events are the last; what was read back meanwhile, as no call explained a change, is no matter of that check.
    """
    end = number = trace.cut("end")
    while number and trace.event(number).kind == Kind.RESYNC:
        number -= 1
    if number == end:
        return None
    return f"@{number}" if number else "start"


def _judge_exports(trace: Trace, recorded: Recorded, verdict: Verdict, count: int) -> None:
    """Export some instants by the command line, among them the end, and compare the folders.

    What differs there and not by the API is the command's own fault; and it must say what the API says: that something
    is not exact.
    """
    instants = [instant for instant in recorded.instants if not instant.mapped]
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
        faults = verdict.doubts if done.returncode == _INCOMPLETE else verdict.failures
        if done.returncode != 0:
            faults.append(f"export --time={position} ended with {done.returncode}: {done.stderr.strip()}")
        if out.exists():
            differences = compare(truth, FolderReader(os.fsencode(out)).read())
            faults += (f"export --time={position}: {each}" for each in differences[:_SHOWN_DIFFERENCES])


_INCOMPLETE = 3  # exit code of a command whose answer is incomplete or inexact, and says so


def _sum(info: TraceInfo, prefix: str) -> int:
    return sum(count for name, count in info.counters.items() if name.startswith(prefix))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
