"""What a recording wrote, out of the golden traces: made-up bytes reach further when they begin as true ones."""

from __future__ import annotations

import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from diffkeeper.baseline_format import KIND_CONTENT, KIND_ENTRIES
from diffkeeper.store.format import read_session
from diffkeeper.store.journal import BatchKind, JournalReader

GOLDEN = Path(__file__).parents[1] / "golden" / "v1.tar.gz"
# Debian 12's Python 3.11.2 is older than the argument; Python 3.14 warns without it.
UNPACKED: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def golden(target: str) -> list[bytes]:
    """Return the seeds of a target, none where true bytes are not kept in that form."""
    return _seeds().get(target, [])


@cache
def _seeds() -> dict[str, list[bytes]]:
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(GOLDEN) as archive:
            archive.extractall(place, **UNPACKED)
        trace = next(path.parent for path in Path(place).rglob("session.json") if path.parent.name == "broken")
        facts = read_session(trace)
        ring = list(JournalReader(trace, facts.trace_id).batches("r"))
        before = list(JournalReader(trace, facts.trace_id).batches("b"))
        segments = sorted((trace / "journal").iterdir())
        return {
            "decoder": [batch.payload for batch in ring if batch.kind == BatchKind.RECORDS],
            "baseline": [batch.payload for batch in before if batch.kind in (KIND_ENTRIES, KIND_CONTENT)],
            "journal": [segment.read_bytes().rstrip(b"\0")[: 1 << 16] for segment in segments],
            "session": [(trace / "session.json").read_bytes()],
        }
