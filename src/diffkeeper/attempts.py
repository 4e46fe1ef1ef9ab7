"""Run a command again and again, each attempt recorded, and keep the one that failed beside the nearest that passed.

    claim DIR ─▶ (attempt in a child process ─▶ its trace moves to DIR/attempt-N, or is deleted)* ─▶ keep what is wanted

A child for each attempt: the store's threads, which a recording starts, do not survive the fork of the next command,
and under sudo each recording gives up for good what the next one needs. An attempt that passed is left unprocessed
until it is known whether it is wanted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from diffkeeper.errors import CommandNotExecutableError, CommandNotFoundError, DiffkeeperError, RecordError
from diffkeeper.forwarding import forwarded_signals
from diffkeeper.launch import ignored_signals
from diffkeeper.model.keeping import ALWAYS, NEVER, ON_SIGNAL, Fate, Policy, is_by_signal, is_failure, policy_of
from diffkeeper.model.values import dataclass
from diffkeeper.recording import Outcome
from diffkeeper.state_directory import AttemptDirectory, StateDirectory
from diffkeeper.store.attempts import AttemptsFacts, attempt_name, write_attempts

_OF_CODE = {error.exit_code: error for error in (CommandNotExecutableError, CommandNotFoundError)}
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}  # no attempt is begun after one of these

Record = Callable[[StateDirectory, Policy], Outcome]
Tell = Callable[["Attempt", Outcome], int]  # returns the exit code that the attempt is worth: --strict may add one


@dataclass(frozen=True, slots=True)
class Attempt:
    """Say how one attempt ended. ``is_wanted``: by the policy it is what is looked for, a failure or a signal."""

    number: int
    exit_code: int = 0
    has_failed: bool = False
    is_wanted: bool = False
    fate: str = Fate.DISCARD.value
    was_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """Say how all attempts ended; ``exit_code`` is that of the attempt that failed, 0 if none did."""

    facts: AttemptsFacts
    exit_code: int
    interrupted: int = 0  # the attempt that was interrupted, if it was kept


class Attempts:
    """Hold a series of attempts."""

    def __init__(
        self, record: Record, tell: Tell, directory: StateDirectory, keep: str, most: int | None, until_fail: bool
    ) -> None:
        """Run nothing yet. ``record`` and ``tell`` are called in the process of an attempt; ``most`` None: no end."""
        self._record = record
        self._tell = tell
        self._directory = directory
        self._keep = keep
        self._most = most
        self._until_fail = until_fail
        self._facts = AttemptsFacts()
        self._found = 0  # the first that is what is looked for
        self._candidate = 0  # passed last, and is not processed
        self._exit_code = 0
        self._interrupted = 0
        self._signal = 0
        self._was_killed = False  # the recorder of an attempt

    def run(self) -> Result:
        """Make the attempts. Raises RecordError if one cannot be recorded; what was kept until then stays."""
        self._directory.claim()
        try:
            with _Signals() as signals:
                while not self._is_over(signals):
                    self._take(self._attempt(signals))
        finally:
            self._settle()
        return Result(self._facts, self._exit_code or (128 + self._signal if self._signal else 0), self._interrupted)

    @property
    def has_begun(self) -> bool:
        """Say whether the command may have run."""
        return bool(self._facts.attempts) or self._was_killed

    def _is_over(self, signals: _Signals) -> bool:
        self._signal = self._signal or signals.arrived()
        is_found = self._until_fail and self._found
        return bool(self._signal or is_found or self._facts.attempts == self._most)

    def _attempt(self, signals: _Signals) -> Attempt:
        document = signals.run_child(lambda: self._one(self._facts.attempts + 1))
        if document is None:
            self._was_killed = True
            raise RecordError("the recorder of an attempt was killed: no further attempt is made")
        if "signal" in document:
            self._signal = document["signal"]
            return Attempt(0)
        if "error" in document:
            raise _OF_CODE.get(document["code"], RecordError)(document["error"])
        return replace(Attempt(**document), was_interrupted=signals.arrived() != 0)

    def _one(self, number: int) -> dict[str, Any]:
        """Make one attempt, in its own process; return what the other one must know."""
        try:
            outcome = self._record(AttemptDirectory(self._directory.path), self._policy())
        except DiffkeeperError as error:
            return {"error": str(error), "code": error.exit_code}
        except KeyboardInterrupt as end:
            return {"signal": getattr(end, "number", int(signal.SIGINT))}
        attempt = self._judge(number, outcome)
        if outcome.is_kept:
            place = AttemptDirectory(self._directory.path).move(attempt_name(number))
            outcome = outcome.at(place)
        attempt = replace(attempt, exit_code=self._tell(attempt, outcome))
        if attempt.is_wanted and outcome.is_kept and self._candidate and self._keep != ALWAYS:
            self._finish_candidate()
        return asdict(attempt)

    def _judge(self, number: int, outcome: Outcome) -> Attempt:
        code, status = outcome.exit_code, outcome.wait_status
        return Attempt(
            number,
            code,
            is_failure(code, status),
            self._is_wanted(code, status),
            self._policy()(code, status).value,
        )

    def _is_wanted(self, exit_code: int, wait_status: int) -> bool:
        return (is_by_signal if self._keep == ON_SIGNAL else is_failure)(exit_code, wait_status)

    def _policy(self) -> Policy:
        """Return what becomes of the next attempt's trace, given what is there."""
        if self._keep in (ALWAYS, NEVER):
            return policy_of(self._keep)
        facts = self._facts

        def decide(exit_code: int, wait_status: int) -> Fate:
            if self._is_wanted(exit_code, wait_status):
                return Fate.DISCARD if self._found else Fate.KEEP
            if is_failure(exit_code, wait_status) or facts.passing:
                return Fate.DISCARD
            return Fate.KEEP if facts.failing else Fate.DEFER

        return decide

    def _finish_candidate(self) -> None:
        from diffkeeper.finishing import finish  # the store, in the attempt's process only

        try:
            finish(self._place(self._candidate))
        except (DiffkeeperError, OSError) as error:
            sys.stderr.write(f"diffkeeper: attempt {self._candidate} is left to its first reader to process: {error}\n")

    def _take(self, attempt: Attempt) -> None:
        """Note how an attempt ended, and let go of what is not wanted any more."""
        if not attempt.number:
            return
        facts = self._facts
        facts.attempts = attempt.number
        is_kept = attempt.fate != Fate.DISCARD.value
        if attempt.was_interrupted:
            self._interrupted = attempt.number if is_kept else 0
        facts.failed += attempt.has_failed and not attempt.was_interrupted
        if attempt.exit_code and (not self._exit_code or (attempt.is_wanted and not self._found)):
            self._exit_code = attempt.exit_code
        self._found = self._found or (attempt.number if attempt.is_wanted else 0)
        if is_kept:
            self._note_kept(attempt)
        with contextlib.suppress(OSError):  # the command may have removed it all
            write_attempts(self._directory.path, facts)

    def _note_kept(self, attempt: Attempt) -> None:
        facts = self._facts
        facts.kept.append(attempt.number)
        if attempt.is_wanted and not facts.failing:
            facts.failing, facts.passing = attempt.number, facts.passing or self._candidate
        elif not attempt.has_failed and (not facts.passing or not facts.failing):
            if self._keep != ALWAYS:
                self._drop(self._candidate if not facts.failing else 0)
            self._candidate = attempt.number
            facts.passing = attempt.number if facts.failing else 0

    def _drop(self, number: int) -> None:
        if number:
            self._facts.kept.remove(number)
            shutil.rmtree(self._place(number), ignore_errors=True)

    def _settle(self) -> None:
        """Keep what was found; if that is nothing, leave the directory as it was."""
        if not self._facts.failing and self._keep != ALWAYS:
            self._drop(self._candidate)
        if self._facts.kept or self._directory.holds_trace():
            self._directory.keep()
            with contextlib.suppress(OSError):
                write_attempts(self._directory.path, self._facts)
        else:
            self._directory.undo()

    def _place(self, number: int) -> Path:
        return self._directory.path / attempt_name(number)


class _Signals:
    """Take the signals of the process that makes the attempts: pass them on, and remember those that end it."""

    def __init__(self) -> None:
        ignored = ignored_signals()
        self._ignored_children = signal.SIGCHLD in ignored
        self._taken = set(forwarded_signals(ignored)) | {signal.SIGCHLD}
        self._ended_by = 0

    def __enter__(self) -> _Signals:
        if self._ignored_children:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody could wait
        self._former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._taken)
        return self

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)

    def arrived(self) -> int:
        """Return the signal that says to make no further attempt, 0 if there was none."""
        while (received := signal.sigtimedwait(self._taken, 0)) is not None:
            self._note(received.si_signo)
        return self._ended_by

    def _note(self, number: int) -> None:
        if number in _ENDING:
            self._ended_by = self._ended_by or number

    def run_child(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Run ``work`` in a child process; return its answer, None if the child was killed."""
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(readable)
            self._be_child(work, writable)
        os.close(writable)
        self._wait(pid)
        with open(readable, "rb") as pipe:
            answer = pipe.read()
        document: dict[str, Any] | None = json.loads(answer) if answer else None
        return document

    def _be_child(self, work: Callable[[], dict[str, Any]], pipe: int) -> None:
        try:
            if self._ignored_children:
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)
            os.write(pipe, json.dumps(work()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(0)

    def _wait(self, pid: int) -> None:
        while True:
            received = signal.sigwaitinfo(self._taken)
            if received.si_signo == signal.SIGCHLD:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
                continue
            self._note(received.si_signo)
            if received.si_code <= 0:  # from a process; what the terminal sends reaches the child by itself
                os.kill(pid, received.si_signo)
