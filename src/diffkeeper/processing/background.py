"""The recorder's side of the worker: start it, nudge it, hear which segments may be used again.

The protocol, in lines of text. To the worker: ``advance`` (the journal has grown), ``finish`` (the journal has
ended), ``verify`` (it has ended, and once it is processed the last state is to be held against the live files). From
the worker: ``recyclable N N …`` (segments of the ring's stream whose every observation is safe in the store), ``full``
(the trace has the size that it may have, and nothing is left to drop), ``done JSON`` (what was counted, and what the
journal lacks), ``verified JSON`` and ``failed MESSAGE``. The end of its input without ``finish`` ends the worker; what
it has committed stays, and the next one goes on from there.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from diffkeeper.errors import DiffkeeperError
from diffkeeper.patience import OutOfTimeError, Patience
from diffkeeper.processing.limits import MEMORY_BYTES


class Background:
    """Run ``python -m diffkeeper.worker`` for one trace; use as a context manager."""

    def __init__(self, trace_dir: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        """Start the worker; it waits for the first ``advance``."""
        command = [sys.executable, "-P", "-m", "diffkeeper.worker", os.fspath(trace_dir), str(memory_bytes)]
        self._process = subprocess.Popen(  # by exec: a fork of a process with an open store hangs
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the terminal is the command's; what went wrong comes as a ``failed`` line
            start_new_session=True,
            env=_environment(),
        )
        self._unread = b""
        self._patience = Patience()
        self.damage: list[str] = []  # what of the journal could not be read, once it is finished
        self.has_end = False
        self.is_full = False  # the worker said so
        os.set_blocking(self._stdin.fileno(), False)
        os.set_blocking(self._stdout.fileno(), False)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None, "the worker was started with a pipe"
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None, "the worker was started with a pipe"
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Return the worker's process id, which the engine spares."""
        return self._process.pid

    def advance(self) -> list[int]:
        """Tell that the journal has grown; return the segments that may be used again since the last call.

        Never waits. Raises DiffkeeperError when the worker has failed.
        """
        self._send(b"advance\n")
        return self.recyclable() or []

    def fileno(self) -> int:
        """Return the descriptor that is readable when ``recyclable`` has news."""
        return self._stdout.fileno()

    def recyclable(self) -> list[int] | None:
        """Return what ``advance`` does, telling nothing; None once the worker has ended."""
        data = self._stdout.read(65_536)
        return None if data == b"" else self._recyclable(self._lines(data or b""))

    def finish(self, *, verifies: bool = False, patience: Patience | None = None) -> dict[str, int]:
        """Tell that the journal has ended, wait until the store is whole, and return what was counted.

        With ``verifies`` the worker goes on to verify: ``verification`` must be called. Raises DiffkeeperError if the
        store cannot be made whole, OutOfTimeError when ``patience`` ends; then the worker is to be closed.
        """
        self._patience = patience or Patience()
        os.set_blocking(self._stdin.fileno(), True)
        os.set_blocking(self._stdout.fileno(), True)
        self._send(b"verify\n" if verifies else b"finish\n")
        document = self._answer(b"done ")
        if document is None or (not verifies and self._process.wait() != 0):
            raise DiffkeeperError("the worker ended before the trace was processed; reading the trace will process it")
        self.damage, self.has_end = document["damage"], document["has_end"]
        counted: dict[str, int] = document["counted"]
        return counted

    def verification(self) -> dict[str, Any]:
        """Wait for what the worker found and counts now, and for its end; raises as ``finish`` does."""
        document = self._answer(b"verified ")
        if document is None or self._process.wait() != 0:
            raise DiffkeeperError("the worker ended before the recording was verified")
        return document

    def _answer(self, word: bytes) -> dict[str, Any] | None:
        """Wait for the line that begins with a word; None if the worker ended without it."""
        while True:
            if not select.select([self._stdout], [], [], self._patience.left_s)[0]:
                raise OutOfTimeError
            data = self._stdout.read(65_536)
            lines = self._lines(data or b"\n")
            self._recyclable(lines)
            for number, line in enumerate(lines):
                if line.startswith(word):
                    self._unread = b"".join(rest + b"\n" for rest in lines[number + 1 :]) + self._unread
                    document: dict[str, Any] = json.loads(line.removeprefix(word))
                    return document
            if not data:
                return None

    def close(self) -> None:
        """End the worker if it still runs; what it has flushed stays."""
        self._stdin.close()
        self._process.kill()
        self._process.wait()
        self._stdout.close()

    def __enter__(self) -> Background:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _send(self, line: bytes) -> None:
        try:
            self._stdin.write(line)  # a full pipe takes nothing: the worker has lines enough
        except BrokenPipeError:
            raise DiffkeeperError("the background worker has ended early") from None

    def _lines(self, data: bytes) -> list[bytes]:
        *lines, self._unread = (self._unread + data).split(b"\n")
        return lines

    def _recyclable(self, lines: list[bytes]) -> list[int]:
        numbers: list[int] = []
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"recyclable":
                numbers += map(int, rest.split())
            elif word == b"failed":
                raise DiffkeeperError(os.fsdecode(rest))
            elif word == b"full":
                self.is_full = True
        return numbers


def _environment() -> dict[str, str]:
    """Return the environment with this package importable, however it was found."""
    package_home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**os.environ, "PYTHONPATH": package_home, "PYTHONDONTWRITEBYTECODE": "1"}
