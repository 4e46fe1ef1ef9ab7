"""Start and end the recorded command where the system has no fork (Windows): it begins when it is released.

What the other way keeps (ignored signals, the very moment at which exec is due) such systems do not have. Ctrl-C
reaches the command by itself, being in the same console.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from diffkeeper.errors import CommandNotExecutableError, CommandNotFoundError
from diffkeeper.launch import find_program
from diffkeeper.supervise import Ending

_GRACE_S = 5.0
_TICK_S = 1.0
_NAP_S = 0.02


class PlainCommand:
    """Be a command that has not begun yet."""

    pid = 0

    def __init__(self, argv: Sequence[bytes], environment: Mapping[bytes, bytes]) -> None:
        """Start nothing."""
        self._argv = [os.fsdecode(argument) for argument in argv]
        self._environment = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
        self.process: subprocess.Popen[bytes] | None = None

    def release(self) -> None:
        """Start the command. Raises CommandNotFoundError or CommandNotExecutableError."""
        program = find_program(self._argv[0], self._environment)
        try:
            self.process = subprocess.Popen([program, *self._argv[1:]], env=self._environment, close_fds=False)
        except FileNotFoundError as error:
            raise CommandNotFoundError(f"no such command: {self._argv[0]!r}") from error
        except OSError as error:
            raise CommandNotExecutableError(f"{self._argv[0]!r} cannot be executed: {error.strerror}") from error
        self.pid = self.process.pid

    def abandon(self) -> None:
        """Do nothing: it was never started."""


class PlainSupervision:
    """Wait for a command, looking now and then whether it has ended."""

    def __init__(self, command: PlainCommand, timeout_s: float | None, tick: Callable[[], None]) -> None:
        """Call ``tick`` about once a second while waiting."""
        self._command = command
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._tick = tick
        self._next_tick = time.monotonic() + _TICK_S
        self._servants: list[Callable[[], bool]] = []
        self._timed_out = False
        self._was_interrupted = False

    def serve(self, descriptor: int, servant: Callable[[], bool]) -> None:
        """Call ``servant`` at every look, until it returns False; there is no descriptor to wait for."""
        self._servants.append(servant)

    def end(self) -> None:
        """Make the command end, as at its deadline."""
        self._deadline = time.monotonic()

    def wait(self) -> Ending:
        """Return when the command has ended."""
        process = self._command.process
        assert process is not None, "it was released"
        while (code := process.poll()) is None:
            try:
                self._once(process)
            except KeyboardInterrupt:
                self._was_interrupted = True  # the command got it as well and decides what to do about it
        return Ending(_wait_status(code), time.monotonic_ns(), self._timed_out, self._was_interrupted)

    def _once(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_NAP_S)
        except subprocess.TimeoutExpired:
            self._servants = [servant for servant in self._servants if servant()]
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + _TICK_S
            self._tick()
        if self._deadline is not None and now >= self._deadline:
            (process.kill if self._timed_out else process.terminate)()
            self._deadline = now + (_TICK_S if self._timed_out else _GRACE_S)
            self._timed_out = True


def _wait_status(code: int) -> int:
    """Return an exit code as a wait status; Popen tells a signal as its negative number."""
    return -code if code < 0 else (code & 0xFF) << 8
