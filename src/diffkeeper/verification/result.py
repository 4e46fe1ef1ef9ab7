"""What a verification found, as a value that goes into session.json and through the worker's pipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# SessionFacts.verification; NOT_YET stays where the recorder was killed, or could not process.
NOT_YET, DONE, OFF, INTERRUPTED, FAILED = "not yet", "done", "off", "interrupted", "failed"
OUT_OF_TIME = "it would have delayed the exit code by more than a tenth of the run (--process now waits)"
LEFT = "processing was left to the first reader (--process later)"
MOST_PATHS = 20


@dataclass(slots=True)
class Verification:
    """Count entries, each name once.

    ``files`` were touched and are what replay says, byte for byte; ``entries`` are the others, compared by what lstat
    tells. ``confirmed`` files had bytes that were in doubt and turned out right; RESYNC events say so. ``differ`` were
    not what replay says, of which ``resynced`` were read back; ``paths`` are the first of them. ``explained`` differed
    too, were read back too, and a GAP had said that they might. ``changed_since`` were changed after the engine had
    stopped, ``not_verified`` could not be read or have bytes that the trace does not hold: of both nothing is known.
    """

    files: int = 0
    entries: int = 0
    confirmed: int = 0
    differ: int = 0
    resynced: int = 0
    explained: int = 0
    changed_since: int = 0
    not_verified: int = 0
    paths: list[str] = field(default_factory=list)  # as os.fsdecode makes them

    def counters(self) -> dict[str, int]:
        """Return the numbers under the names that session.json gives them."""
        return {
            "verified_files": self.files,
            "verified_entries": self.entries,
            "confirmed": self.confirmed,
            "differ": self.differ,
            "resynced": self.resynced,
            "explained": self.explained,
            "changed_since": self.changed_since,
            "not_verified": self.not_verified,
        }

    def to_json(self) -> dict[str, Any]:
        """Return a value that ``from_json`` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Verification:
        """Read what ``to_json`` returned."""
        return cls(**document)
