"""The checksum of batches and images is zlib's, however many bytes it is given at once."""

from __future__ import annotations

import ctypes
import random
import zlib
from pathlib import Path

import pytest

from diffkeeper.helper_start import LIBRARY

LENGTHS = (*range(0, 70), 255, 256, 257, 319, 320, 321, 4096, 65_537)


def test_it_is_zlib_s_by_tables_and_by_multiplication() -> None:
    if not Path(LIBRARY).exists():
        pytest.skip("there is no native library")
    library = ctypes.CDLL(LIBRARY)
    library.crc32_prepare()
    library.crc32_of.restype = ctypes.c_uint32
    library.crc32_of.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32]
    generator = random.Random(1)
    for length in LENGTHS:
        data = generator.randbytes(length)
        for former in (0, 1, 0xFFFF_FFFF):
            assert library.crc32_of(data, length, former) == zlib.crc32(data, former), (length, former)
