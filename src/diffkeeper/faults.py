"""Faults that tests ask for by DIFFKEEPER_FAULTS in the helper's environment: each makes one kind of loss happen.

sudo passes no such variable on, so that only who has the helper's privileges can set it; the session's facts name it.
"""

from __future__ import annotations

import os

from diffkeeper import native
from diffkeeper.errors import RecordError

VARIABLE = "DIFFKEEPER_FAULTS"
NAMES = (*native.FAULTS, "ring", "segments", "freezer")


def from_environment() -> dict[str, int]:
    """Return what was asked for, as ``ring=65536,stall=500``; docs/faults.md explains each. Raises RecordError."""
    faults = {}
    for word in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, number = word.partition("=")
        if name not in NAMES or not number.isdigit():
            raise RecordError(f"{VARIABLE}: {word!r} is no fault; there is {', '.join(NAMES)}, each with =NUMBER")
        faults[name] = int(number)
    return faults
