"""``diffkeeper timeline``: list what happened, in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from diffkeeper.cli.options import (
    DONE,
    INCOMPLETE,
    NO,
    announcer,
    color_option,
    json_option,
    resolve,
    say,
    talk_options,
    trace_options,
    trace_path,
)
from diffkeeper.errors import UsageError
from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.event import Event, Kind
from diffkeeper.model.positions import parse_range
from diffkeeper.model.timeline import EventFilter
from diffkeeper.reporters.limits import since_words
from diffkeeper.reporters.output import Output, paged, standard
from diffkeeper.reporters.values import Line, Page, Timeline
from diffkeeper.trace import Trace

_FORMATS = ("text", "classic", "jsonl")


@click.command("timeline")
@trace_options
@click.option("--path", "paths", multiple=True, metavar="GLOB", help="Only these paths; '!GLOB' leaves some out.")
@click.option("--op", "ops", multiple=True, metavar="OP[,OP…]", help="Only these operations, as write,rename or all.")
@click.option("--pid", "pids", multiple=True, type=int, help="Only what this process did.")
@click.option("--since", metavar="POSITION", help="From there on, as 2s, 02:14.350, @1281 or end-5s.")
@click.option("--until", metavar="POSITION", help="Up to there, with all that the position covers.")
@click.option("--time", metavar="RANGE", help="A..B for --since A --until B; one position for all that it covers.")
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the last N of them.")
@click.option("--output", is_flag=True, help="Also what the command wrote to its standard output and error.")
@click.option("--all", "everything", is_flag=True, help="Also closes, output, and the life of processes.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="classic is the first columns alone; jsonl is --json.",
)
@json_option
@color_option
@talk_options
def command(
    trace: str | None,
    state_dir: str,
    paths: tuple[str, ...],
    ops: tuple[str, ...],
    pids: tuple[int, ...],
    since: str | None,
    until: str | None,
    time: str | None,
    last: int | None,
    output: bool,
    everything: bool,
    form: str,
    as_json: bool,
    color: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """List what happened, in order.

    POSITIONS are what the timeline prints, durations such as 2m14s, events such as @1281, start, end, exit, mark:NAME,
    or RFC 3339 times. Exits with 1 if nothing matches, and with 3 if events are known to be missing.
    """
    since, until = _range(since, until, time)
    ops = ("all",) if everything and not ops else ops
    with Trace.open(trace_path(trace, state_dir), announce=announcer(quiet)) as opened:
        info = opened.info()
        if since:
            resolve(since, opened.extent, quiet)
        if until:
            opened.answered(resolve(until, opened.extent, quiet), until)
        wanted = opened.filter(paths, ops, pids, since, until, output or everything)
        count = 1  # a reader who leaves the pager early has seen some
        with paged(standard(color)) as place:
            count = _reporter("jsonl" if as_json else form)(_timeline(opened, info, wanted, last), place)
        missing = [*opened.losses, *(opened.ended if wanted.last >= opened.extent.count else ())]
        if wanted.first < info.first_number and (last is None or count < last):
            missing.insert(0, f"history up to {since_words(info.first_number, info.first_ns)} was dropped")
    if info.state == "broken":
        missing.insert(0, "the recording broke off")
    if verbose:
        say(f"{count:,} events of {info.events:,} in {info.path}: {'; '.join(info.defects) or 'complete'}")
    return _exit_code(missing, is_empty=not count and wanted.is_narrow, quiet=quiet)


def _reporter(form: str) -> Callable[[Timeline, Output], int]:
    """Load the reporter that is wanted, and no other."""
    if form == "jsonl":
        from diffkeeper.reporters import jsonl

        return jsonl.report_timeline
    from diffkeeper.reporters import terminal

    return terminal.report_classic if form == "classic" else terminal.report_timeline


def _range(since: str | None, until: str | None, time: str | None) -> tuple[str | None, str | None]:
    if time is None:
        return since, until
    if since or until:
        raise UsageError("--time is another way to write --since and --until: give it alone")
    asked = parse_range(time)
    return asked.since.text if asked.since else None, asked.until.text if asked.until else None


def _timeline(trace: Trace, info: TraceInfo, wanted: EventFilter, last: int | None) -> Timeline:
    last_change = trace.last_change()

    def line_of(event: Event) -> Line:
        return Line(event, trace.comm(event.process), trace.data(event) if event.kind == Kind.OUTPUT else b"")

    return Timeline(
        info,
        lines=map(line_of, trace.events(wanted, last)),
        last_change=last_change.number if last_change else 0,
        pages=(Page(block, rows) for block, rows in trace.pages(wanted, last)),
        line_of=line_of,
        comm_of=trace.comm,
    )


def _exit_code(missing: Sequence[str], *, is_empty: bool, quiet: bool) -> int:
    if missing:
        say(f"the timeline is not complete: {'; '.join(missing)}", quiet)
        return INCOMPLETE
    if is_empty:
        say("no event matches", quiet)
        return NO
    return DONE
