"""The directory that a recording writes to: checked, claimed, and put back as it was if no trace is to stay.

check ─▶ claim ─▶ keep      the trace is to stay: what --force replaced is deleted
             └──▶ undo      it is not, or the command never ran: what --force replaced is back, what was created is gone
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from diffkeeper.errors import StateDirectoryError
from diffkeeper.store import format as trace_format
from diffkeeper.store.attempts import ATTEMPTS_NAME, is_attempt

_REPLACED = ".replaced"
_OF_A_TRACE = (
    trace_format.SESSION_NAME,
    Path(trace_format.SESSION_NAME).with_suffix(".tmp").name,
    trace_format.LOCK_NAME,
    trace_format.JOURNAL_NAME,
    trace_format.STORE_NAME,
)
_OF_ATTEMPTS = (ATTEMPTS_NAME, f"{ATTEMPTS_NAME}.tmp")


class StateDirectory:
    """Hold the way from a path to a directory of this recording's own."""

    def __init__(self, path: Path, force: bool) -> None:
        """Check that the path can be used; raise StateDirectoryError, touching nothing."""
        self.path = path
        self._created: list[Path] = []
        self._former_mode: int | None = None
        self._is_ours = False  # what the directory holds now was written by this recording
        self._check(force)

    def _check(self, force: bool) -> None:
        try:
            entries = os.listdir(self.path)
        except FileNotFoundError:
            return _check_creatable(self.path)
        except NotADirectoryError:
            raise StateDirectoryError(f"{self.path} is not a directory; choose another --state-dir") from None
        except OSError as error:
            raise StateDirectoryError(
                f"{self.path} cannot be read: {error.strerror}; choose another --state-dir"
            ) from None
        if entries:
            self._check_replaceable(entries, force)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise StateDirectoryError(f"{self.path} is not writable; choose another --state-dir")
        return None

    def _check_replaceable(self, entries: list[str], force: bool) -> None:
        if not _tell_a_trace(set(entries)):
            raise StateDirectoryError(f"{self.path} is not empty and not a trace; choose another --state-dir")
        if trace_format.is_locked(self.path):
            raise StateDirectoryError(f"{self.path} is being recorded to; wait for it, or choose another --state-dir")
        if not force:
            raise StateDirectoryError(
                f"{self.path} holds a trace already; replace it with --force, or choose another --state-dir"
            )

    def claim(self) -> None:
        """Create the directory, or set aside what it holds; undo() takes it back."""
        try:
            self._create()
            status = self.path.stat()
            self._former_mode = stat.S_IMODE(status.st_mode)
            self.path.chmod(0o700)
            self._set_aside()
            self._is_ours = True
        except OSError as error:
            self.undo()
            raise StateDirectoryError(
                f"{self.path} cannot be used: {error.strerror}; choose another --state-dir"
            ) from None

    def _create(self) -> None:
        missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700 if path == self.path else 0o777)
            self._created.append(path)

    def _set_aside(self) -> None:
        present = self._own()
        if present or (self.path / _REPLACED).exists():
            _remove(self.path / _REPLACED)
            (self.path / _REPLACED).mkdir()
            for entry in present:
                entry.rename(self.path / _REPLACED / entry.name)

    def _own(self) -> list[Path]:
        """Return what is there of a trace, or of attempts."""
        names = os.listdir(self.path) if self.path.is_dir() else []
        of_a_trace = _OF_A_TRACE if self._is_ours or trace_format.SESSION_NAME in names else ()
        own = [self.path / name for name in names if name in of_a_trace or name in _OF_ATTEMPTS]
        return [*own, *(self.path / name for name in names if _is_kept_attempt(self.path / name))]

    def holds_trace(self) -> bool:
        """Say whether there is a trace, as where its recorder was killed."""
        return (self.path / trace_format.SESSION_NAME).exists()

    def keep(self) -> None:
        """Delete the trace that this one replaces."""
        _remove(self.path / _REPLACED)

    def undo(self) -> None:
        """Leave everything as it was before claim()."""
        for entry in self._own() if self._is_ours else ():
            _remove(entry)
        if (self.path / _REPLACED).is_dir():
            for entry in (self.path / _REPLACED).iterdir():
                entry.rename(self.path / entry.name)
            (self.path / _REPLACED).rmdir()
        if self._former_mode is not None:
            self.path.chmod(self._former_mode)
        for path in reversed(self._created):
            with contextlib.suppress(OSError):  # the command may have put something beside the trace
                path.rmdir()
        self._created.clear()
        self._is_ours = False


class AttemptDirectory(StateDirectory):
    """Hold a directory that somebody has claimed, for one of many attempts; what is kept of others is left alone."""

    def __init__(self, path: Path) -> None:
        """Take it as it is."""
        super().__init__(path, force=False)

    def _check(self, force: bool) -> None:
        pass

    def _set_aside(self) -> None:
        for entry in self._own():
            _remove(entry)  # of an attempt whose recorder was killed

    def _own(self) -> list[Path]:
        return [self.path / name for name in _OF_A_TRACE if (self.path / name).exists()]

    def keep(self) -> None:
        """Leave alone what the first attempt replaced."""

    def undo(self) -> None:
        """Leave nothing of this attempt."""
        for entry in self._own():
            _remove(entry)

    def move(self, name: str) -> Path:
        """Move the trace into a directory of its own, below this one; return that."""
        place = self.path / name
        place.mkdir(mode=0o700)
        for entry in self._own():
            entry.rename(place / entry.name)
        return place


def _tell_a_trace(names: set[str]) -> bool:
    """Say whether a directory with such entries is that of a trace, or of attempts and nothing a trace would hide."""
    if names & {trace_format.SESSION_NAME, _REPLACED}:
        return True
    return ATTEMPTS_NAME in names and not names & set(_OF_A_TRACE)


def _is_kept_attempt(path: Path) -> bool:
    """Say whether that is a trace: somebody's own folder may have such a name."""
    return is_attempt(path.name) and (path / trace_format.SESSION_NAME).exists()


def _check_creatable(path: Path) -> None:
    """Raise StateDirectoryError unless the nearest directory above would take a new one."""
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir():
        raise StateDirectoryError(f"{path} cannot be created: {above} is not a directory; choose another --state-dir")
    if not os.access(above, os.W_OK | os.X_OK):
        raise StateDirectoryError(f"{path} cannot be created: {above} is not writable; choose another --state-dir")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil  # 5 ms that a recording into a fresh directory does not spend

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
