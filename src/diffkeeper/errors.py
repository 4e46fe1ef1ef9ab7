"""Every error that diffkeeper raises; each class owns its exit code.

The tree of classes, exit codes in parentheses:

    DiffkeeperError (1)
    ├── UsageError (2)               bad option, position or pattern
    │   └── PositionError            a position in time that cannot be read
    ├── RecordError (125)            record failed before or instead of the command
    │   ├── EngineUnavailableError   no engine can run here; says what is missing and what would work
    │   └── StateDirectoryError      the trace directory cannot be used
    ├── NoSuchEntryError (1)         no entry of that name in the tree at that instant
    ├── CommandNotExecutableError (126)
    ├── CommandNotFoundError (127)
    └── TraceError
        ├── NoSuchTraceError (10)
        ├── StillRecordingError (11)
        ├── FormatTooNewError (12)
        ├── MissingFacilityError (13)   an extra or a system facility, with the line that installs it
        ├── DamagedTraceError (3)       part of a trace cannot be read
        ├── DroppedHistoryError (3)     a moment before those that the trace still answers for
        └── UnknownContentError (3)     bytes that were asked for are not in the trace
"""

from __future__ import annotations


class DiffkeeperError(Exception):
    """Report a failure of diffkeeper; ``str(error)`` is one message that says what to do."""

    exit_code = 1


class UsageError(DiffkeeperError):
    """Report an option, pattern or argument that cannot be used."""

    exit_code = 2


class PositionError(UsageError):
    """Report a position that does not follow the grammar of ``docs/positions.md``."""


class NoSuchEntryError(DiffkeeperError):
    """Report a path that names nothing in the tree at that instant."""


class RecordError(DiffkeeperError):
    """Report that recording failed before or instead of the command."""

    exit_code = 125


class EngineUnavailableError(RecordError):
    """Report that no engine can run here, with cause and remedies."""


class StateDirectoryError(RecordError):
    """Report a trace directory that cannot be created or must not be overwritten."""


class CommandNotExecutableError(DiffkeeperError):
    """Report a command that exists and may not be executed."""

    exit_code = 126


class CommandNotFoundError(DiffkeeperError):
    """Report a command that does not exist."""

    exit_code = 127


class TraceError(DiffkeeperError):
    """Report a trace that cannot be used."""

    exit_code = 3


class NoSuchTraceError(TraceError):
    """Report a path that is not a trace."""

    exit_code = 10


class StillRecordingError(TraceError):
    """Report a trace whose recording has not ended."""

    exit_code = 11


class FormatTooNewError(TraceError):
    """Report a trace written by a later release."""

    exit_code = 12


class MissingFacilityError(TraceError):
    """Report a missing extra or system facility, with the line that installs it."""

    exit_code = 13


class DamagedTraceError(TraceError):
    """Report a trace of which a part cannot be read; what can be read is read."""

    exit_code = 3


class DroppedHistoryError(TraceError):
    """Report a moment of which the history was dropped, so that the trace stays below its size; says what to write."""

    exit_code = 3


class UnknownContentError(TraceError):
    """Report bytes that were asked for and are not in the trace."""

    exit_code = 3
