"""An engine that plays given observations: for tests, documents and demos that need no privileges and no kernel.

It writes them through the wire format into the journal, so that everything behind the ring is the same as with eBPF.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from diffkeeper.engines.encoder import encode
from diffkeeper.engines.protocol import EngineFacts, EngineRequest, Progress
from diffkeeper.engines.segments import BATCH_BYTES, KIND_END, KIND_RECORDS, SegmentWriter
from diffkeeper.model.observation import Observation

NAME = "scripted"

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
        self._writer = SegmentWriter()
        self.adopted = 0

    def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    def begin(self, request: EngineRequest) -> None:
        """Remember where to write."""
        self._writer.trace_id = request.trace_id
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
        self._writer.add(segments)

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        """Hold nothing."""
        return False

    def fileno(self) -> int:
        """Return -1: it never has news."""
        return -1

    def progress(self) -> Progress:
        """Return what was written; the first segment is in use."""
        return self._writer.progress()

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        """Write everything."""
        pending = b""
        for observation in self._script() if callable(self._script) else self._script:
            record = encode(observation)
            if pending and len(pending) + len(record) > BATCH_BYTES:
                self._writer.write(KIND_RECORDS, pending)
                pending = b""
            pending += record
        if pending:
            self._writer.write(KIND_RECORDS, pending)
        self._writer.write(KIND_END, b"{}")
        return self.progress()

    def release(self) -> None:
        """Do nothing: close() is as quick."""

    def close(self) -> None:
        """Close the segments."""
        self._writer.close()
