"""What was asked of a recording, as checked, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from diffkeeper.engines.protocol import MAPPED_INTERVAL_NS
from diffkeeper.model.keeping import ALWAYS, Policy, policy_of
from diffkeeper.model.values import dataclass
from diffkeeper.store.format import DROP_OLDEST, SessionFacts

EXIT_TIMED_OUT = 124

MEMORY_BYTES, LEAST_MEMORY_BYTES = 256 << 20, 64 << 20  # of processing, beside the tree of the files
BUDGET_BYTES = 256 << 20  # of files that are copied before the command starts

PROCESS_AUTO, PROCESS_NOW, PROCESS_LATER = PROCESSINGS = ("auto", "now", "later")

Announce = Callable[[str], None]
BaselineProgress = Callable[[int, int], None]  # (entries, bytes of content) so far


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold what was asked for, as checked."""

    argv: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    baseline: str
    patterns: tuple[str, ...]
    timeout_s: float | None
    forward_signals: bool
    announce: Announce
    baseline_progress: BaselineProgress
    baseline_done: Callable[[], None]
    verify: bool = True
    mapped_interval_ns: int = MAPPED_INTERVAL_NS
    baseline_budget_bytes: int = BUDGET_BYTES
    leases: bool = True
    may_hold: bool = True
    keep: Policy = policy_of(ALWAYS)
    process: str = PROCESS_NOW
    memory_bytes: int = MEMORY_BYTES
    max_bytes: int = 0
    on_full: str = DROP_OLDEST


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say how the command ended and what the trace holds.

    ``defects`` tell why the trace is not complete, as ``Trace.info()`` does; ``failures`` are those of the recorder.
    ``exit_code`` is the command's own, 128+N after signal N, 124 when ``timeout`` was hit, 125 when the command was
    ended as the trace was full. If the trace was not kept, nothing is known of its completeness.
    """

    exit_code: int
    wait_status: int
    timed_out: bool
    trace_path: Path
    facts: SessionFacts
    failures: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    was_interrupted: bool = False
    is_kept: bool = True

    @property
    def is_complete(self) -> bool:
        """Say whether the trace is known to hold every change."""
        return bool(self.facts.complete)

    def at(self, trace_path: Path) -> Outcome:
        """Return the same with the trace at another path, where it was moved to."""
        return replace(self, trace_path=trace_path)
