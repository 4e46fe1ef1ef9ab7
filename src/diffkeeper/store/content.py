"""Content by hash: blobs cut into chunks, each chunk stored once, small where another version of it is known.

A blob is an append-only stream of the bytes that one node received; events refer to it by number and position. Chunks
are at most CHUNK_BYTES, and shorter where a blob ended or had to be written early: the table of a blob has the lengths.
"""

from __future__ import annotations

import hashlib
import struct
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.promised import FIRST_PROMISED
from diffkeeper.model.values import dataclass
from diffkeeper.store import bsdiff, deltas
from diffkeeper.store.deltas import CHUNK_BYTES, Base
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore

if TYPE_CHECKING:
    from concurrent.futures import Executor

HELD_BYTES = 64 << 20  # of all open blobs together
WINDOW_BYTES = 16 << 20  # of one blob, held so that its end can name the version that it is a delta of
BATCH_BYTES = 4 << 20  # put at once
CACHED_BYTES = 24 << 20  # of decoded chunks, held by a reader
CACHED_ENTRIES = 200_000  # of blob tables, held by a reader
AHEAD_FROM = 4 << 20  # bytes; what is read at once of so much is decoded by threads
AHEAD_THREADS, AHEAD_CHUNKS = 2, 4

_NUMBER = struct.Struct(">Q")
_ENTRY = struct.Struct("<32sI")
_SMALL_TABLE_BYTES = 16 * _ENTRY.size


def chunk_key(digest: bytes) -> bytes:
    """Return the store's key of the chunk with this sha256."""
    return Key.CHUNK + digest


@dataclass(slots=True)
class Table:
    """Say where the chunks of a blob begin and what they are; ``starts`` has one number more, the blob's length."""

    starts: list[int] = field(default_factory=lambda: [0])
    digests: list[bytes] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Return the number of bytes that the blob has."""
        return self.starts[-1]

    def add(self, digest: bytes, length: int) -> None:
        """Append a chunk."""
        self.digests.append(digest)
        self.starts.append(self.starts[-1] + length)

    def read(self, part: bytes) -> None:
        """Append chunks as they are stored; raise DamagedTraceError where they are none."""
        if not part or len(part) % _ENTRY.size:
            raise DamagedTraceError("The table of a blob has a gap.")
        for digest, length in _ENTRY.iter_unpack(part):
            if not 0 < length <= CHUNK_BYTES:
                raise DamagedTraceError("The table of a blob is invalid.")
            self.add(digest, length)

    def chunks(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield where each chunk begins and ends, and its sha256."""
        return zip(self.starts, self.starts[1:], self.digests, strict=False)

    def entries(self, first: int) -> bytes:
        """Return the chunks from number ``first`` on as they are stored."""
        pairs = zip(self.digests[first:], self.starts[first:], self.starts[first + 1 :], strict=False)
        return b"".join(_ENTRY.pack(digest, end - start) for digest, start, end in pairs)


class _OpenBlob:
    """Hold the bytes of a blob that are not in the store yet: whole chunks, then a tail."""

    def __init__(self, number: int, likely_base: int = 0) -> None:
        self.number = number
        self.likely_base = likely_base  # for what must be stored before the end names the base
        self.table = Table()
        self.stored_entries = 0  # how many entries of the table are in the store
        self.chunks: deque[bytes] = deque()
        self.tail = bytearray()

    @property
    def held(self) -> int:
        """Return how many bytes are held in memory."""
        return len(self.chunks) * CHUNK_BYTES + len(self.tail)

    @property
    def length(self) -> int:
        """Return how many bytes the blob has, held and stored."""
        return self.table.length + self.held

    def append(self, data: bytes | memoryview) -> None:
        """Add ``data`` at the end."""
        view = memoryview(data)
        while view:
            room = CHUNK_BYTES - len(self.tail)
            self.tail += view[:room]
            view = view[room:]
            if len(self.tail) == CHUNK_BYTES:
                self.chunks.append(bytes(self.tail))
                self.tail.clear()

    def read_held(self, start: int, length: int) -> bytes:
        """Return bytes that are held, counted from the first of these."""
        end, at, parts = start + length, 0, list[bytes]()
        for chunk in (*self.chunks, bytes(self.tail)):
            parts.append(chunk[max(0, start - at) : max(0, end - at)])
            at += len(chunk)
        return b"".join(parts)

    def take(self, down_to: int = 0) -> Iterator[bytes]:
        """Yield and forget held bytes from the front, whole chunks first, until no more than ``down_to`` are held."""
        while self.chunks and self.held > down_to:
            yield self.chunks.popleft()
        if self.tail and self.held > down_to:
            tail = bytes(self.tail)
            self.tail.clear()
            yield tail


class ContentWriter:
    """Take the bytes of nodes and put them into the store as chunks (the model's BlobSink)."""

    def __init__(self, rocks: RocksStore, held_bytes: int | None = None, *, is_bounded: bool = False) -> None:
        """Hold no more than ``held_bytes`` of all open blobs together.

        In a store that ``is_bounded`` it is noted which chunk is a difference from which.
        """
        self._held_bytes = HELD_BYTES if held_bytes is None else held_bytes
        self._rocks = rocks
        self._is_bounded = is_bounded
        self._reader = ContentReader(rocks)
        self._open: dict[int, _OpenBlob] = {}
        self._large: dict[int, int] = {}  # the last blob of nodes whose blobs are larger than the window
        self._held = 0
        self._batch: dict[bytes, bytes] = {}
        self._batch_bytes = 0
        self._next_blob = _last_blob(rocks) + 1
        self.raw_bytes = 0  # given
        self.stored_bytes = 0  # put, after deduplication and encoding

    def append(self, node: int, data: bytes) -> tuple[int, int]:
        """Append ``data`` to the blob that ``node`` writes to now; return the blob and where in it the data begins."""
        blob = self._open_blob(node)
        start = blob.length
        blob.append(data)
        self._held += len(data)
        self.raw_bytes += len(data)
        if blob.held > WINDOW_BYTES:
            self._cut(blob, down_to=WINDOW_BYTES // 2)
        while self._held > self._held_bytes:
            self._cut(max(self._open.values(), key=lambda each: each.held))
        return blob.number, start

    def can_take(self, lengths: Mapping[int, int]) -> bool:
        """Say whether it makes no difference to append so many bytes to each node, one node after the other.

        It does where something must be stored before its time: what is stored first may be the base of the rest.
        """
        if self._held + sum(lengths.values()) > self._held_bytes:
            return False
        return len(lengths) == 1 or not any(self._would_cut(node, length) for node, length in lengths.items())

    def _would_cut(self, node: int, length: int) -> bool:
        blob = self._open.get(node)
        likely_base = self._large.get(node, 0) if blob is None else blob.likely_base
        return bool(likely_base) and length + (blob.held if blob is not None else 0) > WINDOW_BYTES

    def append_many(self, node: int, data: Sequence[int], ends: Sequence[int]) -> tuple[int, int]:
        """Append pieces, which end in ``data`` (bytes) at ``ends``, as ``append`` would one after the other."""
        blob = self._open_blob(node)
        start, at, view = blob.length, 0, memoryview(data)  # type: ignore[arg-type]  # a buffer
        while at < len(view):
            first_beyond = bisect_right(ends, at + WINDOW_BYTES - blob.held)
            until = ends[first_beyond] if first_beyond < len(ends) else len(view)
            blob.append(view[at:until])
            self._held += until - at
            if blob.held > WINDOW_BYTES:
                self._cut(blob, down_to=WINDOW_BYTES // 2)
            at = until
        self.raw_bytes += len(view)
        return blob.number, start

    def _open_blob(self, node: int) -> _OpenBlob:
        blob = self._open.get(node)
        if blob is None:
            blob = self._open[node] = _OpenBlob(self._take_number(), self._large.get(node, 0))
        return blob

    def peek(self, blob: int, start: int, length: int) -> bytes | None:
        """Return bytes of a blob, be it open or stored; None where they cannot be read."""
        opened = next((each for each in self._open.values() if each.number == blob), None)
        self._put_batch()
        try:
            if opened is None:
                return self._reader.read(blob, start, length)
            stored = opened.table.length
            held = opened.read_held(max(0, start - stored), length - max(0, stored - start))
            if start >= stored:
                return held
            return self._of_chunks(opened.table, start, min(length, stored - start)) + held
        except DamagedTraceError:
            return None

    def _of_chunks(self, table: Table, start: int, length: int) -> bytes:
        index, parts, end = bisect_right(table.starts, start) - 1, list[bytes](), start + length
        while start < end:
            base = table.starts[index]
            parts.append(self._reader.chunk(table.digests[index])[start - base : end - base])
            index += 1
            start = table.starts[index]
        return b"".join(parts)

    def end(self, node: int, base_blob: int = 0, is_executable: bool = False) -> None:
        """End the blob that ``node`` writes to; ``base_blob`` is the version of the file that it replaces, 0 for none.

        With ``is_executable`` improve() may later look for a better delta.
        """
        blob = self._open.pop(node, None)
        if blob is not None:
            self._cut(blob, base_blob=base_blob, is_executable=is_executable)
            self._put_table(blob)
            if blob.length > WINDOW_BYTES:
                self._large[node] = blob.number

    @property
    def open_blobs(self) -> set[int]:
        """Return the blobs that may still grow."""
        return {blob.number for blob in self._open.values()}

    def split(self, at_least: int) -> None:
        """End blobs of ``at_least`` so many stored bytes; what follows comes in new ones, so that old ones can go."""
        for node, blob in list(self._open.items()):
            if blob.table.length >= at_least:
                del self._open[node]
                self._cut(blob)
                self._put_table(blob)

    def has_chunk(self, digest: bytes) -> bool:
        """Say whether the chunk with this sha256 is stored."""
        key = chunk_key(digest)
        return key in self._batch or self._rocks.contains(key)

    def put_chunk(self, digest: bytes, encoded: bytes) -> None:
        """Store a chunk that deltas.encode has encoded elsewhere, where it is not stored yet."""
        if not self.has_chunk(digest):
            self._put(chunk_key(digest), encoded)

    def has(self, blob: int) -> bool:
        """Say whether anything of a blob is stored or about to be."""
        key = Key.BLOB + _NUMBER.pack(blob) + _NUMBER.pack(0)
        return key in self._batch or self._rocks.contains(key)

    def new_blob_of_chunks(self, chunks: Iterable[tuple[bytes, int]], number: int = 0) -> int:
        """Return the number of a new blob of stored chunks, given as (sha256, length); 0 if there are none.

        ``number`` is that of a promised blob, which is kept with this.
        """
        blob = _OpenBlob(0)
        for digest, length in chunks:
            blob.table.add(digest, length)
        if not blob.table.length:
            return 0
        blob.number = number or self._take_number()
        self._put_table(blob)
        return blob.number

    def flush(self) -> None:
        """Hand all that was appended to the store, so that events may refer to it; the store's own flush comes next."""
        for blob in self._open.values():
            self._cut(blob)
            self._put_table(blob)
        self._put_batch()

    def improve(self, seconds: float, seconds_each: float = 5.0) -> int:
        """Encode executables anew with bsdiff where that is smaller, for about ``seconds``; return the bytes saved.

        For packing: no recording waits for it (docs/decisions/0011). Only deltas are replaced, and by a delta of the
        same base, so that chains of bases stay as they are: without it two chunks could become each other's base.
        """
        self._put_batch()
        deadline = time.monotonic() + seconds
        saved, done = 0, []
        for key, _ in self._rocks.scan(Key.IMPROVE):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            saved += self._improve_chunk(key[len(Key.IMPROVE) :], min(left, seconds_each))
            done.append(key)
        self._rocks.delete_many(done)
        return saved

    def _improve_chunk(self, digest: bytes, seconds: float) -> int:
        value = self._rocks.get(chunk_key(digest))
        if value is None:
            return 0
        old = deltas.parse(value)
        if old.encoding != deltas.PREFIX:
            return 0
        raw, base = self._reader.chunk(digest), Base(old.base, self._reader.chunk(old.base), old.depth - 1)
        patch = bsdiff.make_patch(base.raw, raw, seconds)
        better = deltas.encode_patch(raw, base, patch) if patch else value
        if len(better) >= len(value) or deltas.decode(deltas.parse(better), base.raw) != raw:
            return 0
        self._rocks.put_many([(chunk_key(digest), better)])
        return len(value) - len(better)

    def _take_number(self) -> int:
        self._next_blob += 1
        return self._next_blob - 1

    def _cut(self, blob: _OpenBlob, base_blob: int = 0, is_executable: bool = False, down_to: int = 0) -> None:
        """Store the bytes that ``blob`` holds beyond ``down_to``."""
        for raw in blob.take(down_to):
            digest = hashlib.sha256(raw).digest()
            if not self.has_chunk(digest):
                base = self._base(base_blob or blob.likely_base, blob.table.length)
                self._put_new(digest, raw, base, is_executable)
            blob.table.add(digest, len(raw))
            self._held -= len(raw)

    def _put_new(self, digest: bytes, raw: bytes, base: Base | None, is_executable: bool) -> None:
        value = deltas.encode(raw, base)
        self._put(chunk_key(digest), value)
        if self._is_bounded and value[0] == deltas.PREFIX:
            self._put(Key.BASE + digest, deltas.parse(value).base)
        if is_executable and value[0] == deltas.PREFIX and bsdiff.is_executable(raw):
            self._put(Key.IMPROVE + digest, b"")

    def _base(self, blob: int, position: int) -> Base | None:
        """Return the chunk of ``blob`` at ``position``, or its last one, for others to be encoded against."""
        if not blob:
            return None
        self._put_batch()  # the base may be waiting there
        try:
            table = self._reader.table(blob)
            digest = table.digests[min(bisect_right(table.starts, position), len(table.digests)) - 1]
            return self._reader.base(digest)
        except DamagedTraceError:
            return None  # a delta is a saving, not a duty

    def _put_table(self, blob: _OpenBlob) -> None:
        first, last = blob.stored_entries, len(blob.table.digests)
        while first < last:
            part = blob.table.entries(first)[: CHUNK_BYTES // _ENTRY.size * _ENTRY.size]
            self._put(Key.BLOB + _NUMBER.pack(blob.number) + _NUMBER.pack(blob.table.starts[first]), part)
            first += len(part) // _ENTRY.size
        blob.stored_entries = last

    def _put(self, key: bytes, value: bytes) -> None:
        self._batch[key] = value
        self._batch_bytes += len(key) + len(value)
        self.stored_bytes += len(key) + len(value)
        if self._batch_bytes > BATCH_BYTES:
            self._put_batch()

    def _put_batch(self) -> None:
        if self._batch:
            self._rocks.put_many(self._batch.items())
            self._batch.clear()
            self._batch_bytes = 0


def _last_blob(rocks: RocksStore) -> int:
    item = rocks.last(Key.BLOB, at_most=Key.BLOB + _NUMBER.pack(FIRST_PROMISED))
    return _NUMBER.unpack_from(item[0], len(Key.BLOB))[0] if item else 0


class ContentReader:
    """Read the bytes of blobs; every chunk is checked against its sha256 and its limits before it is believed."""

    def __init__(self, rocks: RocksStore) -> None:
        self._rocks = rocks
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self._chunk_bytes = 0
        self._tables: OrderedDict[int, Table] = OrderedDict()
        self._table_entries = 0

    def read(self, blob: int, start: int, length: int) -> bytes:
        """Return ``length`` bytes of ``blob`` from ``start`` on; raise DamagedTraceError where not all are there."""
        return b"".join(self.stream(blob, start, length))

    def stream(self, blob: int, start: int, length: int) -> Iterator[bytes]:
        """Yield the same bytes in pieces of at most CHUNK_BYTES."""
        table = self._table_reaching(blob, start + length)
        if start < 0 or length < 0 or start + length > table.length:
            raise DamagedTraceError(
                f"Blob {blob} has {table.length} bytes, not those from {start} to {start + length}."
            )
        end, index = start + length, bisect_right(table.starts, start) - 1
        digests = table.digests[index : bisect_left(table.starts, end)]
        for piece in self._ahead(digests) if length >= AHEAD_FROM else map(self.chunk, digests):
            base = table.starts[index]
            if len(piece) != table.starts[index + 1] - base:
                raise DamagedTraceError(f"A chunk of blob {blob} has not the length that its table says.")
            yield piece[start - base : end - base]
            index += 1
            start = table.starts[index]

    def _ahead(self, digests: Iterable[bytes]) -> Iterator[bytes]:
        """Yield chunks that threads have decoded and checked, which lets go of the GIL, while earlier ones are used."""
        from concurrent.futures import ThreadPoolExecutor  # only for large files

        waiting: deque[Callable[[], bytes]] = deque()
        with ThreadPoolExecutor(AHEAD_THREADS) as pool:
            for digest in digests:
                waiting.append(self._begun(pool, digest))
                if len(waiting) > AHEAD_CHUNKS:
                    yield waiting.popleft()()
            while waiting:
                yield waiting.popleft()()

    def _begun(self, pool: Executor, digest: bytes) -> Callable[[], bytes]:
        """Begin to decode a chunk; return what waits for it. One that needs another chunk is decoded then."""
        encoded = None if digest in self._chunks else self._encoded(digest)
        if encoded is None or encoded.base:
            return partial(self.chunk, digest)
        return pool.submit(_decoded, digest, encoded, b"").result

    def has(self, blob: int) -> bool:
        """Say whether anything of ``blob`` is in the store."""
        return blob in self._tables or self._rocks.contains(Key.BLOB + _NUMBER.pack(blob) + _NUMBER.pack(0))

    def length(self, blob: int) -> int:
        """Return how many bytes ``blob`` has in the store."""
        return self.table(blob).length

    def _table_reaching(self, blob: int, end: int) -> Table:
        """Return the table of ``blob``, read anew where the one known does not reach ``end``: a blob may have grown."""
        known = self._tables.get(blob)
        if known is not None and known.length < end:
            self._forget_table(blob)
        elif known is None and end <= CHUNK_BYTES:
            return self._small_table(blob, end) or self.table(blob)
        return self.table(blob)

    def _small_table(self, blob: int, end: int) -> Table | None:
        """Return the beginning of a table if that reaches ``end``: for a small file one look-up in place of a scan."""
        first = self._rocks.get(Key.BLOB + _NUMBER.pack(blob) + bytes(8)) if 0 < blob < 1 << 64 else None
        if first is None or not 0 < len(first) <= _SMALL_TABLE_BYTES or len(first) % _ENTRY.size:
            return None
        table = Table()
        for digest, length in _ENTRY.iter_unpack(first):
            table.add(digest, length)
        return table if table.length >= end and min(map(int.__sub__, table.starts[1:], table.starts)) > 0 else None

    def table(self, blob: int) -> Table:
        """Return where the chunks of ``blob`` are; raise DamagedTraceError where that is not known."""
        table = self._tables.get(blob)
        if table is None:
            table = self._read_table(blob)
            self._tables[blob] = table
            self._table_entries += len(table.digests) + 1
            while self._table_entries > CACHED_ENTRIES and len(self._tables) > 1:
                self._forget_table(next(iter(self._tables)))
        self._tables.move_to_end(blob)
        return table

    def _forget_table(self, blob: int) -> None:
        self._table_entries -= len(self._tables.pop(blob).digests) + 1

    def _read_table(self, blob: int) -> Table:
        if not 0 < blob < 1 << 64:
            raise DamagedTraceError(f"There is no blob {blob}.")
        table, prefix = Table(), Key.BLOB + _NUMBER.pack(blob)
        for key, part in self._rocks.scan(prefix):
            if key[len(prefix) :] != _NUMBER.pack(table.length) or not part or len(part) % _ENTRY.size:
                raise DamagedTraceError(f"The table of blob {blob} has a gap.")
            for digest, length in _ENTRY.iter_unpack(part):
                if not 0 < length <= CHUNK_BYTES:
                    raise DamagedTraceError(f"The table of blob {blob} is invalid.")
                table.add(digest, length)
        if not table.digests:
            raise DamagedTraceError(f"Blob {blob} is missing.")
        return table

    def base(self, digest: bytes) -> Base:
        """Return a chunk as a base to encode others against."""
        return Base(digest, self.chunk(digest), self._encoded(digest).depth)

    def chunk(self, digest: bytes) -> bytes:
        """Return the bytes with this sha256; raise DamagedTraceError naming it where they cannot be had."""
        chain = [digest]
        encoded = []
        while chain[-1] not in self._chunks:
            encoded.append(self._encoded(chain[-1]))
            if not encoded[-1].base:
                break
            if len(encoded) > deltas.MAX_DEPTH:
                raise _unreadable(digest, "its chain of bases is too long")
            chain.append(encoded[-1].base)
        else:
            self._chunks.move_to_end(chain[-1])
        raw = self._chunks.get(chain[-1], b"")
        for name, value in zip(reversed(chain[: len(encoded)]), reversed(encoded), strict=True):
            raw = _decoded(name, value, raw)
            self._remember(name, raw)
        return raw

    def _encoded(self, digest: bytes) -> deltas.Encoded:
        value = self._rocks.get(chunk_key(digest))
        if value is None:
            raise _unreadable(digest, "it is missing")
        try:
            return deltas.parse(value)
        except DamagedTraceError as error:
            raise _unreadable(digest, str(error)) from error

    def _remember(self, digest: bytes, raw: bytes) -> None:
        self._chunks[digest] = raw
        self._chunk_bytes += len(raw) + 100
        while self._chunk_bytes > CACHED_BYTES:
            _, old = self._chunks.popitem(last=False)
            self._chunk_bytes -= len(old) + 100


def _decoded(digest: bytes, encoded: deltas.Encoded, base: bytes) -> bytes:
    try:
        raw = deltas.decode(encoded, base)
    except DamagedTraceError as error:
        raise _unreadable(digest, str(error)) from error
    if hashlib.sha256(raw).digest() != digest:
        raise _unreadable(digest, "its bytes are not those that were stored")
    return raw


def _unreadable(digest: bytes, why: str) -> DamagedTraceError:
    return DamagedTraceError(f"Content {digest.hex()} cannot be read: {why.rstrip('.')}.")
