"""What reporters are given beside the values of the model: a timeline with its session, line by line."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.event import Event, Meta
from diffkeeper.model.values import dataclass
from diffkeeper.reporters.limits import since_words


@dataclass(frozen=True, slots=True)
class Line:
    """Hold an event, the name of the process that did it, and for OUTPUT the bytes that it printed."""

    event: Event
    comm: bytes = b""
    output: bytes = b""


class Columns(Protocol):
    """Give many events by their fields, without building any; the store's EventBlock is one."""

    @property
    def first(self) -> int:
        """Return the number of the first event."""

    @property
    def strings(self) -> Sequence[bytes]:
        """Return the strings that columns such as "path" refer to."""

    def column(self, name: str) -> Sequence[int]:
        """Return one entry an event of a field of Event; for byte strings, places in ``strings``."""

    def take(self, rows: Sequence[int]) -> Sequence[Event]:
        """Build the events of some rows."""

    def metas(self, rows: Sequence[int]) -> Sequence[Meta | None]:
        """Build the metadata that some rows have, None for one that has none."""


@dataclass(frozen=True, slots=True)
class Page:
    """Hold many events in columns, and which of its rows are shown."""

    columns: Columns
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Hold a timeline to print: events as ``lines`` and, where there may be a million of them, the same as ``pages``.

    A reporter reads one of the two. ``line_of`` makes the line of an event, ``comm_of`` names a process by its key;
    ``last_change`` is the number of the last change before the exit, 0 for none.
    """

    info: TraceInfo
    lines: Iterable[Line] = ()
    last_change: int = 0
    pages: Iterable[Page] | None = None
    line_of: Callable[[Event], Line] = Line
    comm_of: Callable[[int], bytes] = lambda key: b""


def ending(info: TraceInfo) -> str:
    """Return how the command ended: ``exit 1``, ``SIGKILL``, ``timeout`` or ``end of the recording``."""
    if info.timed_out:
        return "timeout"
    if info.wait_status is not None and info.wait_status & 0x7F:
        return signal_name(info.wait_status & 0x7F)
    return "end of the recording" if info.exit_code is None else f"exit {info.exit_code}"


def completeness(info: TraceInfo) -> str:
    """Return ``complete``, or what is missing from the trace."""
    if info.is_complete:
        return f"complete from {since_words(info.first_number, info.first_ns)} on" if info.first_number else "complete"
    return "; ".join(dict.fromkeys((*info.defects, *info.damage))) or f"not complete ({info.state})"


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9, and ``signal 77`` for one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
