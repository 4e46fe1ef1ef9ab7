"""Zstandard: the standard library's (Python 3.14) or its backport, with decompression that is bounded."""

from __future__ import annotations

import sys

from diffkeeper.errors import DamagedTraceError

if sys.version_info >= (3, 14):  # pragma: no cover
    from compression.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdDict,
        ZstdError,
    )
else:
    from backports.zstd import (
        CompressionParameter,
        DecompressionParameter,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdDict,
        ZstdError,
    )

LEVEL = 1
MAX_WINDOW_LOG = 23  # what a reader accepts: 8 MiB, whatever a frame from a stranger asks for

# At level 1 the match finder forgets a prefix beyond some 100 kB: there only long-distance matching finds it again.
LONG_DISTANCE_FROM = 1 << 16
MIN_PREFIX_BYTES = 8  # zstd takes no shorter one

_READ_OPTIONS: dict[int, int] = {DecompressionParameter.window_log_max: MAX_WINDOW_LOG}


def compress(data: bytes, level: int = LEVEL) -> bytes:
    """Return ``data`` as one frame."""
    return ZstdCompressor(level=level).compress(data, ZstdCompressor.FLUSH_FRAME)


def compress_after(data: bytes, prefix: bytes) -> bytes:
    """Return ``data`` as one frame that refers to ``prefix``, of at least MIN_PREFIX_BYTES (the version before it)."""
    span = len(prefix) + len(data)
    options: dict[int, int] = {
        CompressionParameter.compression_level: LEVEL,
        CompressionParameter.window_log: max(10, span.bit_length()),
        CompressionParameter.enable_long_distance_matching: int(span >= LONG_DISTANCE_FROM),
    }
    dictionary = ZstdDict(prefix, is_raw=True)
    compressor = ZstdCompressor(options=options, zstd_dict=dictionary.as_prefix)
    return compressor.compress(data, ZstdCompressor.FLUSH_FRAME)


def decompress(frame: bytes, limit: int, prefix: bytes = b"") -> bytes:
    """Return what ``frame`` holds; raise DamagedTraceError unless it is one whole frame of at most ``limit`` bytes."""
    if 0 < len(prefix) < MIN_PREFIX_BYTES:
        raise DamagedTraceError("Compressed data refers to a prefix that is too short.")
    dictionary = ZstdDict(prefix, is_raw=True).as_prefix if prefix else None
    decompressor = ZstdDecompressor(zstd_dict=dictionary, options=_READ_OPTIONS)
    try:
        data = decompressor.decompress(frame, max_length=limit + 1)
    except ZstdError as error:
        raise DamagedTraceError(f"Compressed data cannot be read ({error}).") from error
    if len(data) > limit or not decompressor.eof or decompressor.unused_data:
        raise DamagedTraceError("Compressed data has not the length that it should have.")
    return data
