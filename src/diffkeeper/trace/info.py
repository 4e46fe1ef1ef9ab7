"""What is known of a trace as a whole, and what keeps it from being complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.event import Kind
from diffkeeper.processing.progress import Progress
from diffkeeper.processing.totals import Totals
from diffkeeper.store.format import JOURNAL_NAME, STORE_NAME, SessionFacts

_DEFECTS = {
    "unresolved": "events could not be placed in the tree",
    "ambiguous": "events are not certain as to file or offset",
    "inexact": "writes were read later than they were made",
    "unknown": "events have bytes that nobody read",
    "unknown_files": "changes were to files that the trace does not know",
    "late": "events were recorded out of order",
    "identity_conflicts": "files took the identity of others",
    "baseline_unread": "files could not be read for the baseline",
}


def info_of(trace: Path, state: str, facts: SessionFacts, progress: Progress, damage: Sequence[str]) -> TraceInfo:
    """Return what is known of a trace."""
    totals = Totals.from_json(progress.totals) if progress.totals else Totals()
    counters = {**facts.counters, **totals.summary()}
    defects = tuple(_defects(state, facts, counters))
    return TraceInfo(
        path=os.fspath(trace),
        trace_id=facts.trace_id,
        state=state,
        version=facts.diffkeeper,
        argv=tuple(facts.argv),
        cwd=facts.cwd,
        user=facts.user,
        hostname=facts.hostname,
        kernel=facts.kernel,
        roots=tuple((root.label, root.path) for root in facts.roots),
        engine=facts.engine,
        baseline=facts.baseline,
        excludes=tuple(facts.excludes),
        start_realtime_ns=facts.start_realtime_ns,
        duration_ns=_duration_ns(facts),
        exit_code=facts.exit_code,
        wait_status=facts.wait_status,
        timed_out=facts.timed_out,
        events=counters["events"],
        files=counters["files"],
        processes=counters["processes"],
        bytes_written=counters["bytes"],
        journal_bytes=facts.counters.get("journal_bytes", 0) or _size(trace / JOURNAL_NAME),
        store_bytes=_size(trace / STORE_NAME),
        kinds={Kind(kind).name.lower(): count for kind, count in sorted(totals.kinds.items())},
        counters=counters,
        is_complete=not defects and not damage,
        defects=defects,
        damage=tuple(damage),
        engine_exceptions=tuple(map(str, facts.engine_facts.get("exceptions", ()))),
        verification=facts.verification,
        differing=tuple(facts.differing),
    )


def _defects(state: str, facts: SessionFacts, counters: Mapping[str, int]) -> Iterator[str]:
    if state == "broken":
        yield "the recording broke off: what was not journaled by then is missing"
    for name, count in counters.items():
        if count and name.startswith("lost_"):
            yield f"{count:,} changes were lost ({name.removeprefix('lost_')})"
    for name, words in _DEFECTS.items():
        if counters.get(name):
            yield f"{counters[name]:,} {words}"
    failures = [str(words) for words in facts.engine_facts.get("failures", ())]
    yield from failures
    if facts.complete is False and not failures and not any(counters.get(name) for name in _DEFECTS):
        yield "the recorder could not observe everything"


def _duration_ns(facts: SessionFacts) -> int | None:
    if facts.end_monotonic_ns is None or not facts.start_monotonic_ns:
        return None
    return facts.end_monotonic_ns - facts.start_monotonic_ns


def _size(folder: Path) -> int:
    """Return the bytes that the files of a folder take on disk."""
    try:
        entries = [entry.stat(follow_symlinks=False) for entry in os.scandir(folder)]
    except OSError:
        return 0
    return sum(min(stat.st_size, stat.st_blocks * 512) for stat in entries)
