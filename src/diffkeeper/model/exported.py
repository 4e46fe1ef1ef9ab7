"""What an export did and what it could not do."""

from __future__ import annotations

from dataclasses import field

from diffkeeper.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Remark:
    """Hold a path and what must be said of it; nothing is said of the whole when the path is empty."""

    path: bytes
    reason: str


@dataclass(slots=True)
class ExportReport:
    """Hold the outcome of an export; sizes are apparent, in bytes, and hard links count once."""

    out: str
    entries: int = 0
    bytes: int = 0
    skipped: list[Remark] = field(default_factory=list)  # not in the result, or not with all its attributes
    inexact: list[Remark] = field(default_factory=list)  # in the result, with bytes that may not be what they were
    owners_left: int = 0  # entries that belong to the exporting user, as it may not give them away
    unknown: int = 0  # of those left out: files whose bytes nobody has
    from_base: int = 0  # files of which bytes were read from the base, as the trace does not hold them
    unmatched: tuple[str, ...] = ()  # patterns that matched no entry

    @property
    def is_complete(self) -> bool:
        """Return whether the result is the tree that was asked for, byte by byte."""
        return not self.skipped and not self.inexact
