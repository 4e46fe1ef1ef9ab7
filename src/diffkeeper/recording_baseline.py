"""Write the baseline of a recording into its journal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from diffkeeper.baseline import SMALL_BYTES, BaselineRoot, Cover, Progress, Selection, take_baseline
from diffkeeper.rules import Rules
from diffkeeper.store import deltas
from diffkeeper.store.format import SessionFacts
from diffkeeper.store.journal import BatchKind, JournalWriter
from diffkeeper.watch_roots import WatchRoot, device_and_inode


def take(
    path: Path,
    facts: SessionFacts,
    roots: Sequence[WatchRoot],
    progress: Progress,
    budget_bytes: int,
    cover: Cover | None,
) -> int:
    """Index the roots and keep content: of small files (``touched``), of every regular file (``full``) or of none.

    Return what is left of the budget.
    """
    selection = Selection(SMALL_BYTES, budget_bytes, cover) if facts.baseline == "touched" else None
    writer = JournalWriter(path, facts.trace_id)
    try:
        report = take_baseline(
            [BaselineRoot(root.path, root.label) for root in roots],
            writer,
            encode=None if facts.baseline == "index" else deltas.encode,
            selection=selection,
            rules=Rules.from_patterns(facts.excludes),
            skip=[device_and_inode(path)],
            progress=progress,
        )
        writer.append(BatchKind.END, b"")
    finally:
        writer.close()
    facts.mounts_left_out = [os.fsdecode(path) for path in report.mounts_left_out if not _is_root(path, roots)]
    facts.counters["baseline_entries"] = report.entries
    facts.counters["baseline_files"] = report.files
    facts.counters["baseline_kept"] = report.kept
    facts.counters["baseline_bytes"] = report.content_bytes
    facts.counters["baseline_unread"] = len(report.unread)
    return selection.left_bytes if selection is not None else 0


def _is_root(path: bytes, roots: Sequence[WatchRoot]) -> bool:
    """Say whether what is mounted at a path of the trace is a watch root of its own."""
    for root in roots:
        prefix = root.label + b"/" if root.label else b""
        if path.startswith(prefix) and os.path.join(root.path, path[len(prefix) :]) in {one.path for one in roots}:
            return True
    return False
