"""What a resolver must be given back, beside the tree and the processes, to go on after a restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from diffkeeper.model.event import Data
from diffkeeper.model.process import Process
from diffkeeper.model.resolve import Resolver


def state_of(resolver: Resolver) -> dict[str, Any]:
    """Return the state as a value for JSON."""
    ledger = resolver._ledger
    return {
        "number": ledger.number,
        "last_ns": ledger._last_ns,
        "provisional": ledger._provisional,
        "counters": dict(ledger.counters),
        "written": sorted(resolver._content.written),
        "output_offsets": resolver._output_offsets,
        "keys": ledger.table._keys,
        "pieces": [(one.offset, one.length, one.blob, one.start) for one in resolver._looks.pieces],
    }


def restore(resolver: Resolver, state: Mapping[str, Any], processes: Iterable[Process]) -> None:
    """Put a new resolver into the state that ``state_of`` returned."""
    ledger = resolver._ledger
    ledger.number = int(state["number"])
    ledger._last_ns = int(state["last_ns"])
    ledger._provisional = int(state["provisional"])
    ledger.counters.update(state["counters"])
    resolver._content.written.update(state["written"])
    resolver._output_offsets.update({int(stream): int(at) for stream, at in state["output_offsets"].items()})
    resolver._looks.pieces += [Data(*map(int, piece)) for piece in state.get("pieces", ())]
    ledger.table.processes.update({process.key: process for process in processes})
    ledger.table._keys.update({int(pid): int(key) for pid, key in state["keys"].items()})
