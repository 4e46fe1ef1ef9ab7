"""Where the history of a trace begins: at its baseline or, where older history was dropped, after some later event."""

from __future__ import annotations

import json
from typing import Any

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import LIMIT_DROPPED, Event, Kind
from diffkeeper.model.values import dataclass
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore

_KEY = Key.FACT + b"beginning"


@dataclass(frozen=True, slots=True)
class Beginning:
    """Name the first state of a trace: after event ``number``, at ``t_ns``; 0 is the baseline.

    ``limit_bytes`` is the size that the trace had to stay below.
    """

    number: int = 0
    t_ns: int = 0
    limit_bytes: int = 0

    def row(self) -> Event:
        """Return the event that stands for all that was dropped; it has the number of the last of them."""
        fields: dict[str, Any] = {"detail": LIMIT_DROPPED, "length": self.number, "size": self.limit_bytes}
        return Event(self.number, self.t_ns, Kind.LIMIT, 0, 0, 0, **fields)

    def to_item(self) -> tuple[bytes, bytes]:
        """Return the key and the value for the store."""
        fields = {"number": self.number, "t_ns": self.t_ns, "limit_bytes": self.limit_bytes}
        return _KEY, json.dumps(fields).encode("ascii")


def read_beginning(rocks: RocksStore) -> Beginning:
    """Return where the history in a store begins; raises DamagedTraceError."""
    value = rocks.get(_KEY)
    if value is None:
        return Beginning()
    try:
        document = json.loads(value)
        beginning = Beginning(*(int(document[name]) for name in ("number", "t_ns", "limit_bytes")))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedTraceError(f"where the history begins cannot be read: {error}") from error
    if beginning.number <= 0:
        raise DamagedTraceError("where the history begins cannot be read")
    return beginning
