"""Settle against the file where the bytes of a write went, when others moved the position that it was to use.

The kernel tells the first place where they may stand (where the position was when the call began), the last one (where
it ended), and what the file held from the one to the other when the call returned. If the bytes stand there exactly
once, that is where they went.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from diffkeeper.model.observation import DataWritten, EntryRead, Flag, LateData


def placed(seen: DataWritten, readings: Iterable[LateData | EntryRead]) -> DataWritten:
    """Return the write with its place, or as it is where the file does not tell."""
    begin = seen.offset - seen.slack
    (text, _), data = joined(begin, readings), _whole(seen)
    if data is None or len(text) < seen.slack + seen.length:
        return seen
    at = text.find(data)
    if at < 0 or text.find(data, at + 1) >= 0:
        return seen
    flags = seen.flags & ~(Flag.AMBIGUOUS | Flag.FROM_DESCRIPTOR)
    return replace(seen, flags=flags, offset=begin + at, slack=0)


def _whole(seen: DataWritten) -> bytes | None:
    """Return the bytes of a write, None where some of them did not come with it."""
    data = b"".join(piece for _, piece in seen.payload)
    return data if len(data) == seen.length else None


def joined(begin: int, readings: Iterable[LateData | EntryRead]) -> tuple[bytes, bool]:
    """Return what was read from ``begin`` on without a gap, and whether that is all of what was to be read."""
    text = b""
    for reading in sorted((one for one in readings if isinstance(one, LateData)), key=lambda one: one.offset):
        if reading.failed or reading.offset != begin + len(text):
            return text, False
        text += reading.data
    return text, True
