"""What ``record`` reports when a command has ended: lines for people, or a JSON object, to standard error or a file."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from diffkeeper.cli import record_summary
from diffkeeper.errors import RecordError
from diffkeeper.recording import Outcome
from diffkeeper.verification.result import DONE


class Report:
    """Say how recordings ended."""

    def __init__(self, state_dir: str, *, speaks: bool, as_json: bool, file: str | None) -> None:
        """Empty ``file``, if one was given, so that what stands in it later is of this recording."""
        self.state_dir = state_dir
        self.speaks = speaks
        self._as_json = as_json
        self._file = file
        if file is not None:
            self._begin_file(file)

    def _begin_file(self, path: str) -> None:
        try:
            with open(path, "wb"):
                pass
        except OSError as error:
            raise RecordError(f"--json-file {path} cannot be written: {error.strerror}") from None

    def say(self, line: str) -> None:
        """Write one line for people."""
        if self.speaks:
            write(f"diffkeeper: {line}")

    def tell(self, outcome: Outcome) -> None:
        """Tell of a recording."""
        self.tell_people(outcome, self.state_dir)
        self.tell_object(as_object(outcome))

    def tell_people(self, outcome: Outcome, state_dir: str) -> None:
        """Write the summary, with commands that read the trace there."""
        for line in record_summary.lines(outcome, state_dir) if self.speaks else ():
            write(line)

    def tell_object(self, document: dict[str, Any]) -> None:
        """Write an object where objects go."""
        if self._as_json:
            write(json.dumps(document))
        if self._file is not None:
            with contextlib.suppress(OSError), open(self._file, "ab") as file:  # the command's exit code is due
                file.write(json.dumps(document).encode() + b"\n")


def write(text: str) -> None:
    """Write to standard error; that it is closed is no reason to fail the command."""
    with contextlib.suppress(OSError):
        os.write(2, os.fsencode(text + "\n"))


def strict_exit_code(outcome: Outcome, verify: bool) -> int:
    """Return the exit code where a command that succeeded fails if its trace, being kept, may be wrong."""
    if outcome.exit_code or not outcome.is_kept:
        return outcome.exit_code
    is_verified = outcome.facts.verification == DONE or not verify
    return 0 if outcome.is_complete and outcome.facts.processed and is_verified else RecordError.exit_code


def as_object(outcome: Outcome) -> dict[str, Any]:
    """Return what ``--json`` prints; nothing is known of the completeness of a trace that was not kept."""
    facts = outcome.facts
    return {
        "v": 1,
        "type": "recording",
        "trace": os.path.abspath(outcome.trace_path),
        "kept": outcome.is_kept,
        "exit_code": outcome.exit_code,
        "wait_status": outcome.wait_status,
        "timed_out": outcome.timed_out,
        "complete": outcome.is_complete if outcome.is_kept else None,
        "processed": facts.processed,
        "failures": list(outcome.failures),
        "defects": list(outcome.defects),
        "verification": facts.verification if outcome.is_kept else "",
        "differing": facts.differing,
        "duration_ns": (facts.end_monotonic_ns or 0) - facts.start_monotonic_ns,
        "counters": facts.counters,
    }
