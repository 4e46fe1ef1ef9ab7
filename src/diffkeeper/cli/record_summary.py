"""What ``record`` says on standard error when the command has ended."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diffkeeper.errors import DiffkeeperError
from diffkeeper.model.clock import duration, precise
from diffkeeper.recording import Outcome
from diffkeeper.reporters import escape
from diffkeeper.reporters.numbers import counted, size
from diffkeeper.store.format import FAIL
from diffkeeper.verification.result import DONE, OFF

if TYPE_CHECKING:
    from diffkeeper.reporters.values import Line

_DEFAULT_STATE_DIR = "diffkeeper-trace"


def lines(outcome: Outcome, state_dir: str) -> Iterator[str]:
    """Yield the summary: what was counted, what is missing, the last change and the commands that look at it."""
    if not outcome.is_kept:
        yield f"diffkeeper: the trace is not kept. Command {ending(outcome)}."
        return
    yield f"diffkeeper: {_counts(outcome)} Command {ending(outcome)}."
    for defect in outcome.defects:
        yield f"diffkeeper: not complete: {escape.escaped(defect)}"
    yield from _limited(outcome)
    yield from _disturbed(outcome)
    yield from _not_verified(outcome)
    living = outcome.facts.counters.get("living_on", 0)
    if living:
        who = counted(living, "process that the command started lives", "processes that the command started live")
        yield f"diffkeeper: {who} on: from here on nothing is recorded"
    if not outcome.trace_path.is_dir():
        return  # it was deleted: there is nothing to look at
    option = state_option(state_dir)
    changes = outcome.facts.counters.get("changes", 0) if outcome.facts.processed else 0
    last = _last_change(outcome) if changes else None
    if last is not None:
        yield f"diffkeeper: last change before exit  {_described(last)}"
    yield f"  diffkeeper timeline{option} --last 20"
    if last is not None:
        yield f"  diffkeeper export{option} --time=@{last.event.number}^ --out=debug_fs"


def _limited(outcome: Outcome) -> Iterator[str]:
    """Yield what was done to keep the trace below its size."""
    facts = outcome.facts
    dropped = facts.counters.get("dropped_events", 0)
    if dropped:
        what = f"the first {counted(dropped, 'event was', 'events were')} dropped to keep the trace below"
        yield f"diffkeeper: {what} {size(facts.max_bytes)}: it answers from @{dropped} on"
    if facts.full_monotonic_ns is not None and facts.on_full == FAIL:
        yield "diffkeeper: the trace was full: the command was ended, as --on-full fail asks"


def _disturbed(outcome: Outcome) -> Iterator[str]:
    """Yield what the recording did to the command."""
    count = outcome.facts.counters.get("disturbed_opens", 0)
    if count:
        opens = counted(count, "open with O_NONBLOCK", "opens with O_NONBLOCK")
        yield f"diffkeeper: {opens} failed with EAGAIN, perhaps on leased files; --no-leases avoids that"


def _not_verified(outcome: Outcome) -> Iterator[str]:
    """Yield what the verification could not tell, or why there was none."""
    facts = outcome.facts
    counters = facts.counters
    if facts.verification not in (DONE, OFF):
        yield f"diffkeeper: not verified: {escape.escaped(facts.verification)}"
    if counters.get("changed_since"):
        yield f"diffkeeper: not verified: {_entries(counters['changed_since'])} changed after the command had ended"
    if counters.get("not_verified"):
        yield f"diffkeeper: not verified: {_entries(counters['not_verified'])} of which not all can be read"


def _entries(number: int) -> str:
    return counted(number, "entry", "entries")


def _verified(outcome: Outcome) -> str:
    """Return what to say of a verification that found nothing amiss."""
    facts = outcome.facts
    if facts.verification != DONE or facts.counters.get("differ"):
        return ""
    return f", verified {counted(facts.counters.get('verified_files', 0), 'file', 'files')}"


def _last_change(outcome: Outcome) -> Line | None:
    from diffkeeper.reporters.values import Line
    from diffkeeper.trace import Trace  # its imports are for those who read a trace

    try:
        with Trace.open(outcome.trace_path) as trace:
            event = trace.last_change()
            if event is None:
                return None
            return Line(event, trace.process(event.process).comm if event.process else b"")
    except (DiffkeeperError, OSError):
        return None  # whoever reads the trace is told why it cannot be read


def _described(line: Line) -> str:
    from diffkeeper.reporters import describe

    event = line.event
    operation, _, what = describe.prefix(line).partition("] ")[2].partition(" ")
    process = f"  {escape.name(line.comm) or '?'}[{event.pid}]" if event.pid else ""
    return f"{precise(event.t_ns)}  @{event.number}  {operation} {what.lstrip()}{process}"


def state_option(state_dir: str) -> str:
    """Return the option that a reading command needs to find the same trace."""
    if state_dir == os.environ.get("DIFFKEEPER_STATE_DIR", _DEFAULT_STATE_DIR):
        return ""
    return f" --state-dir={shlex.quote(state_dir)}"


def _counts(outcome: Outcome) -> str:
    counters = outcome.facts.counters
    completeness = "NOT COMPLETE" if outcome.defects else "complete"
    taken = duration((outcome.facts.end_monotonic_ns or 0) - outcome.facts.start_monotonic_ns)
    if not outcome.facts.processed:
        return f"recorded for {taken}, {'NOT COMPLETE, ' if outcome.defects else ''}not yet processed."
    changes = counted(counters.get("changes", 0), "change", "changes")
    if counters.get("looks"):
        return _seen(outcome, changes, taken, completeness)
    files = counted(counters.get("files", 0), "file", "files")
    processes = counted(counters.get("processes", 0), "process", "processes")
    written = size(counters.get("bytes", 0))
    return f"{changes} to {files} by {processes} in {taken}, {written}, {completeness}{_verified(outcome)}."


def _seen(outcome: Outcome, changes: str, taken: str, completeness: str) -> str:
    """Return the counts of a recording that was made by looking at the files, which tells neither who nor how much."""
    files = counted(outcome.facts.counters.get("files", 0), "file", "files")
    return f"{changes} to {files} seen in {taken}, inexact, {completeness}{_verified(outcome)}."


def ending(outcome: Outcome) -> str:
    """Return how the command ended, as ``exited 1``."""
    if outcome.timed_out:
        return "was ended by --timeout"
    number = outcome.wait_status & 0x7F
    if number:
        return f"was killed by signal {number} ({signal.strsignal(number)})"
    return f"exited {outcome.exit_code}"
