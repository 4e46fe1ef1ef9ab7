"""What is known of a trace as a whole, and what keeps it from being complete."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.event import Kind
from diffkeeper.model.verdict import Verdict, judge
from diffkeeper.processing.progress import Progress
from diffkeeper.processing.totals import kinds_of, summary_of
from diffkeeper.reporters import limits
from diffkeeper.store.beginning import Beginning
from diffkeeper.store.format import JOURNAL_NAME, STORE_NAME, SessionFacts

_BASELINE = Beginning()


def info_of(
    trace: Path,
    state: str,
    facts: SessionFacts,
    progress: Progress,
    damage: Sequence[str],
    beginning: Beginning = _BASELINE,
) -> TraceInfo:
    """Return what is known of a trace."""
    counters = {**facts.counters, **summary_of(progress.totals)}
    if beginning.number:
        counters["dropped_events"] = beginning.number  # the counters were noted before the last dropping
    verdict = _verdict(state, facts, counters, damage)
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
        kinds={Kind(kind).name.lower(): count for kind, count in sorted(kinds_of(progress.totals).items())},
        counters=counters,
        is_complete=verdict.is_complete and not damage,
        defects=verdict.reasons,
        damage=tuple(damage),
        engine_exceptions=tuple(map(str, facts.engine_facts.get("exceptions", ()))),
        verification=facts.verification,
        mounts_left_out=tuple(facts.mounts_left_out),
        differing=tuple(facts.differing),
        first_number=beginning.number,
        first_ns=beginning.t_ns,
        max_bytes=facts.max_bytes or beginning.limit_bytes,
        full_ns=full_ns(facts),
    )


def dropped_words(asked: str, beginning: Beginning) -> str:
    """Return why the trace cannot answer what was ``asked`` for, and from where on it can."""
    return limits.dropped_words(asked, beginning.number, beginning.t_ns, beginning.limit_bytes)


def full_ns(facts: SessionFacts) -> int | None:
    """Return when nothing was recorded any more as the trace was full, None if that did not happen."""
    if facts.full_monotonic_ns is None or not facts.start_monotonic_ns:
        return None
    return facts.full_monotonic_ns - facts.start_monotonic_ns


def losses_of(facts: SessionFacts, progress: Progress, damage: Sequence[str], *, with_gaps: bool = True) -> list[str]:
    """Return in words what happened and is not in the trace, what cannot be read included.

    Without ``with_gaps`` those are left out that are GAPs on the timeline: each tree says whether one touches it.
    """
    verdict = _verdict("", facts, {**facts.counters, **summary_of(progress.totals)}, damage)
    losses = [words for words in verdict.losses if with_gaps or words not in verdict.gaps]
    return list(dict.fromkeys([*losses, *damage]))


def _verdict(state: str, facts: SessionFacts, counters: Mapping[str, int], damage: Sequence[str]) -> Verdict:
    """Return what keeps a trace from being complete, beside the damage."""
    failures = [words for words in map(str, facts.engine_facts.get("failures", ())) if words not in damage]
    said = None if damage else facts.complete
    full = full_ns(facts)
    ended = "" if full is None else limits.full_words(full, facts.max_bytes)
    return judge(counters, failures, is_broken=state == "broken", said=said, ended=ended)


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
