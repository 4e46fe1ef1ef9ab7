"""Pass on the signals that reach the recorder and not the command.

What the terminal sends (Ctrl-C, Ctrl-backslash, a hang-up) reaches the command by itself, since both are in one process
group: it is dropped here. What a process sends to the recorder alone is meant for the command. A process that signals
the whole group reaches the command twice; nothing in a signal tells the two apart.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


def _those(*names: str) -> set[int]:
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


_FAULTS = _those("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
_JOB_CONTROL = _those("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGWINCH")
_OWN = _those("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGXFSZ", "SIGXCPU", "SIGURG")
_STOP = getattr(signal, "SIGURG", 0)  # ignored by default and by everyone: wakes the thread when it is to end


def forwarded_signals(ignored: frozenset[int]) -> set[int]:
    """Return the signals that are passed on, by a process that was started with some ignored."""
    return {int(number) for number in signal.valid_signals()} - _FAULTS - _JOB_CONTROL - _OWN - ignored


class Forwarder:
    """Send signals on to a process while the ``with`` block runs; to be entered in the main thread."""

    def __init__(self, pid: int, ignored: frozenset[int], let_go: Callable[[], None] = lambda: None) -> None:
        """Leave alone what is ignored: the command ignores it as well. ``let_go`` is called before each signal."""
        self._let_go = let_go
        self._pid = pid
        self._forwarded = forwarded_signals(ignored)
        self._thread = 0
        self._ended = _thread.allocate_lock()

    def __enter__(self) -> Forwarder:
        """Block the signals here and start the thread that takes them."""
        self._former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._forwarded | {_STOP})
        self._ended.acquire()
        self._thread = _thread.start_new_thread(self._serve, ())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread and let signals act on the recorder again."""
        signal.pthread_kill(self._thread, _STOP)
        self._ended.acquire()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)

    def _serve(self) -> None:
        awaited = self._forwarded | {_STOP}
        while True:
            received = signal.sigwaitinfo(awaited)
            if received.si_signo == _STOP and received.si_pid == os.getpid():
                break
            self._let_go()
            is_from_kernel = received.si_code > 0
            if not is_from_kernel and received.si_signo != _STOP:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(self._pid, received.si_signo)
        self._ended.release()


class HandlingForwarder:
    """Do the same by handlers where no thread can wait for signals (macOS, Windows): who sent one is not told there.

    So Ctrl-C, which the terminal sends to the command as well, is left to whoever waits for the command.
    """

    def __init__(self, pid: int, ignored: frozenset[int]) -> None:
        """Leave alone what is ignored."""
        self._pid = pid
        self._numbers = _those("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2") - set(ignored)
        self._former: dict[int, Any] = {}

    def __enter__(self) -> HandlingForwarder:
        """Take the signals."""
        self._former = {number: signal.signal(number, self._forward) for number in self._numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let signals act on the recorder again."""
        for number, former in self._former.items():
            signal.signal(number, former)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.kill(self._pid, number)
