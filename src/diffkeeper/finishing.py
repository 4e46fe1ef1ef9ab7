"""Process a trace that its recorder left as journaled: since it was not known to be wanted, or since it was killed."""

from __future__ import annotations

from pathlib import Path

from diffkeeper.errors import StillRecordingError
from diffkeeper.model.verdict import judge
from diffkeeper.processing import excluding
from diffkeeper.processing.processor import Processor
from diffkeeper.store.format import SessionFacts, TraceLock, read_session, trace_state, write_session
from diffkeeper.store.journal import remove_journal
from diffkeeper.verification.result import NOT_YET

_FAILURES = "failures"
_CHANGED_SINCE = "the files had changed again when it was decided to keep the trace"
_NO_END = "the journal did not reach the end of the recording"
KILLED = "the recorder was killed: what happened after its last batch is not in the trace"


def finish(trace_dir: Path) -> bool:
    """Process the journal of a trace into its store, seal it and remove the journal; return whether there was need to.

    It cannot be verified any more, and says so; one whose recorder was killed will say so for ever. Raises
    StillRecordingError, or TraceError or OSError where it cannot be processed; it is then as readable as before.
    """
    state, facts = trace_state(trace_dir), read_session(trace_dir)
    if state == "recording":
        raise StillRecordingError(f"{trace_dir} is still being recorded: seal it when the command has ended")
    if state == "sealed" and facts.processed:
        return False
    with TraceLock(trace_dir):
        with Processor.of_trace(trace_dir) as processor:
            facts.counters.update(processor.finish().summary())
            lacking = [*processor.damage, *([] if processor.has_end else [_NO_END])]
        _conclude(facts, [KILLED] if state == "broken" else lacking)
        write_session(trace_dir, facts)
        excluding.forget(trace_dir)
        remove_journal(trace_dir)
    return True


def _conclude(facts: SessionFacts, lacking: list[str]) -> None:
    failures = [*map(str, facts.engine_facts.get(_FAILURES, ())), *lacking]
    facts.engine_facts[_FAILURES] = failures
    facts.complete = judge(facts.counters, failures).is_complete and facts.full_monotonic_ns is None
    if facts.verification in (NOT_YET, ""):
        facts.verification = "the recorder was killed" if KILLED in failures else _CHANGED_SINCE
    facts.processed, facts.state = True, "sealed"
