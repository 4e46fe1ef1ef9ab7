"""The command as this system can have it: forked and held where there is fork, else started when it is released."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from diffkeeper.forwarding import Forwarder, HandlingForwarder
from diffkeeper.launch import hold_command
from diffkeeper.supervise import Ending, Supervision


class Command(Protocol):
    """Be a command that is to begin at once when it is released."""

    @property
    def pid(self) -> int:
        """Return its process id, 0 before it began on systems without fork."""
        ...

    def release(self) -> None:
        """Let it begin. Raises CommandNotFoundError or CommandNotExecutableError."""
        ...

    def abandon(self) -> None:
        """Never start it."""
        ...


class Waiting(Protocol):
    """Wait for a command."""

    def serve(self, descriptor: int, servant: Callable[[], bool]) -> None:
        """Call ``servant`` whenever the descriptor is readable, until it returns False."""
        ...

    def end(self) -> None:
        """Make the command end, as at its deadline."""
        ...

    def wait(self) -> Ending:
        """Return when the command has ended."""
        ...


def command_of(argv: Sequence[bytes], environment: Mapping[bytes, bytes], ignored: frozenset[int]) -> Command:
    """Return the command-to-be; call it while this process has one thread and before it opens what it could leak."""
    if not hasattr(os, "fork"):
        from diffkeeper.launch_plain import PlainCommand

        return PlainCommand(argv, environment)
    held = hold_command(argv, environment, ignored)
    if signal.SIGCHLD in ignored:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody could learn how the command ended
    return held


def supervision_of(
    command: Command, timeout_s: float | None, tick: Callable[[], None], let_go: Callable[[], None]
) -> Waiting:
    """Return what waits for a command that was not released yet."""
    if command.pid:
        return Supervision(command.pid, timeout_s, tick, let_go)
    from diffkeeper.launch_plain import PlainCommand, PlainSupervision

    assert isinstance(command, PlainCommand), "only that one has no process before it begins"
    return PlainSupervision(command, timeout_s, tick)


def forwarder_of(
    command: Command, ignored: frozenset[int], let_go: Callable[[], None]
) -> contextlib.AbstractContextManager[object]:
    """Return what passes signals on to a command while its ``with`` block runs; to be entered in the main thread."""
    if not command.pid:
        return contextlib.nullcontext()  # Windows: the console tells the command, and kill() asks nobody
    if hasattr(signal, "sigwaitinfo"):
        return Forwarder(command.pid, ignored, let_go)
    return HandlingForwarder(command.pid, ignored)
