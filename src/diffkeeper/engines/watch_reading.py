"""Read the bytes of a file that may have changed, and yield those that are new.

Digests of blocks are remembered, so that of a large file only the blocks that changed are stored again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

from diffkeeper.model.observation import Read

BLOCK_BYTES = 1 << 16
_MOST_AT_ONCE = 16 * BLOCK_BYTES
_DIGEST_BYTES = 16
_FLAGS = os.O_RDONLY
for _name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
    _FLAGS |= getattr(os, _name, 0)
_NOATIME = getattr(os, "O_NOATIME", 0)


class Reading:
    """Read one open file against the digests that are known of it; a context manager."""

    def __init__(self, path: bytes, known: bytes | None) -> None:
        """Open the file; raise OSError."""
        self._fd = _open(path)
        self.status = os.fstat(self._fd)
        self._known = known
        self.size = self.status.st_size  # of what was read
        self.blocks = b""
        self.read = Read.WHOLE if known is None or self.status.st_size <= BLOCK_BYTES else Read.EXTENTS
        self._is_sparse = (
            hasattr(os, "SEEK_DATA")
            and getattr(self.status, "st_blocks", 1 << 62) * 512 < self.status.st_size - BLOCK_BYTES
        )
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            raise FileNotFoundError("it is no regular file any more")

    def __enter__(self) -> Reading:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of what is new; afterwards ``read`` says what they mean. Raises OSError."""
        if self._is_sparse:
            self.read = Read.WHOLE
            yield from self._data()
            return
        first = _read(self._fd, _MOST_AT_ONCE)
        if len(first) <= BLOCK_BYTES:
            self.size = len(first)
            self.blocks = _digest(first) if first else b""
            if self.blocks == self._known:
                self.read = Read.AS_KNOWN
            elif first:
                self.read = Read.WHOLE
                yield 0, first
            return
        yield from self._changed(first)

    def _changed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at, is_news, digests = 0, False, []
        known = self._known
        while data:
            new = [_digest(data[begin : begin + BLOCK_BYTES]) for begin in range(0, len(data), BLOCK_BYTES)]
            for begin, end in _runs(new, known, at // BLOCK_BYTES):
                is_news = True
                yield at + begin * BLOCK_BYTES, data[begin * BLOCK_BYTES : end * BLOCK_BYTES]
            digests += new
            at += len(data)
            data = _read(self._fd, _MOST_AT_ONCE)
        self.size = at
        self.blocks = b"".join(digests)
        if known is not None:
            self.read = Read.EXTENTS if is_news or len(known) != len(self.blocks) else Read.AS_KNOWN

    def _data(self) -> Iterator[tuple[int, bytes]]:
        """Yield what is no hole; digests of holes would be of no use."""
        at = 0
        while True:
            try:
                at = os.lseek(self._fd, at, os.SEEK_DATA)
                end = os.lseek(self._fd, at, os.SEEK_HOLE)
            except OSError:  # ENXIO: no more data
                return
            os.lseek(self._fd, at, os.SEEK_SET)
            while at < end:
                data = os.read(self._fd, min(_MOST_AT_ONCE, end - at))
                if not data:
                    return
                yield at, data
                at += len(data)

    def was_disturbed(self) -> bool:
        """Say whether the file changed while it was read."""
        now = os.fstat(self._fd)
        before = self.status
        return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (
            before.st_size, before.st_mtime_ns, before.st_ctime_ns,
        )  # fmt: skip

    @property
    def digests(self) -> bytes | None:
        """Return what to hold the next reading against."""
        return None if self._is_sparse else self.blocks


def _runs(new: list[bytes], known: bytes | None, first: int) -> Iterator[tuple[int, int]]:
    """Yield [begin, end) of the blocks that differ from what is known, which begins at block ``first``."""
    begin = -1
    for index, digest in enumerate(new):
        place = (first + index) * _DIGEST_BYTES
        is_same = known is not None and known[place : place + _DIGEST_BYTES] == digest
        if is_same and begin >= 0:
            yield begin, index
            begin = -1
        elif not is_same and begin < 0:
            begin = index
    if begin >= 0:
        yield begin, len(new)


def _open(path: bytes) -> int:
    try:
        return os.open(path, _FLAGS | _NOATIME)
    except PermissionError:
        return os.open(path, _FLAGS)


def _read(fd: int, length: int) -> bytes:
    """Read ``length`` bytes, or all up to the end of the file."""
    data = os.read(fd, length)
    if not data or len(data) == length:
        return data
    parts = [data]
    left = length - len(data)
    while left:
        data = os.read(fd, left)
        if not data:
            break
        parts.append(data)
        left -= len(data)
    return b"".join(parts)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
