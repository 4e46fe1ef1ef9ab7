"""What reporters are given beside the values of the model: a timeline with its session, line by line."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.event import Event


@dataclass(frozen=True, slots=True)
class Line:
    """Hold an event, the name of the process that did it, and for OUTPUT the bytes that it printed."""

    event: Event
    comm: bytes = b""
    output: bytes = b""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Hold a timeline to print; ``last_change`` is the number of the last change before the exit, 0 for none."""

    info: TraceInfo
    lines: Iterable[Line]
    last_change: int = 0


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
        return "complete"
    return "; ".join(info.defects) or f"not complete ({info.state})"


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9, and ``signal 77`` for one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
