"""The format of a trace directory: its facts, its states, its lock and the keys of its store.

    trace/                 mode 0700
      session.json         SessionFacts, rewritten atomically at every change of state
      lock                 held with flock() by `record` for as long as it records
      journal/rNNNNNN.seg  drained ring records        (format: journal.py)
      journal/bNNNNNN.seg  the baseline                (format: journal.py)
      store/               RocksDB, one column family  (keys: Key, below)

                  lock is free, session.json still says recording
    recording ────────────────────────────────────────────────────▶ broken
        │ session.json says sealed
        └──────────────────────▶ sealed

Versions of the format, newest last; a release reads its own and every older one:
    1  the first
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing
from collections.abc import Iterator
from dataclasses import field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from diffkeeper import beneath
from diffkeeper.errors import DamagedTraceError, FormatTooNewError, NoSuchTraceError, StateDirectoryError, TraceError
from diffkeeper.model.values import dataclass
from diffkeeper.store import lock
from diffkeeper.version import __version__

FORMAT_VERSION = 1
SESSION_NAME = "session.json"
LOCK_NAME = "lock"
JOURNAL_NAME = "journal"
STORE_NAME = "store"

DROP_OLDEST, STOP, FAIL = "drop-oldest", "stop", "fail"  # what is done when a trace has the size that it may have

MAX_SESSION_BYTES = 16 << 20
MAX_VALUE_BYTES = 1 << 20  # a call into RocksDB holds the GIL: no value of the store is meant to be larger


class Key:
    """Hold the prefixes of the store's keys; numbers within keys are big endian, so that they sort as they count."""

    CHUNK = b"c:"  # c:<sha256>                  one chunk of content, encoded (deltas.py)
    BLOB = b"m:b"  # m:b<blob u64><start u64>    sha256 and length (u32) of chunks of a blob, from byte `start` on
    IMPROVE = b"m:q"  # m:q<sha256>              a chunk that bsdiff may store smaller; the value is empty
    EVENTS = b"m:e"  # m:e<first number u64>     a block of events in columns (eventlog.py)
    INDEX = b"m:i"  # m:i<first number u64>      last number, range of t_ns and kinds of that block
    TOUCHED = b"m:t"  # m:t<first number u64>    paths, nodes, processes and marks of that block (touched.py)
    PROCESS = b"m:p"  # m:p<process key u64>     one process of the process table
    CHECKPOINT = b"m:k"  # m:k<number u64><part u32>  part of the tree as it stood after event `number`
    NAMELESS = b"m:n"  # m:n<number u64><part u32>  what changed without a name up to event `number` (nameless.py)
    BASE = b"m:d"  # m:d<sha256>                 sha256 of the chunk that this one is a difference from
    FACT = b"m:s"  # m:s<name>                   what processing notes about itself (batches processed, counters)


@dataclass()
class RootFacts:
    """Identify a watch root: its label in paths, its path, and the inode it was (``dev`` is the kernel's s_dev)."""

    label: str
    path: str
    dev: int = 0
    ino: int = 0
    generation: int = 0


@dataclass()
class SessionFacts:
    """Hold what session.json says of a recording; ``extra`` keeps the keys that this release does not know."""

    trace_id: int
    format: int = FORMAT_VERSION
    diffkeeper: str = __version__
    state: str = "recording"
    argv: list[str] = field(default_factory=list)
    cwd: str = ""
    user: str = ""
    uid: int = 0
    hostname: str = ""
    kernel: str = ""
    roots: list[RootFacts] = field(default_factory=list)
    engine: str = ""
    engine_facts: dict[str, Any] = field(default_factory=dict)
    baseline: str = "full"
    excludes: list[str] = field(default_factory=list)
    mounts_left_out: list[str] = field(default_factory=list)
    start_monotonic_ns: int = 0
    start_realtime_ns: int = 0
    end_monotonic_ns: int | None = None
    exit_code: int | None = None
    wait_status: int | None = None
    command_pid: int = 0
    timed_out: bool = False
    counters: dict[str, int] = field(default_factory=dict)
    complete: bool | None = None
    processed: bool = False
    baseline_realtime_ns: int = 0
    stopped_realtime_ns: int = 0
    verification: str = ""
    differing: list[str] = field(default_factory=list)
    max_bytes: int = 0
    on_full: str = ""
    full_monotonic_ns: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def dump_session(facts: SessionFacts) -> bytes:
    """Return ``facts`` as the bytes of session.json."""
    known = {item.name: getattr(facts, item.name) for item in fields(facts) if item.name != "extra"}
    known["roots"] = [vars(root) for root in facts.roots]
    return (json.dumps({**facts.extra, **known}, indent=1) + "\n").encode("ascii")


def parse_session(data: bytes) -> SessionFacts:
    """Return the facts in the bytes of a session.json; raise DamagedTraceError or FormatTooNewError."""
    document = _parse_object(data)
    version = document.get("format")
    if type(version) is not int or version < 1:
        raise DamagedTraceError(f"{SESSION_NAME} does not say which format the trace has.")
    if version > FORMAT_VERSION:
        raise FormatTooNewError(
            f"This trace has format {version}; diffkeeper {__version__} reads up to {FORMAT_VERSION}. "
            "Open it with a newer diffkeeper: pip install --upgrade diffkeeper"
        )
    return _facts_of(document)


def _parse_object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedTraceError(f"{SESSION_NAME} is not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise DamagedTraceError(f"{SESSION_NAME} does not hold an object.")
    return document


def _facts_of(document: dict[str, Any]) -> SessionFacts:
    hints = {name: hint for name, hint in typing.get_type_hints(SessionFacts).items() if name != "extra"}
    known = {name: _checked(name, document[name], hint) for name, hint in hints.items() if name in document}
    if "trace_id" not in known:
        raise DamagedTraceError(f"{SESSION_NAME} does not name the trace.")
    if known.get("state") not in ("recording", "sealed"):
        raise DamagedTraceError(f"{SESSION_NAME} does not say whether the recording ended.")
    extra = {name: value for name, value in document.items() if name not in hints}
    return SessionFacts(**known, extra=extra)


def _checked(name: str, value: Any, hint: Any) -> Any:
    if hint == list[RootFacts]:
        return [_root_of(item) for item in _checked(name, value, list[dict[str, Any]])]
    if not _fits(value, hint):
        raise DamagedTraceError(f"{SESSION_NAME}: {name!r} is not what it should be.")
    return value


def _root_of(document: dict[str, Any]) -> RootFacts:
    hints = typing.get_type_hints(RootFacts)
    known = {name: _checked(f"roots.{name}", document.get(name), hint) for name, hint in hints.items()}
    return RootFacts(**known)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if arguments:  # X | None
        return any(_fits(value, argument) for argument in arguments)
    return type(value) is hint


def read_session(trace: str | os.PathLike[str]) -> SessionFacts:
    """Return the facts of the trace at ``trace``; raise NoSuchTraceError, FormatTooNewError or DamagedTraceError."""
    path = Path(trace, SESSION_NAME)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SESSION_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoSuchTraceError(
            f"There is no trace at {os.fspath(trace)}: record one with `diffkeeper record`, "
            "or name one with --state-dir."
        ) from error
    except OSError as error:
        raise TraceError(f"Cannot read {path}: {error.strerror}.") from error
    if len(data) > MAX_SESSION_BYTES:
        raise DamagedTraceError(f"{path} is larger than any session is.")
    return parse_session(data)


def write_session(trace: str | os.PathLike[str], facts: SessionFacts) -> None:
    """Replace session.json of the trace at ``trace``: after a crash at any moment the old or the new one is there."""
    path = Path(trace, SESSION_NAME)
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | beneath.CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(dump_session(facts))
            file.flush()
            os.fsync(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)
    _sync_directory(trace)


def _sync_directory(path: str | os.PathLike[str]) -> None:
    if not beneath.HAS_DESCRIPTORS:
        return
    descriptor = beneath.open_directory(os.fspath(path), follows=True)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync a directory
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_bytes(trace: Path) -> int:
    """Return how much of the disk a trace takes: what its journal and its store do."""
    return sum(map(folder_bytes, (trace / JOURNAL_NAME, trace / STORE_NAME)))


def folder_bytes(folder: Path) -> int:
    """Return how much of the disk the files of a folder take; one that is not there takes nothing."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    count += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
                except FileNotFoundError:
                    continue  # RocksDB removes files as it likes
    except OSError:
        return count
    return count


def trace_state(trace: str | os.PathLike[str]) -> str:
    """Return "recording", "broken" or "sealed"; raise as read_session does."""
    facts = read_session(trace)
    if facts.state == "sealed":
        return "sealed"
    return "recording" if is_locked(trace) else "broken"


def is_locked(trace: str | os.PathLike[str]) -> bool:
    """Say whether a recorder holds the lock of the trace at ``trace``, changing nothing."""
    with contextlib.suppress(FileNotFoundError), _opened_lock(trace, os.O_RDONLY) as descriptor:
        return not lock.try_shared(descriptor)
    return False


@contextlib.contextmanager
def _opened_lock(trace: str | os.PathLike[str], flags: int) -> Iterator[int]:
    try:
        descriptor = os.open(Path(trace, LOCK_NAME), flags | beneath.CLOEXEC, 0o600)
    except PermissionError as error:
        raise TraceError(f"Cannot open the lock of {os.fspath(trace)}: {error.strerror}.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class TraceLock:
    """Hold the lock of a trace while it is recorded; the kernel lets go of it when the process dies."""

    # A reader that asks is_locked() holds the lock for some microseconds: that is no reason to refuse.
    PATIENCE_NS = 100_000_000

    def __init__(self, trace: str | os.PathLike[str]) -> None:
        """Take the lock; raise StateDirectoryError where another process records into ``trace``."""
        self.descriptor = os.open(Path(trace, LOCK_NAME), os.O_RDWR | os.O_CREAT | beneath.CLOEXEC, 0o600)
        deadline = time.monotonic_ns() + self.PATIENCE_NS
        while not self._taken():
            if time.monotonic_ns() > deadline:
                os.close(self.descriptor)
                raise StateDirectoryError(
                    f"{os.fspath(trace)} is being recorded by another process: wait for it, or use another --state-dir."
                )
            time.sleep(0.005)

    def _taken(self) -> bool:
        return lock.try_exclusive(self.descriptor)

    def release(self) -> None:
        """Let go of the lock; a second call does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> TraceLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()
