"""Verify a recording that was just processed; the journal has ended, the command too."""

from __future__ import annotations

import os
from pathlib import Path

from diffkeeper.baseline_index import s_dev
from diffkeeper.model.losses import TREE_IN_DOUBT
from diffkeeper.patience import Patience
from diffkeeper.processing.last_state import LastState
from diffkeeper.processing.processor import Processor
from diffkeeper.rules import Rules
from diffkeeper.store.format import SessionFacts, read_session
from diffkeeper.verification.live import LeftOut, LiveRoot, RootGoneError
from diffkeeper.verification.repair import Repair
from diffkeeper.verification.result import Verification
from diffkeeper.verification.sweep import Sweep, Touched


def verify(processor: Processor, trace_dir: Path, patience: Patience | None = None) -> Verification:
    """Hold the last state against the live roots, put RESYNC events where they differ, and commit those.

    Raises OutOfTimeError when ``patience`` ends; nothing was changed then.
    """
    check_time = (patience or Patience()).check
    facts = read_session(trace_dir)
    state = LastState(processor, trace_dir)
    tree, totals, blobs = state.tree, state.totals, state.reader()
    blobs.check_time = check_time
    sweep = Sweep(
        tree.nodes,
        Touched(frozenset(totals.nodes), frozenset(totals.written)),
        blobs,
        Repair(state),
        stopped_ns=facts.stopped_realtime_ns,
        has_all_bytes=facts.baseline == "full",
        confirms=not facts.engine_facts.get("by_looking"),
        check_time=check_time,
        is_in_doubt=any(TREE_IN_DOUBT in tree.nodes[number].inexact for _, number in tree.roots),
    )
    left_out = _left_out(facts, trace_dir)
    for index, (label, number) in enumerate(list(tree.roots)):
        shown = label if len(tree.roots) > 1 else b""
        try:
            with LiveRoot(facts.roots[index], shown, left_out) as live:
                sweep.root(live, tree.nodes[number], shown)
        except RootGoneError:
            sweep.result.not_verified += 1
    state.commit()
    return sweep.result


def _left_out(facts: SessionFacts, trace_dir: Path) -> LeftOut:
    own = os.stat(trace_dir)
    mounts = frozenset(map(os.fsencode, facts.mounts_left_out))
    return LeftOut(
        Rules.from_patterns(facts.excludes), frozenset({(s_dev(own.st_dev), own.st_ino & (1 << 64) - 1)}), mounts
    )
