"""``diffkeeper record``: run a command and record what happens to the files below the watch roots."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from types import FrameType
from typing import Any

import click

from diffkeeper import engines, recording
from diffkeeper.cli.record_report import Report, strict_exit_code
from diffkeeper.engines import ebpf
from diffkeeper.errors import CommandNotExecutableError, CommandNotFoundError, DiffkeeperError, RecordError, UsageError
from diffkeeper.launch import environment_at_start
from diffkeeper.model.keeping import ALWAYS, POLICIES, Policy
from diffkeeper.recording import BASELINES, PROCESSINGS, Outcome
from diffkeeper.reporters.numbers import size
from diffkeeper.state_directory import StateDirectory
from diffkeeper.sudo import Invoker, become, find_invoker

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(?:s|\Z))?(?:(\d+)ms)?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)(i?B)?", re.ASCII | re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T")
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
    """Read 64K, 256M, 2GiB or plain bytes, as bytes; as in coreutils MB is a million, M and MiB are 2 to the 20."""

    name = "size"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        match = _SIZE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; write 64K, 256M or 2G", parameter, context)
        number, unit, suffix = match.groups(default="")
        step = 1000 if suffix.upper() == "B" else 1024
        return int(number) * int(step ** _UNITS.index(unit.upper()))


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
@click.option(
    "--max-size",
    type=_Size(),
    metavar="SIZE",
    help="Let the trace take no more of the disk than SIZE, as 500M or 2G; without it what the recording needs.",
)
@click.option(
    "--on-full",
    type=click.Choice(recording.ON_FULL),
    default=recording.ON_FULL[0],
    show_default=True,
    help="At that size drop the oldest history (what is left stays exact), stop recording, or fail: end the command "
    "too, as --timeout does, and exit 125.",
)
@click.option("--force", is_flag=True, help="Replace a trace that the directory holds, once this one is kept.")
@click.option(
    "--keep",
    type=click.Choice(POLICIES),
    help="Keep the trace always, if the command failed, if a signal ended it, or never; another is deleted without "
    "being processed.  [default: always; of many attempts: on-failure]",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run the command N times, each recorded; keep the first attempt that failed, and the nearest that passed.",
)
@click.option("--until-fail", is_flag=True, help="Run the command until it fails, N times at most if --repeat says so.")
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
    "--process",
    type=click.Choice(PROCESSINGS),
    default=PROCESSINGS[0],
    show_default=True,
    help="How long the exit code waits for the trace to be processed and verified: a tenth of the run but no less than "
    "a second, until it is done, or not at all. What is left is done by the first reader; only, nobody verifies it.",
)
@click.option(
    "--memory",
    type=_Size(),
    default="256M",
    show_default=True,
    metavar="SIZE",
    help="Let processing take about that much memory, no less than 64M; what waits to be put in order gives way.",
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
    help="Exit 125 if the command succeeded but the trace is not complete or was not verified; implies --process now.",
)
@click.option(
    "--engine",
    type=click.Choice(engines.names()),
    default="ebpf",
    show_default=True,
    help="What catches the changes: ebpf is exact, watch needs no privileges and looks at the files, auto takes ebpf "
    "where it can run, else watch.",
)
@click.option(
    "--best-effort",
    is_flag=True,
    help="Run COMMAND whatever happens: with --engine auto, and without a recording where none can start.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object, on stderr.")
@click.option("--json-file", metavar="FILE", help="Also write that JSON object to FILE.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True, metavar="[--] COMMAND...")
def command(
    state_dir: str,
    watch: tuple[str, ...],
    baseline: str,
    baseline_budget: int,
    leases: bool,
    exclude: tuple[str, ...],
    max_size: int | None,
    on_full: str,
    force: bool,
    keep: str | None,
    repeat: int | None,
    until_fail: bool,
    timeout: float | None,
    mmap_interval: float,
    verify: bool,
    process: str,
    memory: int,
    stall: bool,
    strict: bool,
    engine: str,
    best_effort: bool,
    as_json: bool,
    json_file: str | None,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND and record every change below the watch roots.

    The command runs as it would without diffkeeper, and its exit code is returned: 128+N after signal N, 124 when the
    timeout was hit, 125 when diffkeeper failed before the command started (with --strict also afterwards, unless the
    command failed itself), 126 and 127 when it could not be started.
    """
    if strict and process == PROCESSINGS[2]:
        raise UsageError("--strict asks whether the trace is complete, which --process later leaves open: choose one")
    _reserve_standard_descriptors()
    _end_by_signals_until_the_command_runs()
    report = Report(state_dir, speaks=not quiet and not as_json, as_json=as_json, file=json_file)
    bar = _BaselineBar()
    invoker = find_invoker()

    def record(directory: str | StateDirectory, policy: str | Policy) -> Outcome:
        chosen = engines.choose(engines.AUTO if best_effort and engine == ebpf.NAME else engine)
        environment = _leave_sudo(chosen, invoker)
        return recording.record(
            command,
            state_dir=directory,
            watch=watch,
            baseline=baseline,
            baseline_budget_bytes=baseline_budget,
            leases=leases,
            exclude=exclude,
            force=force,
            keep=policy,
            timeout=timeout,
            mmap_interval=mmap_interval,
            engine=chosen,
            environment=environment,
            forward_signals=True,
            verify=verify,
            may_hold=stall,
            process=PROCESSINGS[1] if strict else process,
            memory_bytes=memory,
            max_bytes=_limit(max_size),
            on_full=on_full,
            announce=report.say,
            baseline_progress=bar.show if report.speaks and os.isatty(2) else _no_progress,
            baseline_done=bar.clear,
        )

    try:
        if repeat is not None or until_fail:
            _check_series()
            from diffkeeper.cli import record_attempts  # forks, and what belongs to that: few recordings need it

            series = record_attempts.Series(keep, repeat, until_fail, force, verify if strict else None)
            return record_attempts.run(record, series, report, invoker)
        outcome = record(state_dir, keep or ALWAYS)
    except _OWN_CODES:
        raise
    except DiffkeeperError as error:
        if best_effort:
            report.say(f"not recorded: {error}")
            variables = environment_at_start() if invoker is None else dict(invoker.environment)
            code = recording.run_unrecorded(command, environment=variables, timeout=timeout)
            report.tell_object({"v": 1, "type": "unrecorded", "exit_code": code, "kept": False, "reason": str(error)})
            return code
        raise RecordError(str(error)) from error  # whatever it would mean elsewhere
    except _Terminated as end:
        return 128 + end.number
    report.tell(outcome)
    return strict_exit_code(outcome, verify) if strict else outcome.exit_code


def _check_series() -> None:
    if not hasattr(os, "fork") or not hasattr(signal, "sigtimedwait"):
        raise UsageError("--repeat and --until-fail are for Linux: record each attempt in a loop of your shell instead")


def _limit(max_size: int | None) -> int:
    """Return what the trace may take, 0 for anything; raises UsageError for a limit that means nothing."""
    if max_size is None:
        source = click.get_current_context().get_parameter_source("on_full")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise UsageError("--on-full says what to do at a size: give that with --max-size")
        return 0
    if max_size == 0:
        raise UsageError("--max-size 0 leaves no room for a trace: leave it out for one of any size")
    return max_size


def _reserve_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2, close-on-exec: no file of ours may become someone's standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))


def _end_by_signals_until_the_command_runs() -> None:
    """Take SIGTERM and SIGHUP as Ctrl-C is taken, so that what was begun is undone."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Terminated(number)

    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def _leave_sudo(choice: engines.Choice, invoker: Invoker | None) -> dict[bytes, bytes]:
    """Become the user who typed ``sudo diffkeeper``, once the helper has root; return the command's environment."""
    if invoker is None:
        return environment_at_start()
    for engine in choice.engines:
        if isinstance(engine, ebpf.EbpfEngine):
            engine.prepare_for(invoker.uid, invoker.gid)
    become(invoker)
    return dict(invoker.environment)


def _no_progress(entries: int, content_bytes: int) -> None:
    pass


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
