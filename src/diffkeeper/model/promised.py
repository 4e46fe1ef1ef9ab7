"""Blobs that were promised when the baseline was indexed: the bytes of one file from before the command, whole.

A file that is indexed without its bytes gets such a blob at once, and everything that is derived from it (what is left
of it after a write, copies of it) refers to it. The bytes may come later, with a before-image; where none comes, the
file itself may still hold them, and a reader who has the file can read them there. Otherwise they are unknown.
"""

from __future__ import annotations

from diffkeeper.model.extents import ExtentMap

FIRST_PROMISED = 1 << 40  # the store counts blobs from 1 and never comes this far
FIRST_PACK = 1 << 41  # what the baseline packed many small files into; see baseline_format.py
_LAST_PACK = 1 << 42


def promised_blob(index: int) -> int:
    """Return the blob that is promised for the baseline's entry of that index."""
    assert 0 <= index < FIRST_PACK - FIRST_PROMISED, "no tree has as many entries"
    return FIRST_PROMISED + index


def pack_blob(number: int) -> int:
    """Return the blob of a pack of the baseline."""
    assert 0 <= number < _LAST_PACK - FIRST_PACK, "no baseline has as many packs"
    return FIRST_PACK + number


def is_promised(blob: int) -> bool:
    """Say whether a blob may be without bytes in the store, which is then no damage."""
    return FIRST_PROMISED <= blob < FIRST_PACK


def has_promised(content: ExtentMap) -> bool:
    """Say whether any byte is in a promised blob."""
    return any(is_promised(blob) for _, _, blob, _ in content.extents())


def is_whole(content: ExtentMap, blob: int) -> bool:
    """Say whether a file is nothing but one promised blob from its beginning."""
    return [*content.extents()] == [(0, content.size, blob, 0)]
