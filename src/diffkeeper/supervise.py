"""Wait for the command: serve the engine meanwhile, and end the command when its time is up."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from diffkeeper.model.values import dataclass

_GRACE_S = 5.0
_TICK_S = 1.0
_TICK_WITHOUT_PIDFD_S = 0.02


@dataclass(frozen=True, slots=True)
class Ending:
    """Say how the command ended; ``ended_ns`` is CLOCK_MONOTONIC, ``was_interrupted`` that Ctrl-C came meanwhile."""

    wait_status: int
    ended_ns: int
    timed_out: bool
    was_interrupted: bool


class Supervision:
    """Wait for one child of this process."""

    def __init__(
        self, pid: int, timeout_s: float | None, tick: Callable[[], None], let_go: Callable[[], None] = lambda: None
    ) -> None:
        """Call ``tick`` about once a second while waiting, and ``let_go`` before the command is made to end."""
        self._let_go = let_go
        self._pid = pid
        self._pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._tick = tick
        self._next_tick = time.monotonic() + _TICK_S
        self._condemned: list[int] = []  # pidfds of the tree that was told to end
        self._timed_out = False
        self._was_interrupted = False
        self._poll = select.poll()
        self._servants: dict[int, Callable[[], bool]] = {}
        if self._pidfd >= 0:
            self._poll.register(self._pidfd, select.POLLIN)

    def serve(self, descriptor: int, servant: Callable[[], bool]) -> None:
        """Call ``servant`` whenever the descriptor is readable, until it returns False."""
        self._servants[descriptor] = servant
        self._poll.register(descriptor, select.POLLIN)

    def end(self) -> None:
        """Make the command end, as at its deadline."""
        self._deadline = time.monotonic()

    def wait(self) -> Ending:
        """Return when the command has ended."""
        status = self._reaped()
        while status is None:
            try:
                self._once()
            except KeyboardInterrupt:
                self._let_go()
                self._was_interrupted = True  # the command got it as well and decides what to do about it
            status = self._reaped()
        ended_ns = time.monotonic_ns()
        for descriptor in (*self._condemned, *([self._pidfd] if self._pidfd >= 0 else [])):
            os.close(descriptor)
        return Ending(status, ended_ns, self._timed_out, self._was_interrupted)

    def _reaped(self) -> int | None:
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return status if pid else None

    def _once(self) -> None:
        for descriptor, _ in self._poll.poll(self._patience_ms()):
            servant = self._servants.get(descriptor)
            if servant is not None and not servant():
                self._poll.unregister(descriptor)
                del self._servants[descriptor]
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK_S
            self._tick()
        if self._deadline is not None and now >= self._deadline:
            self._end_command(now)

    def _patience_ms(self) -> int:
        until = self._next_tick if self._deadline is None else min(self._next_tick, self._deadline)
        patience = max(0.0, until - time.monotonic())
        return int(1000 * (patience if self._pidfd >= 0 else min(patience, _TICK_WITHOUT_PIDFD_S))) + 1

    def _end_command(self, now: float) -> None:
        """Ask the tree to end, and after the grace make it."""
        self._let_go()
        number = signal.SIGKILL if self._timed_out else signal.SIGTERM
        if self._pidfd < 0:
            _kill(self._pid, number)  # without pidfds and /proc (macOS) only the command itself
        else:
            self._condemned += [descriptor for pid in _tree(self._pid) if (descriptor := _pidfd(pid)) >= 0]
        for descriptor in self._condemned:
            _signal(descriptor, number)
            _signal(descriptor, signal.SIGCONT)  # a stopped process would sleep through its SIGTERM
        self._deadline = now + (_TICK_S if self._timed_out else _GRACE_S)
        self._timed_out = True


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return -1


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _signal(descriptor: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or runs as someone else
        signal.pidfd_send_signal(descriptor, number)


def _tree(pid: int) -> list[int]:
    """Return a process and its descendants, as far as the chain of parents still shows them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry))
    tree = [pid]
    for member in tree:
        tree += children.get(member, [])
    return tree


def _parent(pid: str) -> int:
    """Return the parent's id from /proc/PID/stat, whose second field may hold anything, parentheses too."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0
