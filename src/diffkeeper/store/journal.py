"""The journal: batches in segment files, written while the command runs and read by whoever processes the trace.

    batch, little endian, at a multiple of 8 bytes, within one segment:
    u32 magic "DKB1" | u16 kind | u16 zero | u64 trace id | u64 sequence | u64 t_ns | u32 length | u32 crc | payload
    crc: CRC-32 of the header with crc 0, then of the payload.

Stream r holds what the engine drained; its segments come from a pool, are written by native code through descriptors
that it is given, and are written again from their beginning once they are processed. Stream b holds the baseline.

In each stream sequences count 1, 2, 3 …; within a segment they follow each other, and whatever does not follow is left
over from a former use. The order of the segments is that of the sequences of their first batches.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

from diffkeeper import beneath
from diffkeeper.model.values import dataclass
from diffkeeper.positional import allocate, read_at, write_at
from diffkeeper.store.format import JOURNAL_NAME
from diffkeeper.store.images import image_files

SEGMENT_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = 4 << 20
MAGIC = 0x31424B44

_HEADER = struct.Struct("<IHHQQQII")
_NAME = re.compile(r"([rb])([0-9]{6,9})\.seg")
_HEAD = _HEADER.size


def most_journal_bytes(max_bytes: int) -> int:
    """Return how much of a trace that may have ``max_bytes`` the ring's segments may take, before the command is held.

    Much: what they take is dropped from the oldest history, which costs nothing of what is recorded.
    """
    return max_bytes // 4 * 3


def segment_bytes_for(max_bytes: int) -> int:
    """Return the size of a segment of a trace that may have ``max_bytes``, 0 for any size."""
    return min(SEGMENT_BYTES, max(max_bytes // 32, MAX_PAYLOAD_BYTES)) if max_bytes else SEGMENT_BYTES


class BatchKind(IntEnum):
    """Name what a batch holds."""

    RECORDS = 1  # wire records: ring and late reads
    ENTRIES = 2  # of the baseline
    CONTENT = 3  # of the baseline
    PACK = 5  # of small files of the baseline
    SUPPLY = 6  # content of one file of the baseline
    END = 4  # end of the stream; the payload is empty, or JSON facts


@dataclass(frozen=True, slots=True)
class Batch:
    """Hold one batch of the journal; ``t_ns`` is CLOCK_MONOTONIC when it was written."""

    kind: int
    sequence: int
    t_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """Hold the header of a batch."""

    kind: int
    trace_id: int
    sequence: int
    t_ns: int
    length: int
    crc: int = 0

    def to_bytes(self) -> bytes:
        """Return the 40 bytes of the header."""
        return _HEADER.pack(MAGIC, self.kind, 0, self.trace_id, self.sequence, self.t_ns, self.length, self.crc)

    @classmethod
    def from_bytes(cls, data: bytes) -> BatchHeader | None:
        """Return the header in 40 bytes, None where they are not one."""
        if len(data) != _HEAD:
            return None
        magic, kind, zero, trace_id, sequence, t_ns, length, crc = _HEADER.unpack(data)
        if magic != MAGIC or zero or length > MAX_PAYLOAD_BYTES:
            return None
        return cls(kind, trace_id, sequence, t_ns, length, crc)

    @property
    def span(self) -> int:
        """Return how many bytes of the segment the batch takes: the next one is 8-aligned."""
        return (_HEAD + self.length + 7) & ~7

    def checksum(self, payload: bytes) -> int:
        """Return the crc that belongs into this header with ``payload``."""
        plain = BatchHeader(self.kind, self.trace_id, self.sequence, self.t_ns, self.length)
        return zlib.crc32(payload, zlib.crc32(plain.to_bytes()))


def encode_batch(kind: int, trace_id: int, sequence: int, t_ns: int, payload: bytes) -> bytes:
    """Return a whole batch, padded to a multiple of 8 bytes."""
    assert len(payload) <= MAX_PAYLOAD_BYTES, "a batch's payload has its limit"
    header = BatchHeader(kind, trace_id, sequence, t_ns, len(payload))
    sealed = BatchHeader(kind, trace_id, sequence, t_ns, len(payload), header.checksum(payload))
    return (sealed.to_bytes() + payload).ljust(sealed.span, b"\0")


def segment_path(trace: str | os.PathLike[str], stream: str, number: int) -> Path:
    """Return the path of a segment."""
    return Path(trace, JOURNAL_NAME, f"{stream}{number:06}.seg")


def _create_segment(trace: str | os.PathLike[str], stream: str, number: int) -> int:
    Path(trace, JOURNAL_NAME).mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | beneath.CLOEXEC
    return os.open(segment_path(trace, stream, number), flags, 0o600)


def remove_journal(trace: str | os.PathLike[str]) -> None:
    """Remove all segments of a processed trace, and their directory where nothing else is in it."""
    directory = Path(trace, JOURNAL_NAME)
    for path in directory.glob("*.seg"):
        if _NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for path in image_files(trace):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


class SegmentPool:
    """Own the segments of stream r: make them, hand out their descriptors, take them back to be used again.

    Preallocated and reused: at 203 MB/s fresh files cost 38 % of a CPU, reused ones 5 %.
    """

    def __init__(self, trace: str | os.PathLike[str], size: int = SEGMENT_BYTES) -> None:
        """Own the segments of the trace at ``trace``, of ``size`` bytes each."""
        self._trace = trace
        self._size = size
        self._descriptors: dict[int, int] = {}

    def create(self, count: int = 1) -> list[tuple[int, int]]:
        """Make ``count`` segments; return their numbers and descriptors, which stay the pool's. Raise OSError."""
        return [self._create_one() for _ in range(count)]

    def _create_one(self) -> tuple[int, int]:
        number = max(self._descriptors, default=0) + 1
        descriptor = _create_segment(self._trace, "r", number)
        try:
            allocate(descriptor, self._size)
        except OSError:
            os.close(descriptor)
            segment_path(self._trace, "r", number).unlink()
            raise
        self._descriptors[number] = descriptor
        return number, descriptor

    def recycle(self, number: int) -> int:
        """Free a segment whose batches are safe in the store; return its descriptor, to be written from the start."""
        descriptor = self._descriptors[number]
        write_at(descriptor, b"\0" * _HEAD, 0)  # without a first header nothing in it counts any more
        return descriptor

    @property
    def count(self) -> int:
        """Return how many segments there are."""
        return len(self._descriptors)

    @property
    def is_whole(self) -> bool:
        """Say whether nobody has deleted a segment."""
        return all(os.fstat(descriptor).st_nlink for descriptor in self._descriptors.values())

    def remove(self, number: int) -> None:
        """Remove a segment, and free its room though others may have it open."""
        os.ftruncate(self._descriptors[number], 0)
        os.close(self._descriptors.pop(number))
        segment_path(self._trace, "r", number).unlink(missing_ok=True)

    def close(self) -> None:
        """Close all descriptors; the files stay."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


class JournalWriter:
    """Write batches of stream b into segments of their own."""

    def __init__(
        self, trace: str | os.PathLike[str], trace_id: int, stream: str = "b", size: int = SEGMENT_BYTES
    ) -> None:
        """Begin the stream; segments get ``size`` bytes, or more where one batch needs them."""
        self._trace = trace
        self._trace_id = trace_id
        self._stream = stream
        self._size = size
        self._number = 0
        self._descriptor = -1
        self._written = 0
        self.sequence = 0
        self._lock = threading.Lock()

    def append(self, kind: int, payload: bytes) -> int:
        """Append one batch; return its sequence. Raise OSError where the disk does not take it. For any thread."""
        with self._lock:
            return self._append(kind, payload)

    def _append(self, kind: int, payload: bytes) -> int:
        batch = encode_batch(kind, self._trace_id, self.sequence + 1, time.monotonic_ns(), payload)
        if self._descriptor < 0 or (self._written and self._written + len(batch) > self._size):
            self._next_segment()
        # At its place, not at the end: what a failed write left behind is written over.
        write_at(self._descriptor, batch, self._written)
        self._written += len(batch)
        self.sequence += 1
        return self.sequence

    def _next_segment(self) -> None:
        self.close()
        self._number += 1
        self._descriptor = _create_segment(self._trace, self._stream, self._number)
        self._written = 0

    def sync(self) -> None:
        """Wait until all that was appended is on disk."""
        if self._descriptor >= 0:
            getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """End the segment; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(slots=True)
class _Segment:
    """Know where reading a segment has come to."""

    name: str
    path: Path
    first: int  # sequence of the first batch
    next_sequence: int = 0
    offset: int = 0


class JournalReader:
    """Read the batches of a trace's journal, of one that is still being written too. No more than a batch is in memory.

    Nothing is raised for damage; ``damage`` says in words what is missing or unreadable, as of the last reading.
    """

    def __init__(self, trace: str | os.PathLike[str], trace_id: int) -> None:
        self._directory = Path(trace, JOURNAL_NAME)
        self._trace_id = trace_id
        self._segments: dict[str, _Segment] = {}
        self._damage: dict[str, list[str]] = {}

    @property
    def damage(self) -> list[str]:
        """Return what is missing or unreadable. In a stream that is being written the last batch may be incomplete."""
        return [words for stream in sorted(self._damage) for words in self._damage[stream]]

    def batches(self, stream: str, after_sequence: int = 0) -> Iterator[Batch]:
        """Yield the complete batches of stream "r" or "b" with a sequence above ``after_sequence``, in order.

        A sequence that jumps means that those between are lost. Call again, with the last sequence seen, for what has
        been written since.
        """
        damage = self._damage[stream] = []
        segments = self._in_order(stream, damage)
        reached = after_sequence
        for place, segment in enumerate(segments):
            following = segments[place + 1].first if place + 1 < len(segments) else None
            if following is not None and following <= after_sequence + 1:
                continue  # all of it is known
            for batch in self._read(segment, after_sequence, following, damage):
                if batch.sequence <= reached:
                    continue  # left over from a former use of the segment
                if batch.sequence > reached + 1:
                    damage.append(_missing(stream, reached + 1, batch.sequence - 1))
                reached = batch.sequence
                yield batch

    def segments_up_to(self, stream: str, sequence: int) -> list[int]:
        """Return the numbers of the segments whose batches all have a sequence of ``sequence`` or below.

        The last segment is never among them: it may still be written to.
        """
        segments = self._in_order(stream, [])
        followed = pairwise(segments)
        return [int(segment.name[1:-4]) for segment, after in followed if after.first <= sequence + 1]

    def _in_order(self, stream: str, damage: list[str]) -> list[_Segment]:
        """Return the segments in use, by the sequence of their first batch."""
        found = []
        try:
            names = sorted(name for name in os.listdir(self._directory) if _is_segment_of(stream, name))
        except OSError:
            return []
        for name in names:
            segment = self._first_of(name, damage)
            if segment is not None:
                found.append(segment)
        return sorted(found, key=lambda segment: segment.first)

    def _first_of(self, name: str, damage: list[str]) -> _Segment | None:
        """Look at the first batch of a segment; None where the segment is unused or not to be read."""
        path = self._directory / name
        try:
            with path.open("rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            damage.append(f"Journal segment {name} cannot be read: {error.strerror}.")
            return None
        header = BatchHeader.from_bytes(head)
        if header is None or header.trace_id != self._trace_id or not header.sequence:
            if any(head):
                damage.append(f"Journal segment {name} does not begin with a batch of this trace.")
            return None
        known = self._segments.get(name)
        if known is None or known.first != header.sequence:
            known = self._segments[name] = _Segment(name, path, header.sequence, header.sequence)
        return known

    def _read(self, segment: _Segment, after: int, following: int | None, damage: list[str]) -> Iterator[Batch]:
        """Yield the batches of a segment; go on from where the last call came to where ``after`` allows it."""
        if after + 1 < segment.next_sequence:
            segment.next_sequence, segment.offset = segment.first, 0
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(segment.path.open("rb", buffering=0)).fileno()
            except OSError:
                return  # removed since: its batches count as missing
            while following is None or segment.next_sequence < following:
                batch, span = self._batch_at(descriptor, segment, damage)
                if batch is None:
                    return
                segment.next_sequence += 1
                segment.offset += span
                if batch.sequence > after:
                    yield batch

    def _batch_at(self, descriptor: int, segment: _Segment, damage: list[str]) -> tuple[Batch | None, int]:
        """Return the batch that comes next in a segment and its span, or None where there is no complete one."""
        header = BatchHeader.from_bytes(read_at(descriptor, _HEAD, segment.offset))
        if header is None or header.trace_id != self._trace_id or header.sequence != segment.next_sequence:
            return None, 0
        payload = read_at(descriptor, header.length, segment.offset + _HEAD)
        if len(payload) != header.length or header.checksum(payload) != header.crc:
            damage.append(f"Journal segment {segment.name}: batch {header.sequence} is incomplete or damaged.")
            return None, 0
        return Batch(header.kind, header.sequence, header.t_ns, payload), header.span


def _is_segment_of(stream: str, name: str) -> bool:
    match = _NAME.fullmatch(name)
    return match is not None and match[1] == stream


def _missing(stream: str, first: int, last: int) -> str:
    if first == last:
        return f"Journal stream {stream}: batch {first} is missing."
    return f"Journal stream {stream}: batches {first} to {last} are missing."
