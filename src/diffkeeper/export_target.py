"""What an export writes to, whatever its form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from diffkeeper.errors import UsageError
from diffkeeper.model.answers import Entry
from diffkeeper.model.exported import Remark


class SkippedError(Exception):
    """Report why one entry is left out; the export goes on."""


class Target(Protocol):
    """Take entries one by one; entered before the first, which is when the place is made."""

    owners_left: int
    keeps_holes: bool  # False: they are written as zeros

    @property
    def place(self) -> str | None:
        """Return the path that is written to, None for a stream."""

    def know_top(self, entry: Entry) -> None:
        """Take note of what the place itself was."""

    def know_directory(self, entry: Entry) -> None:
        """Take note of a directory that may be needed above an entry."""

    def put(self, entry: Entry, chunks: Iterator[tuple[int, bytes]]) -> bool:
        """Write an entry; return False for another name of a file that was written. Raises SkippedError and OSError."""

    def finish(self) -> list[Remark]:
        """Write what can only be written at the end; return what could not be."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_name(path: bytes) -> None:
    """Raise SkippedError for a path that is not made of plain names below the place."""
    for name in path.split(b"/"):
        if name in (b"", b".", b"..") or b"\0" in name:
            raise SkippedError("it is no name for a file, and may lead out of the place of the export")


def check_place(out: str, force: bool) -> bool:
    """Return whether there is nothing at the place; raises UsageError if it cannot be used."""
    try:
        with os.scandir(out) as found:
            is_empty = next(found, None) is None
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UsageError(f"cannot export to {out!r}: {error.strerror}; name another directory with --out") from error
    if not is_empty and not force:
        raise UsageError(f"{out!r} is not empty: name another directory, or replace what is in the way with --force")
    return is_empty
