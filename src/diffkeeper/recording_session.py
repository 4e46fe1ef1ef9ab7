"""One recording, from its first file to its seal; ``recording.record`` has checked everything by then.

Until the command starts, whatever fails is undone. From then on nothing that fails here may reach the command: it is
noted, the trace says that it is not complete and why, and the command's exit code is returned.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffkeeper import beneath
from diffkeeper.engines.protocol import Engine, EngineRequest, ring_bytes_within
from diffkeeper.errors import DiffkeeperError, RecordError, StateDirectoryError
from diffkeeper.file_time import file_time_ns, next_file_time_ns
from diffkeeper.launch import check_command, ignored_signals
from diffkeeper.model.keeping import ALWAYS, Fate, policy_of
from diffkeeper.model.verdict import Verdict, judge
from diffkeeper.patience import OutOfTimeError, Patience
from diffkeeper.recording_facts import first_facts, first_line
from diffkeeper.recording_journal import PUT_OFF_SEGMENTS, RingJournal
from diffkeeper.recording_leases import Leases
from diffkeeper.recording_settings import (
    EXIT_TIMED_OUT,
    PROCESS_AUTO,
    PROCESS_LATER,
    BaselineProgress,
    Outcome,
    Settings,
)
from diffkeeper.running import Command, Waiting, command_of, forwarder_of, supervision_of
from diffkeeper.state_directory import StateDirectory
from diffkeeper.store.format import (
    DROP_OLDEST,
    FAIL,
    SESSION_NAME,
    SessionFacts,
    TraceLock,
    disk_bytes,
    dump_session,
    write_session,
)
from diffkeeper.supervise import Ending
from diffkeeper.verification.noting import differing
from diffkeeper.verification.result import LEFT, NOT_YET, OFF, OUT_OF_TIME
from diffkeeper.watch_roots import WatchRoot

if TYPE_CHECKING:
    from diffkeeper.baseline import Cover

FAILURES = "failures"  # the key of engine_facts that lists why a trace is not complete

_PATIENCE = 0.09  # of the run: with what is left of a tenth the trace is sealed
_LEAST_PATIENCE_S = 0.9

_Take = Callable[[Path, SessionFacts, Sequence[WatchRoot], BaselineProgress, int, "Cover | None"], int]


class Session:
    """Hold one recording."""

    def __init__(
        self, settings: Settings, engine: Engine, roots: Sequence[WatchRoot], directory: StateDirectory
    ) -> None:
        """Start nothing yet."""
        self._settings = settings
        self._engine = engine
        self._roots = roots
        self._directory = directory
        self._failures: list[str] = []
        self._verifies = False
        self._leases: Leases | None = None
        self._supervision: Waiting | None = None
        self._worker_fileno = -1
        self._facts = first_facts(settings, engine.name, roots)

    def run(self) -> Outcome:
        """Record the command and return how it ended."""
        ignored = ignored_signals()
        self._engine.prepare()
        held = command_of(self._settings.argv, self._settings.environment, ignored)
        with contextlib.ExitStack() as stack:
            ending = self._until_ended(stack, held, ignored)
            if not self._was_full:
                self._stop_engine()
            self._note_ending(ending)
            fate = self._settings.keep(self._exit_code(ending), ending.wait_status)
            if fate is not Fate.DISCARD:
                self._finish(fate)
        if fate is Fate.DISCARD:
            self._discard()
        return self._outcome(ending, fate)

    def _until_ended(self, stack: contextlib.ExitStack, held: Command, ignored: frozenset[int]) -> Ending:
        try:
            self._set_up(stack, held.pid)
            self._engine.adopt(held.pid)
        except OSError as error:
            self._give_up(stack, held)
            raise StateDirectoryError(
                f"cannot record into {self._directory.path}: {error.strerror}; choose another --state-dir"
            ) from error
        except BaseException:
            self._give_up(stack, held)
            raise
        with self._signals_go_to(held, ignored):
            supervision = supervision_of(held, self._settings.timeout_s, self._tick, self._engine.let_go)
            self._supervision = supervision
            try:
                self._release(held)
            except BaseException:
                self._undo(stack)
                raise
            if self._engine.fileno() >= 0 or not held.pid:
                supervision.serve(self._engine.fileno(), self._serve_engine)
            return supervision.wait()

    def _signals_go_to(self, held: Command, ignored: frozenset[int]) -> contextlib.AbstractContextManager[object]:
        is_wanted = self._settings.forward_signals
        return forwarder_of(held, ignored, self._engine.let_go) if is_wanted else contextlib.nullcontext()

    def _set_up(self, stack: contextlib.ExitStack, command: int) -> None:
        """Make the trace directory, start the capture and take the baseline."""
        self._directory.claim()
        path, settings = self._directory.path, self._settings
        stack.enter_context(TraceLock(path))
        self._write_session()
        has_worker, memory_bytes = settings.process != PROCESS_LATER, settings.memory_bytes
        journal = RingJournal(
            path,
            self._engine,
            settings.max_bytes,
            drops=self._drops,
            has_worker=has_worker,
            memory_bytes=memory_bytes,
        )
        self._journal = stack.enter_context(journal)
        if self._settings.keep is not policy_of(ALWAYS) and not self._drops:
            self._journal.worker_after = PUT_OFF_SEGMENTS
        excluded = beneath.open_directory(os.fspath(path), follows=True)
        stack.callback(beneath.close, excluded)
        roots = tuple(root.descriptor for root in self._roots)
        segments, interval_ns = self._journal.first_segments(), self._settings.mapped_interval_ns
        request = EngineRequest(
            self._facts.trace_id,
            roots,
            (excluded,),
            segments,
            mapped_interval_ns=interval_ns,
            held_pid=command if settings.may_hold else 0,
            ring_bytes=ring_bytes_within(settings.max_bytes),
            places=tuple((root.label, root.path) for root in self._roots),
            patterns=settings.patterns,
            trace_path=os.path.realpath(os.fsencode(path)),
        )
        self._engine.begin(request)
        take = _import_what_comes_next()  # while the helper loads
        self._journal.open_store()
        engine_facts = self._engine.wait_until_started()
        self._facts.engine_facts = {**engine_facts.details, "exceptions": list(engine_facts.exceptions)}
        for what in engine_facts.details.get("silent", ()):
            self._fail(f"a trial at the start found that the kernel tells nothing of {what}")
        self._verifies = self._settings.verify and engine_facts.is_live
        self._settings.announce(first_line(self._facts, path))
        self._facts.baseline_realtime_ns = file_time_ns()
        self._take_baseline(stack, take, roots)
        self._settings.baseline_done()

    def _take_baseline(self, stack: contextlib.ExitStack, take: _Take, roots: Sequence[int]) -> None:
        settings, path, facts = self._settings, self._directory.path, self._facts
        if settings.baseline == "touched" and settings.leases and hasattr(os, "fork"):
            self._leases = stack.enter_context(Leases(path, facts.trace_id, self._engine, roots))
        cover = None if self._leases is None else self._leases.cover
        budget = settings.baseline_budget_bytes
        if settings.max_bytes:
            budget = min(budget, settings.max_bytes // 8)
        left = take(path, facts, self._roots, settings.baseline_progress, budget, cover)
        if self._leases is not None:
            self._leases.settle()
            self._leases.copy_early(left)
            facts.counters["leases"] = self._leases.leased
            facts.counters["leases_refused"] = self._leases.refused
        if settings.max_bytes:
            _check_room(path, settings.max_bytes)

    @property
    def _drops(self) -> bool:
        return bool(self._settings.max_bytes) and self._settings.on_full == DROP_OLDEST

    @property
    def _was_full(self) -> bool:
        return self._facts.full_monotonic_ns is not None

    def _give_up(self, stack: contextlib.ExitStack, held: Command) -> None:
        held.abandon()
        self._undo(stack)

    def _undo(self, stack: contextlib.ExitStack) -> None:
        """Leave no trace of a recording that never began."""
        stack.close()
        self._engine.close()
        self._directory.undo()

    def _release(self, held: Command) -> None:
        """Start the command; its first instruction comes after the recording's time zero."""
        self._facts.command_pid = held.pid
        self._facts.start_realtime_ns = time.time_ns()
        self._facts.start_monotonic_ns = time.monotonic_ns()
        held.release()
        with self._noting_failures("the session could not be written"):
            self._write_session()
            if self._settings.keep is policy_of(ALWAYS):
                self._directory.keep()

    def _serve_engine(self) -> bool:
        """Take the engine's news; return whether there will be more."""
        if self._was_full:
            return False
        try:
            self._journal.feed()
            self._look_at_size()
        except (DiffkeeperError, OSError) as error:
            self._fail(str(error))
            return False
        return True

    def _tick(self) -> None:
        with self._noting_failures("processing beside the command failed"):
            self._journal.tick()
            if self._worker_fileno < 0 and self._supervision is not None:
                self._worker_fileno = self._journal.worker_fileno
                if self._worker_fileno >= 0:
                    self._supervision.serve(self._worker_fileno, self._serve_worker)
        self._look_at_size()

    def _serve_worker(self) -> bool:
        goes_on = False
        with self._noting_failures("processing beside the command failed"):
            goes_on = self._journal.hear()
        return goes_on

    def _look_at_size(self) -> None:
        """End the recording if the trace is full, and the command if that was asked for."""
        if self._was_full or not self._journal.is_full:
            return
        self._facts.full_monotonic_ns = time.monotonic_ns()
        self._verifies = False  # nobody knows what the last state should be
        self._stop_engine()
        with self._noting_failures("the session could not be written"):
            self._write_session()
        if self._settings.on_full == FAIL and self._supervision is not None:
            self._supervision.end()

    def _stop_engine(self) -> None:
        self._facts.verification = NOT_YET if self._verifies else OFF
        self._facts.stopped_realtime_ns = next_file_time_ns() if self._verifies else file_time_ns()
        with self._noting_failures("the last changes may be missing"):
            self._note_losses(self._journal.stop())
        if self._leases is not None:
            self._leases.finish()
            self._facts.counters["uncovered"] = self._leases.uncovered
            # Others on this machine may hold leases as well: without one of ours it was not us.
            self._facts.counters["disturbed_opens"] = self._journal.disturbed if self._leases.leased else 0
        self._engine.release()

    def _note_losses(self, lost: Mapping[str, int]) -> None:
        for channel, count in lost.items():
            self._facts.counters[f"lost_{channel}"] = count
        if any(lost.values()) and self._journal.shortage:
            self._fail(f"changes were lost: {self._journal.shortage}")

    def _note_ending(self, ending: Ending) -> None:
        self._facts.end_monotonic_ns = ending.ended_ns
        self._facts.wait_status = ending.wait_status
        self._facts.timed_out = ending.timed_out and not self._was_ended
        self._facts.exit_code = _exit_code(ending, self._facts.timed_out)
        if not self._journal.is_whole:
            self._fail(f"{self._directory.path}, or a part of it, was deleted while the command ran")
        if not self._directory.path.is_dir():
            return
        with self._noting_failures("the session could not be written"):
            self._write_session()

    def _write_session(self) -> None:
        """Write the facts as they are; a kill of this process leaves them, and the seal makes them last."""
        path = self._directory.path / SESSION_NAME
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_bytes(dump_session(self._facts))
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(path)

    def _finish(self, fate: Fate) -> None:
        if not self._directory.path.is_dir():
            return
        if fate is Fate.KEEP and self._settings.process != PROCESS_LATER:
            self._process()
        elif fate is Fate.KEEP and self._verifies:
            self._facts.verification = LEFT
        self._seal()
        with self._noting_failures("the former trace could not be deleted"):
            self._directory.keep()

    def _discard(self) -> None:
        """Delete the trace; what it would have replaced is there again."""
        try:
            self._directory.undo()
        except OSError as error:
            self._settings.announce(f"{self._directory.path} could not be deleted: {error.strerror}")

    def _process(self) -> None:
        """Make the trace quick to read and seal it; what fails here can be made up for by any reader."""
        try:
            lacking = self._journal.process(self._facts, self._patience(), verifies=self._verifies)
            self._facts.processed = True
            self._failures += [] if self._failures else lacking
            self._failures += differing(self._facts)
        except OutOfTimeError:
            self._facts.verification = OUT_OF_TIME if self._verifies else OFF
        except KeyboardInterrupt:
            self._settings.announce("processing was interrupted; the first reader of the trace does it")
        except Exception as error:  # whatever it is, the journal is whole and the command's exit code is due
            self._settings.announce(f"processing failed ({error}); the first reader of the trace tries again")

    def _patience(self) -> Patience:
        """Return how long the exit code may wait: a tenth of the run, but no less than a second."""
        if self._settings.process != PROCESS_AUTO:
            return Patience()
        ended_ns = self._facts.end_monotonic_ns or time.monotonic_ns()
        run_s = (ended_ns - self._facts.start_monotonic_ns) / 1e9
        return Patience(ended_ns / 1e9 + max(_LEAST_PATIENCE_S, _PATIENCE * run_s))

    def _seal(self) -> None:
        self._facts.engine_facts[FAILURES] = list(self._failures)
        is_known = self._facts.processed or bool(self._failures)
        self._facts.complete = self._verdict().is_complete if is_known else None
        self._facts.state = "sealed"
        with self._noting_failures("the trace could not be sealed"):
            write_session(self._directory.path, self._facts)
            if self._facts.processed:
                self._journal.remove()

    def _verdict(self) -> Verdict:
        return judge(self._facts.counters, self._failures, ended=_ended(self._facts))

    @property
    def _was_ended(self) -> bool:
        """Say whether the command was ended as the trace was full."""
        return self._was_full and self._settings.on_full == FAIL

    def _exit_code(self, ending: Ending) -> int:
        return RecordError.exit_code if self._was_ended else _exit_code(ending, self._facts.timed_out)

    def _outcome(self, ending: Ending, fate: Fate) -> Outcome:
        return Outcome(
            exit_code=self._exit_code(ending),
            wait_status=ending.wait_status,
            timed_out=self._facts.timed_out,
            trace_path=self._directory.path,
            facts=self._facts,
            failures=tuple(self._failures),
            defects=self._verdict().reasons,
            was_interrupted=ending.was_interrupted,
            is_kept=fate is not Fate.DISCARD,
        )

    @contextlib.contextmanager
    def _noting_failures(self, meaning: str) -> Iterator[None]:
        try:
            yield
        except (DiffkeeperError, OSError) as error:
            self._fail(f"{meaning}: {error}")

    def _fail(self, reason: str) -> None:
        if reason not in self._failures:
            self._failures.append(reason)


def run_plainly(argv: tuple[bytes, ...], environment: Mapping[bytes, bytes], timeout_s: float | None) -> int:
    """Run a command as a recording does, and return its exit code."""
    ignored = ignored_signals()
    check_command(argv[0], environment)
    held = command_of(argv, environment, ignored)
    with forwarder_of(held, ignored, lambda: None):
        supervision = supervision_of(held, timeout_s, lambda: None, lambda: None)
        held.release()
        ending = supervision.wait()
    return _exit_code(ending, ending.timed_out)


def _check_room(path: Path, max_bytes: int) -> None:
    """Raise RecordError if the state before the command leaves no room for what is to be recorded."""
    used = disk_bytes(path)
    if used > max_bytes // 2:
        from diffkeeper.reporters.numbers import size

        raise RecordError(
            f"the state before the command takes {size(used)} of the {size(max_bytes)} of --max-size: "
            "give it more, or keep less with --baseline touched or index"
        )


def _ended(facts: SessionFacts) -> str:
    """Return why nothing was recorded any more before the command's end, if that was so."""
    if facts.full_monotonic_ns is None:
        return ""
    from diffkeeper.reporters.limits import full_words  # which few recordings need

    return full_words(facts.full_monotonic_ns - facts.start_monotonic_ns, facts.max_bytes)


def _exit_code(ending: Ending, timed_out: bool) -> int:
    if timed_out:
        return EXIT_TIMED_OUT
    number = ending.wait_status & 0x7F
    return 128 + number if number else ending.wait_status >> 8 & 0xFF


def _import_what_comes_next() -> _Take:
    import diffkeeper.processing.processor  # RocksDB, after the command; nobody waits for it now
    import diffkeeper.verification.run  # noqa: F401
    from diffkeeper.recording_baseline import take

    return take
