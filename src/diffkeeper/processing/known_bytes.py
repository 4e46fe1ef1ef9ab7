"""The bytes of a trace: from its store, and those that were promised and never came from a base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from diffkeeper.base import Base
from diffkeeper.errors import UnknownContentError
from diffkeeper.model.promised import is_promised

_PIECE_BYTES = 1 << 20


class Stored(Protocol):
    """Give stored bytes; store/content.py's ContentReader is one."""

    def read(self, blob: int, start: int, length: int) -> bytes:
        """Return ``length`` bytes of a blob; raises DamagedTraceError."""

    def stream(self, blob: int, start: int, length: int) -> Iterator[bytes]:
        """Yield the same bytes in pieces of at most 1 MiB."""

    def has(self, blob: int) -> bool:
        """Say whether the store has a blob."""


class Bytes:
    """Read blobs, wherever their bytes are."""

    def __init__(self, stored: Stored, base: Base) -> None:
        """Read promised blobs that are not ``stored`` from the files of ``base``."""
        self.base = base
        self._stored = stored
        self._is_stored: dict[int, bool] = {}  # of promised blobs
        self.check_time: Callable[[], None] = lambda: None  # called before each reading
        self.from_base: set[int] = set()  # promised blobs that were read from the base

    def read(self, blob: int, start: int, length: int) -> bytes:
        """Return bytes of a blob; raises DamagedTraceError, or UnknownContentError for a promise nobody can keep."""
        self.check_time()
        if not is_promised(blob) or self._stores(blob):
            return self._stored.read(blob, start, length)
        data = self.base.read(blob, start, length)
        if data is None:
            raise UnknownContentError("its bytes from before the command are neither in the trace nor in the base")
        self.from_base.add(blob)
        return data

    def stream(self, blob: int, start: int, length: int) -> Iterator[bytes]:
        """Yield the same bytes in pieces of at most 1 MiB; raises as ``read`` does."""
        if not is_promised(blob) or self._stores(blob):
            yield from self._stored.stream(blob, start, length)
            return
        for done in range(0, length, _PIECE_BYTES):
            yield self.read(blob, start + done, min(_PIECE_BYTES, length - done))

    def has(self, blob: int) -> bool:
        """Say whether the bytes of a promised blob can be had."""
        return self._stores(blob) or self.base.has(blob)

    def _stores(self, blob: int) -> bool:
        known = self._is_stored.get(blob)
        if known is None:
            known = self._is_stored[blob] = self._stored.has(blob)
        return known
