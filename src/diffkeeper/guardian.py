"""The guardian: a process that lets the recorded processes go when who holds them is gone or says nothing more.

The helper forks it before it has threads or anything that must not be kept open, and keeps one end of a pipe. The
guardian gives the command its cgroup, which takes longer than all else, and says which. From then on it waits: for the
words of the drain thread (F held, T let go, . still held) and for the end of the pipe. At the end it lets everybody go,
moves who is left back to where it would be, and removes the cgroup.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from diffkeeper.freezer import Freezer, candidates

_SILENCE_MS = 1000  # how long somebody may be held without a word
_PATIENCE_S = 1.0
_NAME = b"dk-guardian"


class Guardian:
    """Hold the helper's side: the pipe, and what the guardian answered."""

    def __init__(self, command: int, version: int | None = None) -> None:
        """Fork it, for the command in a process that waits for its exec; call it while there is one thread.

        ``version`` is the only one of the freezers that may be used.
        """
        heard, self.pipe = os.pipe()
        self._answer, answer = os.pipe()
        os.set_blocking(self.pipe, False)
        freezers = [one for one in candidates(command, f"diffkeeper-{command}") if version in (None, one.version)]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _guard(command, freezers, heard, answer)
            finally:
                os._exit(0)
        self._freezers = freezers
        self._taken: Freezer | None = None
        os.close(heard)
        os.close(answer)

    def freezer(self) -> Freezer | None:
        """Return the freezer that the command is in by now, None if it could have none."""
        word = os.read(self._answer, 1)
        os.close(self._answer)
        self._taken = self._freezers[word[0]] if word and word[0] < len(self._freezers) else None
        return self._taken

    def end(self) -> None:
        """Let it end, and wait until nothing of it is left; if it was killed, do what it would have done."""
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        if self._taken is not None and os.path.isdir(self._taken.directory):
            _give_back(self._taken)


def _guard(command: int, freezers: list[Freezer], heard: int, answer: int) -> None:
    _keep_only(heard, answer)
    taken = _take(command, freezers)
    os.write(answer, bytes([len(freezers) if taken is None else freezers.index(taken)]))
    os.close(answer)
    if taken is None:
        return
    _listen(heard, taken)
    _give_back(taken)


def _keep_only(*kept: int) -> None:
    """Keep nothing else alive: no descriptor, no mount. Be quick, and be told apart from the helper."""
    last = -1
    for descriptor in (*sorted(kept), os.sysconf("SC_OPEN_MAX")):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.chdir("/")
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(_NAME)


def _take(command: int, freezers: list[Freezer]) -> Freezer | None:
    for freezer in freezers:
        try:
            freezer.take(command)
        except OSError:
            continue
        return freezer
    return None


def _listen(heard: int, freezer: Freezer) -> None:
    """Return when the helper has gone; meanwhile thaw if it holds somebody and is silent."""
    poll, is_held = select.poll(), False
    poll.register(heard, select.POLLIN)
    while True:
        if poll.poll(_SILENCE_MS if is_held else None):
            words = os.read(heard, 4096)
            if not words:
                return
            is_held = not words.endswith(b"T")
        else:
            is_held = False
            _thaw(freezer)


def _thaw(freezer: Freezer) -> None:
    with contextlib.suppress(OSError):
        freezer.thaw()


def _give_back(freezer: Freezer) -> None:
    """Empty the cgroup, whose processes may fork meanwhile, and remove it."""
    _thaw(freezer)
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            for pid in freezer.processes():
                with contextlib.suppress(OSError):
                    freezer.give_back(pid)
            freezer.remove()
            return
        time.sleep(0.001)
