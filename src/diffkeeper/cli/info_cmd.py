"""``diffkeeper info``: tell what a trace holds and whether it is complete."""

from __future__ import annotations

import click

from diffkeeper.cli.options import (
    DONE,
    INCOMPLETE,
    color_option,
    json_option,
    talk_options,
    trace_options,
    trace_path,
)
from diffkeeper.reporters import jsonl
from diffkeeper.reporters.info import report_info
from diffkeeper.reporters.output import standard
from diffkeeper.trace import Trace


@click.command("info")
@trace_options
@json_option
@color_option
@talk_options
def command(
    trace: str | None, state_dir: str, as_json: bool, color: str, quiet: bool, verbose: bool
) -> int:  # quiet and verbose: there is nothing on standard error
    """Tell what a trace holds and whether it is complete.

    Exits with 3 if changes are known to be missing: it counts those that are there.
    """
    with Trace.open(trace_path(trace, state_dir)) as opened:
        info = opened.info()
        is_lacking = info.state == "broken" or bool(opened.losses)
    output = standard(color)
    if as_json:
        jsonl.report_info(info, output)
    else:
        report_info(info, output)
    return INCOMPLETE if is_lacking else DONE
