"""Where the processed form of a trace is found: in the trace itself, or made once in a cache outside of it.

No byte of a trace changes by reading it. What is made in the cache bears the trace's id and a fingerprint of its
journal, so that a trace that grew is processed anew; a file lock lets one reader work while the others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from diffkeeper import beneath
from diffkeeper.errors import DamagedTraceError, TraceError
from diffkeeper.processing.processor import Processor
from diffkeeper.store import lock
from diffkeeper.store.format import STORE_NAME, SessionFacts
from diffkeeper.store.journal import JournalReader

_DONE = "done"

Announce = Callable[[str], None]


def processed_in_cache(trace_dir: Path, facts: SessionFacts, announce: Announce = lambda line: None) -> Path:
    """Return the store of a trace that was not processed; process it unless a reader has or is at it.

    ``announce`` is told before anything that takes time.
    """
    name = f"{facts.trace_id:016x}-{fingerprint(trace_dir)}"
    home = _cache_home()
    with _locked(home / f"{name}.lock", announce):
        place = home / name
        if not (place / _DONE).exists():
            _forget_older(home, f"{facts.trace_id:016x}-")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(mode=0o700)
            announce(f"the recording left {trace_dir} to be processed, which is done now, once, in {home}")
            with _said_where(trace_dir, home):
                _process(trace_dir, facts, place / STORE_NAME)
                (place / _DONE).touch()
        return place / STORE_NAME


@contextlib.contextmanager
def _said_where(trace_dir: Path, home: Path) -> Iterator[None]:
    """Say of a disk that is full, or fails, what was to be written there, and how it can be written elsewhere."""
    try:
        yield
    except DamagedTraceError:
        raise
    except (TraceError, OSError) as error:
        words = f"{trace_dir} was not processed when it was recorded, and cannot be in {home}: {error}"
        raise TraceError(f"{words}; set XDG_CACHE_HOME to a folder with more room") from error


def _process(trace_dir: Path, facts: SessionFacts, store: Path) -> None:
    """Process the journal from its beginning or, if that was recycled, from where the recorder had come to."""
    first = next(JournalReader(trace_dir, facts.trace_id).batches("r"), None)
    if first is not None and first.sequence > 1 and (trace_dir / STORE_NAME).is_dir():
        try:
            shutil.copytree(trace_dir / STORE_NAME, store, ignore=shutil.ignore_patterns("LOG*", "LOCK"))
            with Processor(trace_dir, store) as processor:
                processor.finish()
            return
        except (TraceError, OSError):
            shutil.rmtree(store, ignore_errors=True)  # what is left of the journal is better than nothing
    with Processor(trace_dir, store) as processor:
        processor.finish()


def fingerprint(trace_dir: Path) -> str:
    """Return a digest of names, sizes and times of the files of a trace; equal while nobody wrote to it."""
    digest = hashlib.sha256()
    for folder in (trace_dir, trace_dir / "journal", trace_dir / "store"):
        with contextlib.suppress(FileNotFoundError):
            for entry in sorted(os.scandir(folder), key=lambda one: one.name):
                stat = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False):
                    digest.update(f"{folder.name}/{entry.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _cache_home() -> Path:
    """Return a private folder for processed traces: the user's cache or, if that cannot be written, a temporary one."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = Path(base) / "diffkeeper"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(home, os.W_OK | os.X_OK):
            return home
    except OSError:
        pass
    return _temporary_home()


def _temporary_home() -> Path:
    if not hasattr(os, "getuid"):
        return Path(tempfile.mkdtemp(prefix="diffkeeper-cache-"))
    home = Path(tempfile.gettempdir()) / f"diffkeeper-cache-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        home.mkdir(mode=0o700)
    stat = home.lstat()
    if home.is_symlink() or stat.st_uid != os.getuid() or stat.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="diffkeeper-cache-"))  # someone else's folder of that name is not used
    return home


@contextlib.contextmanager
def _locked(path: Path, announce: Announce) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | beneath.flags("O_NOFOLLOW") | beneath.CLOEXEC, 0o600)
    try:
        if not lock.try_exclusive(descriptor):
            announce("another reader is processing the trace; waiting for it")
            lock.wait_exclusive(descriptor)
        yield
    finally:
        os.close(descriptor)


def _forget_older(home: Path, prefix: str) -> None:
    """Remove what was made of earlier states of the same trace."""
    for entry in os.scandir(home):
        if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
