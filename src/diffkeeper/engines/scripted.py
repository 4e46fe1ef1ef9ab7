"""An engine that plays given observations: for tests, documents and demos that need no privileges and no kernel.

It writes them through the wire format into the journal, so that everything behind the ring is the same as with eBPF.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Sequence

from diffkeeper.engines.encoder import encode
from diffkeeper.engines.protocol import EngineFacts, EngineRequest, Progress
from diffkeeper.errors import RecordError
from diffkeeper.model.observation import Observation

NAME = "scripted"
_HEADER = struct.Struct("<IHHQQQII")  # a batch of the journal: docs/trace-format.md
_MAGIC = 0x31424B44
_KIND_RECORDS = 1
_KIND_END = 4
_BATCH_BYTES = 1 << 20

Script = Iterable[Observation] | Callable[[], Iterable[Observation]]


class ScriptedEngine:
    """Write a script's observations into the segments, all when it stops, as if drained late."""

    name = NAME

    def __init__(self, script: Script = (), *, is_live: bool = False) -> None:
        """Take observations, or a function that makes them when the recording stops.

        With ``is_live`` they tell what really happened on disk, and the recording is verified.
        """
        self._is_live = is_live
        self._script = script
        self._segments: list[tuple[int, int]] = []
        self._trace_id = 0
        self._sequence = 0
        self._offset = 0
        self._bytes = 0
        self.adopted = 0

    def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    def begin(self, request: EngineRequest) -> None:
        """Remember where to write."""
        self._trace_id = request.trace_id
        self.add_segments(request.segments)

    def wait_until_started(self) -> EngineFacts:
        """Return at once."""
        return EngineFacts(NAME, ("nothing is observed: the observations were given",), is_live=self._is_live)

    def adopt(self, pid: int) -> None:
        """Remember the command."""
        self.adopted = pid

    def let_go(self) -> None:
        """Do nothing: it holds nobody."""

    def add_segments(self, segments: Sequence[tuple[int, int]]) -> None:
        """Take segments; the caller may close its descriptors."""
        self._segments += [(number, os.dup(descriptor)) for number, descriptor in segments]

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        """Hold nothing."""
        return False

    def fileno(self) -> int:
        """Return -1: it never has news."""
        return -1

    def progress(self) -> Progress:
        """Return what was written; the first segment is in use."""
        return Progress(self._sequence, self._bytes, max(0, len(self._segments) - 1))

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        """Write everything."""
        pending = b""
        for observation in self._script() if callable(self._script) else self._script:
            record = encode(observation)
            if pending and len(pending) + len(record) > _BATCH_BYTES:
                self._write(_KIND_RECORDS, pending)
                pending = b""
            pending += record
        if pending:
            self._write(_KIND_RECORDS, pending)
        self._write(_KIND_END, b"{}")
        return self.progress()

    def release(self) -> None:
        """Do nothing: close() is as quick."""

    def close(self) -> None:
        """Close the segments."""
        for _, descriptor in self._segments:
            os.close(descriptor)
        self._segments.clear()

    def _write(self, kind: int, payload: bytes) -> None:
        batch = self._batch(kind, payload)
        padded = batch + b"\0" * (-len(batch) % 8)
        if self._offset + len(padded) > self._room():
            os.close(self._segments.pop(0)[1])
            self._offset = 0
            if not self._segments:
                raise RecordError("the script is longer than the segments at hand")
        os.pwrite(self._segments[0][1], padded, self._offset)
        self._offset += len(padded)
        self._bytes += len(padded)

    def _room(self) -> int:
        return os.fstat(self._segments[0][1]).st_size

    def _batch(self, kind: int, payload: bytes) -> bytes:
        self._sequence += 1
        fields = (_MAGIC, kind, 0, self._trace_id, self._sequence, time.monotonic_ns(), len(payload))
        crc = zlib.crc32(payload, zlib.crc32(_HEADER.pack(*fields, 0)))
        return _HEADER.pack(*fields, crc) + payload
