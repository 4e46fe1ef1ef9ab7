"""``diffkeeper record``: run a command and record what happens to the files below the watch roots."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from types import FrameType
from typing import Any

import click

from diffkeeper import engines, recording
from diffkeeper.cli import record_summary
from diffkeeper.engines.ebpf import EbpfEngine
from diffkeeper.engines.protocol import Engine
from diffkeeper.errors import CommandNotExecutableError, CommandNotFoundError, DiffkeeperError, RecordError
from diffkeeper.launch import environment_at_start
from diffkeeper.recording import BASELINES, Outcome
from diffkeeper.reporters.numbers import size
from diffkeeper.sudo import become, find_invoker
from diffkeeper.verification.result import DONE

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(?:s|\Z))?(?:(\d+)ms)?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12})([KMG]?)", re.ASCII | re.IGNORECASE)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}
_OWN_CODES = (CommandNotFoundError, CommandNotExecutableError)


class _Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.4 on
    """Read 90s, 2m30s, 1h or plain seconds, as seconds."""

    name = "duration"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        match = _DURATION.fullmatch(str(value))
        if match is None or not any(match.groups()):
            self.fail(f"{value!r} is not a duration; write 90s, 2m30s or 1h", parameter, context)
        hours, minutes, seconds, milliseconds = match.groups(default="0")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) + int(milliseconds) / 1000


class _Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # as above
    """Read 64K, 256M, 2G or plain bytes, as bytes."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        match = _SIZE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; write 64K, 256M or 2G", parameter, context)
        return int(match[1]) << _SHIFTS[match[2].upper()]


class _Terminated(KeyboardInterrupt):
    """Carry the signal that ended a recording before its command started."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


@click.command("record", context_settings={"allow_interspersed_args": False})
@click.option(
    "-s",
    "--state-dir",
    default="diffkeeper-trace",
    show_default=True,
    metavar="DIR",
    help="Write the trace here; a new or an empty directory.",
)
@click.option(
    "--watch",
    multiple=True,
    default=(".",),
    show_default=True,
    metavar="DIR",
    help="Record changes below DIR; may be repeated.",
)
@click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    default=BASELINES[0],
    show_default=True,
    help="Whose content to keep from before the command: of small files and those that are about to change, "
    "of all, or of none. Names and metadata are always kept.",
)
@click.option(
    "--baseline-budget",
    type=_Size(),
    default="256M",
    show_default=True,
    metavar="SIZE",
    help="With --baseline touched, copy no more than that in case it is changed, the smallest files first.",
)
@click.option(
    "--leases/--no-leases",
    default=True,
    show_default=True,
    help="With --baseline touched, hold file leases, so that a file is copied when somebody opens it for writing. "
    "Without them files above 64 KiB are copied before the command, as far as the budget goes.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out what matches, in gitignore syntax; may be repeated. Patterns in .diffkeeperignore are added.",
)
@click.option("--force", is_flag=True, help="Replace a trace that the directory holds.")
@click.option(
    "--timeout",
    type=_Duration(),
    metavar="DURATION",
    help="End the command after DURATION: SIGTERM, 5 s later SIGKILL; exit 124.",
)
@click.option(
    "--mmap-interval",
    type=_Duration(),
    default="100ms",
    show_default=True,
    metavar="DURATION",
    help="Look this often at files that are mapped shared and writable (mmap), whose bytes change without a call.",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="When the command has ended, hold the trace's last state against the files, and read back what differs.",
)
@click.option(
    "--stall/--no-stall",
    default=True,
    show_default=True,
    help="Hold the command for moments in which it changes more than can be taken, rather than lose changes.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 125 if the command succeeded but the trace is not complete or was not verified.",
)
@click.option(
    "--engine", type=click.Choice(engines.names()), default="ebpf", show_default=True, help="What catches the changes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object, on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="[--] COMMAND...")
def command(
    state_dir: str,
    watch: tuple[str, ...],
    baseline: str,
    baseline_budget: int,
    leases: bool,
    exclude: tuple[str, ...],
    force: bool,
    timeout: float | None,
    mmap_interval: float,
    verify: bool,
    stall: bool,
    strict: bool,
    engine: str,
    as_json: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND and record every change below the watch roots.

    The command runs as it would without diffkeeper, and its exit code is returned: 128+N after signal N, 124 when the
    timeout was hit, 125 when diffkeeper failed before the command started (with --strict also afterwards, unless the
    command failed itself), 126 and 127 when it could not be started.
    """
    _reserve_standard_descriptors()
    _end_by_signals_until_the_command_runs()
    speak = not quiet and not as_json
    bar = _BaselineBar()
    try:
        chosen = engines.choose(engine)
        environment = _leave_sudo(chosen)
        outcome = recording.record(
            command,
            state_dir=state_dir,
            watch=watch,
            baseline=baseline,
            baseline_budget_bytes=baseline_budget,
            leases=leases,
            exclude=exclude,
            force=force,
            timeout=timeout,
            mmap_interval=mmap_interval,
            engine=chosen,
            environment=environment,
            forward_signals=True,
            verify=verify,
            may_hold=stall,
            announce=_say if speak else _say_nothing,
            baseline_progress=bar.show if speak and os.isatty(2) else _no_progress,
            baseline_done=bar.clear,
        )
    except _OWN_CODES:
        raise
    except DiffkeeperError as error:
        raise RecordError(str(error)) from error  # whatever it would mean elsewhere
    except _Terminated as end:
        return 128 + end.number
    if speak:
        for line in record_summary.lines(outcome, state_dir):
            _write(line)
    elif as_json:
        _write(json.dumps(_as_json(outcome)))
    if strict and outcome.exit_code == 0:
        return _strictly(outcome, verify)
    return outcome.exit_code


def _strictly(outcome: Outcome, verify: bool) -> int:
    """Return the exit code after a command that succeeded, where a trace that may be wrong is a failure."""
    is_verified = outcome.facts.verification == DONE or not verify
    return 0 if outcome.is_complete and outcome.facts.processed and is_verified else RecordError.exit_code


def _reserve_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, close-on-exec: no file of ours may become someone's standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def _end_by_signals_until_the_command_runs() -> None:
    """Take SIGTERM and SIGHUP as Ctrl-C is taken, so that what was begun is undone."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _leave_sudo(engine: Engine) -> dict[bytes, bytes]:
    """Become the user who typed ``sudo diffkeeper``, once the helper has root; return the command's environment."""
    invoker = find_invoker()
    if invoker is None:
        return environment_at_start()
    if isinstance(engine, EbpfEngine):
        engine.prepare_for(invoker.uid, invoker.gid)
    become(invoker)
    return dict(invoker.environment)


def _say_nothing(line: str) -> None:
    pass


def _no_progress(entries: int, content_bytes: int) -> None:
    pass


def _say(line: str) -> None:
    _write(f"diffkeeper: {line}")


def _write(text: str) -> None:
    """Write to standard error; that it is closed is no reason to fail the command."""
    with contextlib.suppress(OSError):
        os.write(2, os.fsencode(text + "\n"))


class _BaselineBar:
    """Draw one line on a terminal once the baseline has taken a second, and take it away at its end."""

    def __init__(self) -> None:
        self._started = 0.0
        self._shown = 0.0

    def show(self, entries: int, content_bytes: int) -> None:
        now = time.monotonic()
        self._started = self._started or now
        if now - self._started > 1 and now - self._shown > 0.1:
            self._shown = now
            _draw(f"diffkeeper: baseline: {entries:,} entries, {size(content_bytes)}")

    def clear(self) -> None:
        if self._shown:
            _draw("")


def _draw(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\r{text}\x1b[K{'' if text else chr(13)}".encode())


def _as_json(outcome: Outcome) -> dict[str, Any]:
    facts = outcome.facts
    return {
        "v": 1,
        "type": "recording",
        "trace": os.path.abspath(outcome.trace_path),
        "exit_code": outcome.exit_code,
        "wait_status": outcome.wait_status,
        "timed_out": outcome.timed_out,
        "complete": outcome.is_complete,
        "processed": facts.processed,
        "failures": list(outcome.failures),
        "defects": list(outcome.defects),
        "verification": facts.verification,
        "differing": facts.differing,
        "duration_ns": (facts.end_monotonic_ns or 0) - facts.start_monotonic_ns,
        "counters": facts.counters,
    }
