"""What the system says of changes, through watchdog; the only file that knows it. All of it is hints, never events.

Linux: one inotify instance with a watch of each directory, set before the directory is listed. macOS and Windows:
watchdog's observers, one stream a root. What the system dropped is told as an overflow.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from watchdog.utils import platform

from diffkeeper.engines.watch_mirror import Folder

COOKIE = b".diffkeeper-cookie-"

Hint = Callable[[Folder, bytes, int], None]  # (directory, name, since when it may have changed)
PathHint = Callable[[bytes, int], None]  # (absolute path, since when)
Overflow = Callable[[int], None]  # since when


class TooManyWatchesError(OSError):
    """Report that the system's limit of watches is reached."""


class Notifier(Protocol):
    """Tell of changes."""

    def watch(self, folder: Folder) -> None:
        """Begin to tell of a directory. Raises TooManyWatchesError; OSError where it is gone."""

    def unwatch(self, folder: Folder) -> None:
        """Tell no more of a directory."""

    def is_told(self, folder: Folder) -> bool:
        """Say whether the system still tells of that very directory, which it would not had it been removed."""

    def drain(self, timeout_s: float) -> bool:
        """Return once all is told that happened before the call; False if that could not be made sure."""

    def close(self) -> None:
        """End."""


def start(roots: Iterable[Folder], trace: bytes, hint: Hint, path_hint: PathHint, overflow: Overflow) -> Notifier:
    """Begin to tell of changes below the roots; ``trace`` is a directory of our own, outside of them."""
    logging.getLogger("watchdog").addHandler(logging.NullHandler())  # what it complains of is told as an overflow
    if platform.is_linux():
        return _Inotify(trace, hint, overflow)
    return _Observed(list(roots), path_hint, overflow)


class _Inotify:
    """Be told by inotify of each directory by itself, without the delay in which watchdog's observer pairs renames."""

    def __init__(self, trace: bytes, hint: Hint, overflow: Overflow) -> None:
        from watchdog.observers.inotify_c import InotifyConstants, InotifyFD, Mask

        class Reader(InotifyFD):
            """Note the times between which events came to be."""

            since_ns = time.monotonic_ns()
            _reached_ns = since_ns
            _next_ns = since_ns

            def _check_inotify_fd(self) -> bool:  # called just before the queue is read
                poller = getattr(self, "_poller", None)
                while poller is not None:
                    asked_ns = time.monotonic_ns()
                    ready = poller.poll(_BEAT_MS)
                    self._next_ns = time.monotonic_ns()
                    if ready:
                        return any(descriptor == self._inotify_fd for descriptor, _ in ready)
                    self._reached_ns = asked_ns  # nothing had come by then
                return bool(super()._check_inotify_fd())

            def read_events(self, **options: int) -> Any:
                events = super().read_events(**options)
                self.since_ns = self._reached_ns
                if len(events) < _FEW:  # the queue was read to its end: what comes next is younger
                    self._reached_ns = self._next_ns
                return events

        constants = InotifyConstants
        changes = constants.IN_MODIFY | constants.IN_ATTRIB | constants.IN_CLOSE_WRITE | constants.IN_MOVE
        changes |= constants.IN_CREATE | constants.IN_DELETE | constants.IN_DELETE_SELF
        self._mask = Mask(changes | constants.IN_DONT_FOLLOW | constants.IN_ONLYDIR | constants.IN_EXCL_UNLINK)
        self._hint = hint
        self._numbers = itertools.count(1)
        self._trace = trace
        self._overflow = overflow
        self._overflowed_at = -1
        self._cookie = b""
        self._has_cookie = threading.Event()
        self._reader = Reader()
        with contextlib.suppress(AttributeError, OSError):
            os.set_inheritable(self._reader._inotify_fd, False)
        self._reader.start()
        self._add(trace, _Cookies(self))

    def _add(self, path: bytes, callback: Any) -> object:
        from watchdog.observers.inotify_c import CallbackId

        number = CallbackId(next(self._numbers))
        try:
            wd = self._reader.add_callback(path, self._mask, callback, number)
        except OSError as error:
            if error.errno == 28:  # ENOSPC: fs.inotify.max_user_watches
                raise TooManyWatchesError(error.errno, error.strerror) from error
            raise
        if wd < 0:
            raise PermissionError(13, "may not be watched")
        return wd, number

    def watch(self, folder: Folder) -> None:
        """Watch one directory."""
        folder.handle = self._add(folder.path, _Watched(self, folder))

    def unwatch(self, folder: Folder) -> None:
        """Remove its watch; the kernel has done so already if the directory is gone."""
        handle: Any = folder.handle
        folder.handle = None
        if handle is not None and handle[0] in self._reader._watch_for_wd:
            with contextlib.suppress(OSError, KeyError):
                self._reader.remove_callbacks([handle])

    def is_told(self, folder: Folder) -> bool:
        """Say whether its watch is there: that it went with its directory is told before what came after."""
        handle: Any = folder.handle
        return handle is not None and handle[0] in self._reader._watch_for_wd

    def told(self, folder: Folder, name: bytes) -> None:
        """Take an event of a directory (in the reader's thread)."""
        if not name and folder.parent is not None:
            folder, name = folder.parent, folder.name
        self._hint(folder, name, self._reader.since_ns)

    def overflowed(self) -> None:
        """Take the news that events were dropped, which comes once for each directory."""
        since_ns = self._reader.since_ns
        if since_ns != self._overflowed_at:
            self._overflowed_at = since_ns
            self._overflow(since_ns)

    def drain(self, timeout_s: float) -> bool:
        """Make a file where nobody else does, and wait for its event: the queue is read in order."""
        self._cookie = b"%s%d" % (COOKIE, next(self._numbers))
        self._has_cookie.clear()
        path = os.path.join(self._trace, self._cookie)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError:
            return False
        try:
            return self._has_cookie.wait(timeout_s)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def cookie(self, name: bytes) -> None:
        """Take an event of our own directory."""
        if name == self._cookie:
            self._has_cookie.set()

    def close(self) -> None:
        """End the reader."""
        self._reader.stop()
        self._reader.join()


_BEAT_MS = 20  # how often an empty queue is asked, so that it is known since when what comes next can have happened
_FEW = 300  # events fit into every read, whatever their names


class _Watched:
    """Pass on the events of one directory, whatever its path is by then."""

    __slots__ = ("_folder", "_notifier")

    def __init__(self, notifier: _Inotify, folder: Folder) -> None:
        self._notifier, self._folder = notifier, folder

    def on_event(self, event: Any) -> None:
        self._notifier.told(self._folder, event.name)

    def on_watch_deleted(self, wd: int) -> None:
        pass

    def on_queue_overflow(self) -> None:
        self._notifier.overflowed()


class _Cookies:
    """Pass on the events of the recording's own directory."""

    __slots__ = ("_notifier",)

    def __init__(self, notifier: _Inotify) -> None:
        self._notifier = notifier

    def on_event(self, event: Any) -> None:
        self._notifier.cookie(event.name)

    def on_watch_deleted(self, wd: int) -> None:
        pass

    def on_queue_overflow(self) -> None:
        self._notifier.overflowed()


class _Observed:
    """Be told by watchdog's observer of this system: a stream for each root, in the order of what happened there."""

    def __init__(self, roots: list[Folder], path_hint: PathHint, overflow: Overflow) -> None:
        from watchdog.observers import Observer

        self._roots = roots
        self._path_hint = path_hint
        self._overflow = overflow
        self._awaited: set[bytes] = set()
        self._has_cookies = threading.Event()
        self._observer = Observer()
        for root in roots:
            self._observer.schedule(_Handler(self), os.fsdecode(root.path), recursive=True)
        for emitter in self._observer.emitters:
            tell_drops(emitter, self._dropped)
        self._observer.start()
        for emitter in self._observer.emitters:
            tell_empty_results(emitter, self._dropped)

    def _dropped(self) -> None:
        self._overflow(0)

    def told(self, path: str | bytes) -> None:
        """Take a path of an event (in the observer's thread)."""
        name = os.fsencode(path)
        if os.path.basename(name).startswith(COOKIE):
            self._awaited.discard(name)
            if not self._awaited:
                self._has_cookies.set()
        else:
            self._path_hint(name, 0)

    def watch(self, folder: Folder) -> None:
        """Do nothing: the root's stream tells of all below it."""

    def unwatch(self, folder: Folder) -> None:
        """Do nothing."""

    def is_told(self, folder: Folder) -> bool:
        """Return False: nothing is known of a single directory."""
        return False

    def drain(self, timeout_s: float) -> bool:
        """Make a file in each root, and wait for the events of all."""
        name = b"%s%d" % (COOKIE, os.getpid())
        paths = [os.path.join(root.path, name) for root in self._roots]
        self._has_cookies.clear()
        self._awaited = set(paths)
        try:
            for path in paths:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return self._has_cookies.wait(timeout_s)
        except OSError:
            return False
        finally:
            for path in paths:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def close(self) -> None:
        """End the observer."""
        self._observer.stop()
        self._observer.join()


class _Handler:
    """Pass on the paths of watchdog's events."""

    def __init__(self, observed: _Observed) -> None:
        self._observed = observed

    def dispatch(self, event: Any) -> None:
        """Take one event."""
        for path in (event.src_path, event.dest_path):
            if path:
                self._observed.told(path)


_FSEVENTS_DROPPED = 0x1 | 0x2 | 0x4  # MustScanSubDirs, UserDropped, KernelDropped


def tell_drops(emitter: Any, dropped: Callable[[], None]) -> None:
    """Have an emitter of FSEvents tell when the system says that it dropped events; watchdog passes over that."""
    inner = getattr(emitter, "events_callback", None)
    if inner is None:
        return

    def callback(paths: list[bytes], inodes: list[int], flags: list[int], ids: list[int]) -> None:
        if any(flag & _FSEVENTS_DROPPED for flag in flags):
            dropped()
        inner(paths, inodes, flags, ids)

    emitter.events_callback = callback


def tell_empty_results(emitter: Any, dropped: Callable[[], None]) -> None:
    """Have an emitter of ReadDirectoryChangesW tell of an empty result: the buffer was too small for what happened."""
    waiting = getattr(getattr(emitter, "_reader", None), "_buf_queue", None)
    if waiting is None:
        return
    inner = waiting.put

    def put(item: Any, *arguments: Any, **options: Any) -> None:
        if not item[0]:
            dropped()
        inner(item, *arguments, **options)

    waiting.put = put
