"""``record --repeat`` and ``--until-fail``: many attempts, one line for each, and the one that failed in full."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from diffkeeper import helper_start
from diffkeeper.attempts import Attempt, Attempts, Result
from diffkeeper.cli.record_report import Report, as_object, strict_exit_code, write
from diffkeeper.cli.record_summary import ending, state_option
from diffkeeper.errors import DiffkeeperError
from diffkeeper.model.clock import duration
from diffkeeper.model.keeping import ALWAYS, ON_FAILURE, Fate, Policy
from diffkeeper.recording import Outcome
from diffkeeper.reporters.numbers import counted
from diffkeeper.state_directory import StateDirectory
from diffkeeper.store.attempts import attempt_name
from diffkeeper.sudo import Invoker, lean_on, stand_up

Record = Callable[[StateDirectory, Policy], Outcome]


@dataclass(frozen=True, slots=True)
class Series:
    """Hold what was asked for; ``verified`` is None unless traces that are kept must be complete (``--strict``)."""

    keep: str | None
    repeat: int | None
    until_fail: bool
    force: bool
    verified: bool | None


def run(record: Record, series: Series, report: Report, invoker: Invoker | None) -> int:
    """Make the attempts and say what came of them; return the exit code."""
    helper_start.drop_ahead()  # each attempt starts a helper of its own
    keep = series.keep or ON_FAILURE
    if invoker is not None:
        lean_on(invoker)  # root's rights come back for each recording, and for nothing else
    telling = _Telling(series, report)
    attempts = Attempts(
        _as_root(record, invoker),
        telling.attempt,
        StateDirectory(Path(report.state_dir), series.force),
        keep,
        series.repeat,
        series.until_fail,
    )
    try:
        result = attempts.run()
    except DiffkeeperError as error:
        if not attempts.has_begun:
            raise
        write(f"diffkeeper: {error}")  # with --best-effort too: the command is not run once more
        return error.exit_code
    telling.result(result)
    return result.exit_code


def _as_root(record: Record, invoker: Invoker | None) -> Record:
    def recorded(directory: StateDirectory, policy: Policy) -> Outcome:
        if invoker is not None:
            stand_up()
        return record(directory, policy)

    return recorded


class _Telling:
    """Say what came of attempts."""

    def __init__(self, series: Series, report: Report) -> None:
        self._series = series
        self._report = report

    def attempt(self, attempt: Attempt, outcome: Outcome) -> int:
        """Say how one ended, in its process; return what exit code that is worth."""
        self._report.say(f"{self._which(attempt)}: {_how(attempt, outcome)}")
        if attempt.is_wanted and outcome.is_kept:
            self._report.tell_people(outcome, os.fspath(outcome.trace_path))
        self._report.tell_object({**as_object(outcome), "attempt": attempt.number})
        if self._series.verified is None or attempt.fate != Fate.KEEP.value:
            return outcome.exit_code
        return strict_exit_code(outcome, self._series.verified)

    def _which(self, attempt: Attempt) -> str:
        of = f" of {self._series.repeat}" if self._series.repeat else ""
        return f"attempt {attempt.number}{of}"

    def result(self, result: Result) -> None:
        """Say how many of how many failed, and what is kept."""
        facts = result.facts
        completed = facts.attempts - bool(result.interrupted)
        self._report.say(f"{facts.failed:,} of {counted(completed, 'attempt', 'attempts')} failed{self._kept(result)}")
        if facts.failing and facts.passing and self._report.speaks:
            place = os.path.join(self._report.state_dir, attempt_name(facts.passing))
            write(f"  diffkeeper timeline{state_option(place)} --last 20    (attempt {facts.passing}, which passed)")
        self._report.tell_object(self._object(result))

    def _kept(self, result: Result) -> str:
        facts = result.facts
        if not facts.kept:
            return "; no trace is kept"
        if self._series.keep == ALWAYS:
            return f"; all {len(facts.kept)} traces are kept in {self._report.state_dir}"
        how = "was interrupted" if result.interrupted == facts.failing else "failed"
        parts = [f"attempt {facts.failing}, which {how}"] if facts.failing else []
        parts += [f"attempt {facts.passing}, which passed"] if facts.passing else []
        return f"; kept in {self._report.state_dir}: {', and '.join(parts)}"

    def _object(self, result: Result) -> dict[str, object]:
        facts = result.facts
        return {
            "v": 1,
            "type": "attempts",
            "attempts": facts.attempts,
            "failed": facts.failed,
            "interrupted": result.interrupted or None,
            "failing": self._path(facts.failing),
            "passing": self._path(facts.passing),
            "kept": [self._path(number) for number in facts.kept],
            "exit_code": result.exit_code,
        }

    def _path(self, number: int) -> str | None:
        return os.path.abspath(os.path.join(self._report.state_dir, attempt_name(number))) if number else None


def _how(attempt: Attempt, outcome: Outcome) -> str:
    taken = duration((outcome.facts.end_monotonic_ns or 0) - outcome.facts.start_monotonic_ns)
    return f"{ending(outcome)} after {taken}"
