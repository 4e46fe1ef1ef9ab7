"""``diffkeeper info``: tell what a trace holds and whether it is complete."""

from __future__ import annotations

import click

from diffkeeper.cli.options import (
    DONE,
    INCOMPLETE,
    announcer,
    color_option,
    json_option,
    talk_options,
    trace_options,
    trace_path,
)
from diffkeeper.model.answers import TraceInfo
from diffkeeper.reporters import jsonl
from diffkeeper.reporters.info import report_info
from diffkeeper.reporters.output import Output, standard
from diffkeeper.reporters.values import Line, Timeline
from diffkeeper.trace import Trace

_LAST_CHANGES = 10


@click.command("info")
@trace_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "jsonl"]),
    default="text",
    show_default=True,
    help="markdown is for the summary of a CI job, with the last changes; jsonl is --json.",
)
@json_option
@color_option
@talk_options
def command(
    trace: str | None, state_dir: str, form: str, as_json: bool, color: str, quiet: bool, verbose: bool
) -> int:  # verbose: there is no more to say
    """Tell what a trace holds and whether it is complete.

    Exits with 3 if changes are known to be missing: it counts those that are there.
    """
    place = trace_path(trace, state_dir)
    output = standard(color)
    with Trace.open(place, announce=announcer(quiet)) as opened:
        info = opened.info()
        is_lacking = info.state == "broken" or bool(opened.losses or opened.ended)
        if form == "markdown" and not as_json:
            _report_markdown(opened, info, place, output)
            return INCOMPLETE if is_lacking else DONE
    if as_json or form == "jsonl":
        jsonl.report_info(info, output)
    else:
        report_info(info, output)
    return INCOMPLETE if is_lacking else DONE


def _report_markdown(trace: Trace, info: TraceInfo, place: str, output: Output) -> None:
    from diffkeeper.reporters.markdown import report_summary

    change = trace.last_change()
    last = change.number if change is not None else 0
    events = trace.timeline(until=f"@{last}" if last else None, last=_LAST_CHANGES)
    lines = [Line(event, trace.process(event.process).comm if event.process else b"") for event in events]
    report_summary(Timeline(info, lines=lines, last_change=last), place, output)
