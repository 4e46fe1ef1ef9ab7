"""A tree → a tar in pax format: names of any bytes, times to the nanosecond, xattrs, hard links. Holes become zeros."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Self

from diffkeeper.errors import TraceError, UsageError
from diffkeeper.export_target import SkippedError
from diffkeeper.model.answers import Entry
from diffkeeper.model.exported import Remark

Chunks = Iterator[tuple[int, bytes]]

_TYPES = {
    "f": tarfile.REGTYPE,
    "d": tarfile.DIRTYPE,
    "l": tarfile.SYMTYPE,
    "p": tarfile.FIFOTYPE,
    "c": tarfile.CHRTYPE,
    "b": tarfile.BLKTYPE,
}


class Tar:
    """Write entries to a tar file or stream."""

    keeps_holes = False

    def __init__(self, out: str | None, stream: BinaryIO | None, *, force: bool = False) -> None:
        """Check the place without touching it; raises UsageError if something is there and not ``force``."""
        self.owners_left = 0
        self._out = out
        self._stream = stream
        self._known: dict[bytes, Entry] = {}
        self._put: set[bytes] = set()
        self._names: dict[int, bytes] = {}
        self._remarks: list[Remark] = []
        if out is not None and os.path.lexists(out) and not force:
            raise UsageError(f"{out!r} exists: name another file, or replace it with --force")

    def __enter__(self) -> Self:
        """Open the file; a symlink that stands at its name is replaced, not followed."""
        if self._out is not None:
            self._stream = _made_anew(self._out)
        assert self._stream is not None
        self._tar = tarfile.open(fileobj=self._stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the tar; one that was not finished is removed."""
        if error is None:
            self._tar.close()
        if self._out is not None and self._stream is not None:
            self._stream.close()
            if error is not None:
                with contextlib.suppress(OSError):
                    os.unlink(self._out)

    @property
    def place(self) -> str | None:
        """Return the path of the file, None for a stream."""
        return self._out

    def know_top(self, entry: Entry) -> None:
        """Do nothing: unpacking is done into a folder that is there."""

    def know_directory(self, entry: Entry) -> None:
        """Take note of a directory that may be needed above an entry."""
        self._known[entry.path] = entry

    def put(self, entry: Entry, chunks: Chunks) -> bool:
        """Write an entry, after the directories above it; return False if it is another name of a written file."""
        self._put_above(entry.path)
        if entry.path in self._put:
            return True
        self._put.add(entry.path)
        member = _member(entry)
        first = self._names.get(entry.links) if entry.meta.nlink > 1 and entry.kind == "f" else None
        if first is not None:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, _text(first), 0
            self._tar.addfile(member)
            return False
        reader = _Reader(chunks, entry.size)
        self._tar.addfile(member, reader if entry.kind == "f" else None)
        if reader.failure:
            self._remarks.append(Remark(entry.path, f"{reader.failure}; what follows reads as zeros"))
        if entry.meta.nlink > 1:
            self._names[entry.links] = entry.path
        return True

    def finish(self) -> list[Remark]:
        """Write nothing more; all attributes stand with their entries."""
        return self._remarks

    def _put_above(self, path: bytes) -> None:
        for at, byte in enumerate(path):
            above = path[:at]
            if byte == ord("/") and above not in self._put and above in self._known:
                self._put.add(above)
                self._tar.addfile(_member(self._known[above]))


class _Reader(io.RawIOBase):
    """Read chunks and holes as one stream of ``size`` bytes, whatever happens: the header that says so is written."""

    def __init__(self, chunks: Chunks, size: int) -> None:
        self.failure = ""
        self._pieces = self._filled(chunks, size)
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; fewer only at the end."""
        parts: list[bytes] = []
        wanted = size
        while wanted > 0:
            if not self._left:
                self._left = next(self._pieces, b"")
                if not self._left:
                    break
            parts.append(self._left[:wanted])
            self._left = self._left[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)

    def _filled(self, chunks: Chunks, size: int) -> Iterator[bytes]:
        at = 0
        try:
            for offset, data in chunks:
                yield from _zeros(offset - at)
                yield data
                at = offset + len(data)
        except TraceError as error:
            self.failure = str(error)
        yield from _zeros(size - at)


def _zeros(count: int) -> Iterator[bytes]:
    block = bytes(1 << 16)
    while count > 0:
        yield block[:count]
        count -= len(block)


def _member(entry: Entry) -> tarfile.TarInfo:
    if entry.kind not in _TYPES:
        raise SkippedError("a tar cannot hold sockets")
    if entry.size < 0:
        raise SkippedError(f"no file has a size of {entry.size} bytes")
    meta = entry.meta
    member = tarfile.TarInfo(_text(entry.path))
    member.type = _TYPES[entry.kind]
    member.mode, member.uid, member.gid = stat.S_IMODE(meta.mode), meta.uid, meta.gid
    member.size = entry.size if entry.kind == "f" else 0
    member.linkname = _text(entry.target) if entry.kind == "l" else ""
    member.devmajor, member.devminor = meta.rdev >> 20, meta.rdev & 0xFFFFF
    seconds, fraction = divmod(abs(meta.mtime_ns), 1_000_000_000)
    member.pax_headers = {"mtime": f"{'-' if meta.mtime_ns < 0 else ''}{seconds}.{fraction:09d}"}
    for name, value in entry.xattrs.items():
        member.pax_headers[f"SCHILY.xattr.{_text(name)}"] = _text(value)
    return member


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")  # tarfile encodes it back in the same way


def _made_anew(out: str) -> BinaryIO:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(out)
        return open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise UsageError(f"cannot export to {out!r}: {error.strerror}; name another file with --out") from error
