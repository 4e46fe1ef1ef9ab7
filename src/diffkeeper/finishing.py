"""Process a trace that was sealed as journaled, once it turns out to be wanted."""

from __future__ import annotations

from pathlib import Path

from diffkeeper.model.verdict import judge
from diffkeeper.processing.processor import Processor
from diffkeeper.store.format import TraceLock, read_session, write_session
from diffkeeper.store.journal import remove_journal
from diffkeeper.verification.result import NOT_YET

_NOT_VERIFIED = "the files had changed again when it was decided to keep the trace"
_FAILURES = "failures"


def finish(trace_dir: Path) -> None:
    """Process the journal of a sealed trace into its store and remove it, as its recorder would have.

    It cannot be verified any more, and says so. Raises TraceError or OSError; the trace is then as readable as before.
    """
    facts = read_session(trace_dir)
    if facts.processed:
        return
    with TraceLock(trace_dir):
        with Processor.of_trace(trace_dir) as processor:
            facts.counters.update(processor.finish().summary())
            lacking = [*processor.damage, *([] if processor.has_end else [_NO_END])]
        failures = [*map(str, facts.engine_facts.get(_FAILURES, ())), *lacking]
        facts.engine_facts[_FAILURES] = failures
        facts.processed = True
        facts.complete = judge(facts.counters, failures).is_complete
        if facts.verification == NOT_YET:
            facts.verification = _NOT_VERIFIED
        write_session(trace_dir, facts)
        remove_journal(trace_dir)


_NO_END = "the journal did not reach the end of the recording"
