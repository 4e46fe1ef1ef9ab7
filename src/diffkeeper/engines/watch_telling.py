"""Turn what looks found into records of the journal."""

from __future__ import annotations

import time
from typing import Any

from diffkeeper.engines import look_record
from diffkeeper.engines.encoder import encode
from diffkeeper.engines.segments import BATCH_BYTES, KIND_END, KIND_RECORDS, SegmentWriter
from diffkeeper.model.observation import Base, EventsLost, Flag, Inode, Looked, LookOp

_FLUSH_NS = 100_000_000
_NO_BASE = Base(0, 0, 0)
_NO_INODE = Inode(0, 0, 0, 0, 0, 0, 0, 0, 0)
_NO_FLAGS = Flag(0)


class Teller:
    """Number observations, collect their records and write them a batch at a time."""

    def __init__(self, writer: SegmentWriter) -> None:
        self._writer = writer
        self._records: list[bytes] = []
        self._bytes = 0
        self._since_ns = 0  # of the oldest record that waits
        self._sequence = 0

    def look(
        self, op: LookOp, since_ns: int, *, inode: Inode = _NO_INODE, parent: Base = _NO_BASE, name: bytes = b"",
        **fields: Any,
    ) -> None:  # fmt: skip
        """Tell of an entry what it is now; it may have become so since ``since_ns``."""
        self._sequence += 1
        now_ns = time.monotonic_ns()
        seen = Looked(
            self._sequence, now_ns, min(since_ns, now_ns), now_ns, 0, 0, _NO_FLAGS, 0, op, inode, parent, name, **fields
        )
        self._put(look_record.encode(seen))

    def lost(self, since_ns: int) -> None:
        """Tell that the system dropped hints."""
        self._sequence += 1
        now_ns = time.monotonic_ns()
        since_ns = min(since_ns or now_ns, now_ns)
        common = (self._sequence, since_ns, since_ns, now_ns, 0, 0, _NO_FLAGS, 0)
        self._put(encode(EventsLost(*common, "queue", 1, since_ns)))

    def _put(self, record: bytes) -> None:
        if self._bytes + len(record) > BATCH_BYTES:
            self.flush()
        if not self._records:
            self._since_ns = time.monotonic_ns()
        self._records.append(record)
        self._bytes += len(record)

    def flush(self) -> None:
        """Write what is waiting. Raises RecordError where there is no room."""
        if self._records:
            payload = b"".join(self._records)
            self._records, self._bytes = [], 0
            self._writer.write(KIND_RECORDS, payload)

    @property
    def flush_in_s(self) -> float | None:
        """Return in how many seconds ``flush`` is due, None if nothing waits."""
        if not self._records:
            return None
        return max(0.0, (self._since_ns + _FLUSH_NS - time.monotonic_ns()) / 1e9)

    def end(self) -> None:
        """Write the rest and the end of the stream."""
        self.flush()
        self._writer.write(KIND_END, b"{}")
