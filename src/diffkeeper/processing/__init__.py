"""From journal to store: decode, sort, resolve, write; nothing here runs on the recorded command's path."""

from __future__ import annotations

import os
from pathlib import Path


def process(trace: str | os.PathLike[str]) -> dict[str, int]:
    """Process the journal of a trace into its own store; return what was counted, for the session's counters."""
    from diffkeeper.processing.processor import Processor  # loads RocksDB, which a short command need not wait for

    with Processor.of_trace(Path(trace)) as processor:
        return processor.finish().summary()
