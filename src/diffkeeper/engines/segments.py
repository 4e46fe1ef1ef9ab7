"""Write batches of records into the segments that a recording hands out, for engines that run in this process."""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib
from collections.abc import Sequence

from diffkeeper.engines.protocol import Progress
from diffkeeper.errors import RecordError
from diffkeeper.positional import write_at

KIND_RECORDS = 1
KIND_END = 4
BATCH_BYTES = 1 << 20
_HEADER = struct.Struct("<IHHQQQII")  # a batch of the journal: docs/trace-format.md
_MAGIC = 0x31424B44


class SegmentWriter:
    """Fill segments one after the other; ``add`` may be called from another thread than ``write``."""

    def __init__(self, patience_s: float = 0.0) -> None:
        """Wait so long for a segment where there is none left."""
        self._patience_s = patience_s
        self._segments: list[tuple[int, int]] = []
        self._filled: list[int] = []
        self._changed = threading.Condition()
        self._offset = 0
        self._sequence = 0
        self._bytes = 0
        self.trace_id = 0
        self.is_starving = False

    def add(self, segments: Sequence[tuple[int, int]]) -> None:
        """Take segments as (number, descriptor); the caller may close its descriptors."""
        with self._changed:
            self._segments += [(number, os.dup(descriptor)) for number, descriptor in segments]
            self._changed.notify_all()

    def progress(self) -> Progress:
        """Return what was written, and the segments that were filled since the last call."""
        with self._changed:
            filled, self._filled = tuple(self._filled), []
            free = max(0, len(self._segments) - 1)
            return Progress(self._sequence, self._bytes, free, filled)

    def write(self, kind: int, payload: bytes) -> None:
        """Write one batch; raise RecordError where no segment comes."""
        batch = self._batch(kind, payload)
        padded = batch + b"\0" * (-len(batch) % 8)
        self._make_room(len(padded))
        write_at(self._segments[0][1], padded, self._offset)
        self._offset += len(padded)
        self._bytes += len(padded)

    def close(self) -> None:
        """Close the segments."""
        with self._changed:
            for _, descriptor in self._segments:
                os.close(descriptor)
            self._segments.clear()

    def _make_room(self, size: int) -> None:
        with self._changed:
            if self._segments and self._offset + size <= os.fstat(self._segments[0][1]).st_size:
                return
            if self._segments:
                number, descriptor = self._segments.pop(0)
                os.close(descriptor)
                self._filled.append(number)
            self._offset = 0
            self.is_starving = not self._segments
            if not self._changed.wait_for(lambda: self._segments, self._patience_s or 0.001):
                raise RecordError("there are no segments left to write to")
            self.is_starving = False

    def _batch(self, kind: int, payload: bytes) -> bytes:
        self._sequence += 1
        fields = (_MAGIC, kind, 0, self.trace_id, self._sequence, time.monotonic_ns(), len(payload))
        crc = zlib.crc32(payload, zlib.crc32(_HEADER.pack(*fields, 0)))
        return _HEADER.pack(*fields, crc) + payload
