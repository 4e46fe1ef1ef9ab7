"""How one chunk of content is encoded: as it is, compressed, or as a difference from another chunk.

    value of a chunk, little endian:
    u8 encoding | u8 depth | u32 raw length | 32 bytes sha256 of the base (encodings 2 and 3) | body
      0 raw     the bytes
      1 zstd    one frame
      2 prefix  one frame that refers to the base as its prefix
      3 bsdiff  one frame that holds a bsdiff patch of the base (bsdiff.py)
    depth: 0 for encodings 0 and 1, else one more than the base's. A chunk of depth MAX_DEPTH is nobody's base.

Encoding is free of state, so that many threads may do it at once: compression lets go of the GIL.
"""

from __future__ import annotations

import struct

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.values import dataclass
from diffkeeper.store import bsdiff, zstd

CHUNK_BYTES = 1 << 20
MAX_DEPTH = 8

RAW, ZSTD, PREFIX, BSDIFF = range(4)
_HEADER = struct.Struct("<BBI")
_HASH_BYTES = 32

# Below this a frame's own header and the 32 bytes that name a base eat what compression saves.
_WORTH_COMPRESSING = 48
_WORTH_A_BASE = 128
_MAX_PATCH_BYTES = 3 * CHUNK_BYTES  # control, differences and extra bytes of a patch for one chunk


@dataclass(frozen=True, slots=True)
class Encoded:
    """Hold one chunk's value taken apart; ``base`` is empty where the encoding needs none."""

    encoding: int
    depth: int
    raw_length: int
    base: bytes
    body: bytes

    def to_bytes(self) -> bytes:
        """Return the value as it is stored."""
        return _HEADER.pack(self.encoding, self.depth, self.raw_length) + self.base + self.body


@dataclass(frozen=True, slots=True)
class Base:
    """Hold a chunk that others may be encoded against: its sha256, its bytes and its own depth."""

    digest: bytes
    raw: bytes
    depth: int


def encode(raw: bytes, base: Base | None = None) -> bytes:
    """Return the smallest quick encoding of ``raw``, against ``base`` where that is given and pays."""
    alone = _alone(raw)
    if base is None or base.depth >= MAX_DEPTH or min(len(raw), len(base.raw)) < _WORTH_A_BASE:
        return alone
    frame = zstd.compress_after(raw, base.raw)
    delta = Encoded(PREFIX, base.depth + 1, len(raw), base.digest, frame).to_bytes()
    # A delta costs every reader a chain of reads: it has to save something.
    return delta if len(delta) * 10 < len(alone) * 9 else alone


def _alone(raw: bytes) -> bytes:
    if len(raw) >= _WORTH_COMPRESSING:
        frame = zstd.compress(raw)
        if len(frame) < len(raw):
            return Encoded(ZSTD, 0, len(raw), b"", frame).to_bytes()
    return Encoded(RAW, 0, len(raw), b"", raw).to_bytes()


def encode_patch(raw: bytes, base: Base, patch: bytes) -> bytes:
    """Return the encoding of ``raw`` as ``patch``, made by bsdiff.make_patch of the base."""
    body = zstd.compress(patch, level=19)
    return Encoded(BSDIFF, base.depth + 1, len(raw), base.digest, body).to_bytes()


def parse(value: bytes) -> Encoded:
    """Take a stored value apart; raise DamagedTraceError where it is none."""
    if len(value) < _HEADER.size:
        raise DamagedTraceError("A chunk of content is cut short.")
    encoding, depth, raw_length = _HEADER.unpack_from(value)
    needs_base = encoding in (PREFIX, BSDIFF)
    end = _HEADER.size + (_HASH_BYTES if needs_base else 0)
    if encoding > BSDIFF or raw_length > CHUNK_BYTES or len(value) < end:
        raise DamagedTraceError("A chunk of content has an invalid header.")
    if depth > MAX_DEPTH or (depth > 0) != needs_base:
        raise DamagedTraceError("A chunk of content has an invalid depth.")
    return Encoded(encoding, depth, raw_length, value[_HEADER.size : end], value[end:])


def decode(encoded: Encoded, base: bytes = b"") -> bytes:
    """Return the bytes of a chunk, given those of its base; raise DamagedTraceError where they cannot be had."""
    raw = _decode(encoded, base)
    if len(raw) != encoded.raw_length:
        raise DamagedTraceError("A chunk of content has not the length that its header says.")
    return raw


def _decode(encoded: Encoded, base: bytes) -> bytes:
    if encoded.encoding == RAW:
        return encoded.body
    if encoded.encoding == BSDIFF:
        patch = zstd.decompress(encoded.body, _MAX_PATCH_BYTES)
        return bsdiff.apply_patch(base, patch, encoded.raw_length)
    return zstd.decompress(encoded.body, encoded.raw_length, base if encoded.encoding == PREFIX else b"")
