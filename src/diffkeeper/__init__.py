"""A black box flight recorder for the filesystem: the public names and nothing else.

Names load when they are first used, so that ``import diffkeeper`` and the command line start fast.
"""

from __future__ import annotations

from diffkeeper.version import __version__

TYPE_CHECKING = False  # typing itself takes longer to import than all that a recording needs before its helper starts
if TYPE_CHECKING:
    from typing import Any

    from diffkeeper.errors import (
        DamagedTraceError,
        DiffkeeperError,
        EngineUnavailableError,
        FormatTooNewError,
        NoSuchEntryError,
        NoSuchTraceError,
        PositionError,
        RecordError,
        StateDirectoryError,
        StillRecordingError,
        TraceError,
        UnknownContentError,
        UsageError,
    )
    from diffkeeper.model.answers import Change, Entry, Exactness, TraceInfo
    from diffkeeper.model.event import Event, Kind, Mark, Meta
    from diffkeeper.model.process import Process
    from diffkeeper.recording import Outcome, record
    from diffkeeper.trace import Trace
    from diffkeeper.trace.view import TreeView

__all__ = [
    "Change",
    "DamagedTraceError",
    "DiffkeeperError",
    "EngineUnavailableError",
    "Entry",
    "Event",
    "Exactness",
    "FormatTooNewError",
    "Kind",
    "Mark",
    "Meta",
    "NoSuchEntryError",
    "NoSuchTraceError",
    "Outcome",
    "PositionError",
    "Process",
    "RecordError",
    "StateDirectoryError",
    "StillRecordingError",
    "Trace",
    "TraceError",
    "TraceInfo",
    "TreeView",
    "UnknownContentError",
    "UsageError",
    "__version__",
    "record",
]

_HOMES = {
    "Change": "diffkeeper.model.answers",
    "Entry": "diffkeeper.model.answers",
    "Exactness": "diffkeeper.model.answers",
    "TraceInfo": "diffkeeper.model.answers",
    "Event": "diffkeeper.model.event",
    "Kind": "diffkeeper.model.event",
    "Mark": "diffkeeper.model.event",
    "Meta": "diffkeeper.model.event",
    "Process": "diffkeeper.model.process",
    "Outcome": "diffkeeper.recording",
    "record": "diffkeeper.recording",
    "Trace": "diffkeeper.trace",
    "TreeView": "diffkeeper.trace.view",
}


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'diffkeeper' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES.get(name, "diffkeeper.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
