"""Run a command under an engine and leave a trace of what it did to the watch roots.

    check everything ─▶ helper and held child ─▶ state directory, lock ─▶ capture ─▶ baseline ─▶ command
                     ─▶ stop capture ─▶ process ─▶ seal

Until the command starts, a failure leaves nothing behind. From then on nothing that fails here may harm it: the trace
says what is missing, and the command's exit code is returned.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from diffkeeper import engines
from diffkeeper.engines.protocol import MAPPED_INTERVAL_NS, Engine
from diffkeeper.errors import EngineUnavailableError, RecordError
from diffkeeper.launch import check_command, own_environment
from diffkeeper.model.keeping import ALWAYS, POLICIES, Policy, policy_of
from diffkeeper.recording_session import Session, run_plainly
from diffkeeper.recording_settings import (
    BUDGET_BYTES,
    LEAST_MEMORY_BYTES,
    MEMORY_BYTES,
    PROCESS_NOW,
    PROCESSINGS,
    Announce,
    BaselineProgress,
    Outcome,
    Settings,
)
from diffkeeper.state_directory import StateDirectory
from diffkeeper.store.format import DROP_OLDEST, FAIL, STOP
from diffkeeper.watch_roots import WatchRoot, close_roots, is_inside, open_roots

BASELINES = ("touched", "full", "index")
ON_FULL = (DROP_OLDEST, STOP, FAIL)
LEAST_BYTES = 128 << 20  # of a trace whose size is limited
_SHORTEST_MAPPED_INTERVAL_NS = 1_000_000


__all__ = ["BASELINES", "ON_FULL", "PROCESSINGS", "Outcome", "record"]


def record(
    argv: Sequence[str | bytes],
    *,
    state_dir: str | os.PathLike[str] | StateDirectory = "diffkeeper-trace",
    watch: Sequence[str | os.PathLike[str]] = (".",),
    baseline: str = "touched",
    baseline_budget_bytes: int = BUDGET_BYTES,
    leases: bool = True,
    exclude: Sequence[str] = (),
    force: bool = False,
    timeout: float | None = None,
    engine: str | Engine | engines.Choice = "ebpf",
    environment: Mapping[bytes, bytes] | None = None,
    forward_signals: bool = False,
    verify: bool = True,
    mmap_interval: float = MAPPED_INTERVAL_NS / 1e9,
    may_hold: bool = True,
    keep: str | Policy = ALWAYS,
    process: str = PROCESS_NOW,
    memory_bytes: int = MEMORY_BYTES,
    max_bytes: int = 0,
    on_full: str = DROP_OLDEST,
    announce: Announce = lambda line: None,
    baseline_progress: BaselineProgress = lambda entries, content_bytes: None,
    baseline_done: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run ``argv`` and record what it and every other process change below the watched directories.

    ``baseline`` says what is kept from before the command: ``touched`` copies small files first, as many as
    ``baseline_budget_bytes`` allow, and larger ones when somebody is about to change them, if ``leases`` may be held
    for that; ``full`` copies all, ``index`` nothing.
    ``engine`` is ``ebpf``, ``watch``, or ``auto`` for the first of these that can run.
    ``timeout`` is in seconds, as is ``mmap_interval``, the time between two looks at files that are mapped shared and
    writable, whose bytes change without a call. With ``verify`` the last state is held against the files when the
    command has ended, and what differs is read back. ``may_hold`` lets the command be stopped for moments in which it
    changes more than can be taken. ``keep`` says when the trace is kept: ``always``, ``on-failure``, ``on-signal`` or
    ``never``; another is deleted without being processed. ``process`` says how long processing and verification may
    take after the command: as long as they do (``now``), a tenth of the run but no less than a second (``auto``), no
    time (``later``); what is not done then is done by the first reader, but for the verification. It takes no more
    than about ``memory_bytes`` (64 MiB at least), and what the tree of the files takes. ``max_bytes`` is what the trace
    may take on disk, 0 for any; at that size ``on_full`` has the oldest history dropped (``drop-oldest``), the
    recording ended (``stop``), or the command too, with exit code 125 (``fail``). ``environment``
    replaces this process's own. With ``forward_signals`` (main thread only) signals sent to this process go to the
    command while it runs, as a launcher's
    should; without it Ctrl-C raises KeyboardInterrupt after the command has ended and the trace is sealed.

    Raises RecordError (bad arguments, no engine, unusable directory), CommandNotFoundError or
    CommandNotExecutableError; then nothing was touched.
    """
    if baseline not in BASELINES:
        raise RecordError(f"no such baseline: {baseline!r}; choose one of {', '.join(BASELINES)}")
    if isinstance(keep, str) and keep not in POLICIES:
        raise RecordError(f"no such policy: {keep!r}; choose one of {', '.join(POLICIES)}")
    if process not in PROCESSINGS:
        raise RecordError(f"no such processing: {process!r}; choose one of {', '.join(PROCESSINGS)}")
    _check_limit(max_bytes, on_full)
    command = tuple(os.fsencode(argument) for argument in argv)
    variables = own_environment() if environment is None else environment
    if not command:
        raise RecordError("no command to record; write it after --")
    choice = _choice(engine)
    with contextlib.ExitStack() as stack:
        roots = open_roots(watch)
        stack.callback(close_roots, roots)
        directory = state_dir if isinstance(state_dir, StateDirectory) else StateDirectory(Path(state_dir), force)
        _check_apart(roots, directory.path)
        patterns = _patterns(roots, exclude)
        check_command(command[0], variables)
        settings = Settings(
            command,
            variables,
            baseline,
            patterns,
            timeout,
            forward_signals,
            announce,
            baseline_progress,
            baseline_done,
            verify,
            max(int(mmap_interval * 1e9), _SHORTEST_MAPPED_INTERVAL_NS),
            baseline_budget_bytes,
            leases,
            may_hold,
            policy_of(keep) if isinstance(keep, str) else keep,
            process,
            max(memory_bytes, LEAST_MEMORY_BYTES),
            max_bytes,
            on_full,
        )
        for one in choice.engines:
            stack.callback(one.close)
        outcome = _run(settings, choice, roots, directory)
    if outcome.was_interrupted and not forward_signals:
        raise KeyboardInterrupt
    return outcome


def run_unrecorded(
    argv: Sequence[str], *, environment: Mapping[bytes, bytes] | None = None, timeout: float | None = None
) -> int:
    """Run a command as ``record`` runs it, without a recording; return its exit code, 124 when ``timeout`` was hit.

    Signals go to the command. Raises CommandNotFoundError or CommandNotExecutableError.
    """
    variables = own_environment() if environment is None else environment
    return run_plainly(tuple(os.fsencode(argument) for argument in argv), variables, timeout)


def _choice(engine: str | Engine | engines.Choice) -> engines.Choice:
    if isinstance(engine, engines.Choice):
        return engine
    return engines.choose(engine) if isinstance(engine, str) else engines.Choice((engine,))


def _run(settings: Settings, choice: engines.Choice, roots: Sequence[WatchRoot], directory: StateDirectory) -> Outcome:
    """Record with the first engine that starts; what a refused one had begun is undone by then."""
    for refusal in choice.refused:
        settings.announce(refusal.text())
    for engine in choice.engines:
        try:
            return Session(settings, engine, roots, directory).run()
        except EngineUnavailableError as error:
            if engine is choice.engines[-1]:
                raise
            settings.announce(str(error))
        finally:
            engine.close()
    raise EngineUnavailableError("there is no engine to record with")


def _check_limit(max_bytes: int, on_full: str) -> None:
    """Raise RecordError unless a trace can be kept below that size in that way."""
    if on_full not in ON_FULL:
        raise RecordError(f"no such way to keep a size: {on_full!r}; choose one of {', '.join(ON_FULL)}")
    if 0 < max_bytes < LEAST_BYTES:
        least = f"the journal alone takes half of {LEAST_BYTES >> 20}M; give it that or more"
        raise RecordError(f"a trace cannot be kept below {max_bytes:,} bytes: {least}")


def _check_apart(roots: Sequence[WatchRoot], path: Path) -> None:
    """Raise RecordError if the recording would watch nothing but itself."""
    own = os.path.realpath(os.fsencode(path))
    for root in roots:
        if root.path == own or is_inside(root.path, own):
            raise RecordError(f"cannot watch {os.fsdecode(root.path)!r}: it is the state directory; choose another one")


def _patterns(roots: Sequence[WatchRoot], exclude: Sequence[str]) -> tuple[str, ...]:
    from diffkeeper.rules import Rules, collect_patterns

    patterns = collect_patterns([(root.label, root.path) for root in roots], exclude)
    Rules.from_patterns(patterns)
    return tuple(patterns)
