"""The engine for everybody: hints of the system, or none, make it look at the files, and what is new is told.

Hints only ever lead to a look; what a look finds is inexact by nature. Where hints were dropped, and at the end, all is
looked at. A thread does that; it never holds up the command, and where the journal has no room it looks later.

    hints ─▶ names to look at ─▶ looks ─▶ records ─▶ segments
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Sequence

from diffkeeper import mounts
from diffkeeper.engines.protocol import EngineFacts, EngineRequest, EngineSurvey, Progress
from diffkeeper.engines.segments import SegmentWriter
from diffkeeper.engines.watch_mirror import Root
from diffkeeper.engines.watch_rounds import Rounds
from diffkeeper.errors import DiffkeeperError, EngineUnavailableError, RecordError

NAME = "watch"
_PATIENCE_S = 60.0
_TURN_S = 0.05
_DROPPING = frozenset({b"nfs", b"nfs4", b"cifs", b"smb3", b"9p", b"vboxsf", b"virtiofs", b"fuse", b"fuse.sshfs"})
"""File systems on which others' changes cause no hints: all is looked at regularly there."""


class WatchEngine:
    """Record by looking at the files."""

    name = NAME

    def __init__(self, *, notifies: bool = True) -> None:
        """Without ``notifies`` ask the system for no hints, and look at all files regularly."""
        self._notifies = notifies
        self._writer = SegmentWriter(_PATIENCE_S)
        self._rounds: Rounds | None = None
        self._thread: threading.Thread | None = None
        self._request: EngineRequest | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._news = (-1, -1)

    def prepare(self) -> None:
        """Do nothing: a thread would be in the way of the fork of the command."""

    def begin(self, request: EngineRequest) -> None:
        """Start the thread, which sets watches and looks at all files once."""
        self._request = request
        self._writer.trace_id = request.trace_id
        self._writer.add(request.segments)
        if os.name == "posix":
            self._news = os.pipe()
            os.set_blocking(self._news[1], False)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        with _no_signals():
            self._thread.start()

    def wait_until_started(self) -> EngineFacts:
        """Return when all was looked at once, and changes are hinted at from then on."""
        self._started.wait()
        if self._error is not None:
            raise EngineUnavailableError(f"cannot record with {NAME}: {self._error}") from self._error
        assert self._rounds is not None, "the thread has begun"
        exceptions = ["what was between two looks at a file", "which process changed what"]
        if self._rounds.is_polling:
            exceptions.append(f"what lasted less than the time between two rounds ({self._rounds.why_polling})")
        details = {"by_looking": True, "hints": self._rounds.hints_from, "polling": self._rounds.why_polling}
        return EngineFacts(NAME, tuple(exceptions), details)

    def adopt(self, pid: int) -> None:
        """Do nothing: whose changes they are cannot be told."""

    def let_go(self) -> None:
        """Do nothing: it holds nobody."""

    def add_segments(self, segments: Sequence[tuple[int, int]]) -> None:
        """Take segments; the caller may close its descriptors."""
        self._writer.add(segments)

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        """Hold nothing."""
        return False

    def fileno(self) -> int:
        """Return the end of a pipe that is readable when segments were filled; -1 on systems that wait otherwise."""
        return self._news[0]

    def progress(self) -> Progress:
        """Return what was written. Raises RecordError when the thread has died."""
        with contextlib.suppress(BlockingIOError, OSError):
            if self._news[0] >= 0:
                os.set_blocking(self._news[0], False)
                os.read(self._news[0], 4096)
        self._raise_error()
        return self._writer.progress()

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        """Have the thread take all hints that there are, look at all files once more, and end."""
        thread, rounds = self._thread, self._rounds
        if thread is None or rounds is None:
            raise RecordError("the watch engine was not started")
        rounds.stop()
        is_feeding = True
        while thread.is_alive():
            if is_feeding:
                is_feeding = feed(self._writer.progress())
            elif self._writer.is_starving:
                rounds.give_up()
            thread.join(_TURN_S)
        self._raise_error()
        return self._writer.progress()

    def release(self) -> None:
        """Do nothing: close() is as quick."""

    def close(self) -> None:
        """End the thread without a last look, and let go of everything."""
        if self._rounds is not None:
            self._rounds.give_up()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._writer.close()
        for descriptor in self._news:
            if descriptor >= 0:
                os.close(descriptor)
        self._news = (-1, -1)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise RecordError(f"the watch engine has ended: {self._error}")

    def _run(self) -> None:
        try:
            assert self._request is not None, "begin() has the request"
            self._rounds = Rounds(self._request, self._writer, self._tell_of_news)
            roots = [*map(_root, self._request.places)]
            self._rounds.begin(roots, self._why_polling(), asks_for_hints=self._notifies)
            self._started.set()
            self._rounds.run()
        except (DiffkeeperError, OSError) as error:
            self._error = error
        except Exception as error:  # a defect of ours must not leave the recording waiting
            self._error = error
        finally:
            if self._rounds is not None:
                self._rounds.end()
            self._started.set()
            self._tell_of_news()

    def _tell_of_news(self) -> None:
        if self._news[1] >= 0:
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(self._news[1], b"n")

    def _why_polling(self) -> str:
        """Return why hints are not enough here, empty where they are."""
        assert self._request is not None, "begin() has the request"
        if not self._notifies:
            return "hints were not asked for"
        kinds = {mounts.kind_of(descriptor) for descriptor in self._request.roots}
        lacking = sorted(kinds & _DROPPING)
        return f"{os.fsdecode(lacking[0])} does not hint at everything" if lacking else ""


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    """Start threads that take no signals: those that come are for the recorder's main thread, or the forwarder's."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _root(place: tuple[bytes, bytes]) -> Root:
    label, path = place
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{os.fsdecode(path)} is not a directory")
    kind = mounts.kind_of_path(path)
    return Root(path, label, status, takes_device=kind == b"overlay")


def survey() -> EngineSurvey:
    """Say that this engine can run, and how: it needs nothing but to be allowed to read the files."""
    found = importlib.util.find_spec("watchdog")
    hints = "told by the system where to look" if found else "looking at everything regularly: pip install watchdog"
    return EngineSurvey(NAME, True, f"inexact; {hints}{_limit()}")


def _limit() -> str:
    """Return how many folders inotify will tell of, where that is known."""
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", encoding="ascii") as file:
            return f", in up to {int(file.read()):,} folders (fs.inotify.max_user_watches)"
    except (OSError, ValueError):
        return ""
