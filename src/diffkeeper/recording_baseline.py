"""Write the baseline of a recording into its journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffkeeper.baseline import BaselineRoot, take_baseline
from diffkeeper.rules import Rules
from diffkeeper.store import deltas
from diffkeeper.store.format import SessionFacts
from diffkeeper.store.journal import BatchKind, JournalWriter
from diffkeeper.watch_roots import WatchRoot, device_and_inode

if TYPE_CHECKING:
    from diffkeeper.recording_session import Settings


def take(path: Path, facts: SessionFacts, roots: Sequence[WatchRoot], settings: Settings) -> None:
    """Index the roots, and with ``--baseline full`` keep the content of every regular file."""
    writer = JournalWriter(path, facts.trace_id)
    try:
        report = take_baseline(
            [BaselineRoot(root.path, root.label) for root in roots],
            writer,
            encode=deltas.encode if settings.baseline == "full" else None,
            rules=Rules.from_patterns(settings.patterns),
            skip=[device_and_inode(path)],
            progress=settings.baseline_progress,
        )
        writer.append(BatchKind.END, b"")
    finally:
        writer.close()
    facts.counters["baseline_entries"] = report.entries
    facts.counters["baseline_bytes"] = report.content_bytes
    facts.counters["baseline_unread"] = len(report.unread)
