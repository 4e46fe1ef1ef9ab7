"""``diffkeeper export``: rebuild the files as they were at a moment."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from diffkeeper.cli.options import (
    DONE,
    INCOMPLETE,
    NO,
    announcer,
    json_option,
    resolve,
    say,
    talk_options,
    trace_options,
    trace_path,
)
from diffkeeper.errors import UsageError
from diffkeeper.model.exported import ExportReport, Remark
from diffkeeper.reporters import escape, jsonl
from diffkeeper.reporters.numbers import counted, size
from diffkeeper.reporters.output import standard
from diffkeeper.trace import Trace

_SHOWN = 10  # remarks of a kind; --verbose and --json show all


@click.command("export")
@trace_options
@click.option(
    "-t", "--time", default="end", show_default=True, metavar="POSITION", help="The moment, as 2m14s or @1281^."
)
@click.option("-o", "--out", required=True, metavar="DIR", help="Where to; a name that ends in .tar, or - for a tar.")
@click.option(
    "--base",
    metavar="DIR",
    help="Take the files that are not in the trace, as nobody touched them, from DIR; "
    "without it from where they were recorded, if they are still the same.",
)
@click.option("--path", "paths", multiple=True, metavar="GLOB", help="Only these paths; '!GLOB' leaves some out.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty; replaces what is in the way.")
@json_option
@talk_options
def command(
    trace: str | None,
    state_dir: str,
    time: str,
    out: str,
    base: str | None,
    paths: tuple[str, ...],
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Rebuild the files as they were at a moment.

    Names, types, bytes, modes, times, symlinks, hard links and extended attributes; owners too when run as root. Exits
    with 1 if a pattern matches nothing, and with 3 if something could not be rebuilt or may not be exact; it is named.
    """
    path = trace_path(trace, state_dir)
    _check_out(out, path, as_json)
    if base and not os.path.isdir(base):
        raise UsageError(f"{base!r} is not a folder: --base names one that has the files as they were")
    with Trace.open(path, base, announcer(quiet)) as opened:
        number = opened.answered(resolve(time, opened.extent, quiet), time)
        report = opened.export(f"@{number}", out, paths=paths, force=force)
        missing = _missing(opened, number)
    if as_json:
        fields = jsonl.plain(report) | {"number": number, "is_complete": report.is_complete and not missing}
        jsonl.write_object("export", fields, standard("never"))
    _tell(report, number, missing, quiet, verbose)
    return _exit_code(report, missing)


def _check_out(out: str, trace: str, as_json: bool) -> None:
    if out == "-" and as_json:
        raise UsageError("--json and the tar both want standard output: name a file with --out")
    if out == "-":
        return
    place, home = os.path.realpath(out), os.path.realpath(trace)
    if place == home or place.startswith(home + os.sep):
        raise UsageError(f"{out!r} is in the trace itself, which no export may change: name another place with --out")


def _missing(trace: Trace, number: int) -> list[str]:
    missing = trace.losses_at(number)
    if trace.info().state == "broken" and number == trace.extent.count:
        missing.append("the recording broke off, and nothing is known of what came after")
    return missing


def _exit_code(report: ExportReport, missing: Sequence[str]) -> int:
    if not report.entries and not report.skipped and report.unmatched:
        return NO
    if missing or not report.is_complete:
        return INCOMPLETE
    return NO if report.unmatched else DONE


def _tell(report: ExportReport, number: int, missing: Sequence[str], quiet: bool, verbose: bool) -> None:
    if report.entries or not report.unmatched:
        entries = counted(report.entries, "entry", "entries")
        say(f"{entries}, {size(report.bytes)}, as after @{number}, in {report.out}", quiet)
    _tell_remarks("left out or not quite restored", report.skipped, verbose)
    _tell_remarks("perhaps not exact", report.inexact, verbose)
    if report.from_base:
        say(f"{report.from_base:,} files are not in the trace and untouched: taken from where they still are", quiet)
    if report.unknown:
        say(f"{report.unknown:,} entries have no content in the trace; --base=DIR names a folder that has it")
    if report.owners_left:
        say(f"{report.owners_left:,} entries are yours now: only root can give files to others", quiet)
    for pattern in report.unmatched:
        say(f"nothing matches {pattern!r}{_pattern_hint(pattern)}")
    if missing:
        say(f"the trace is not complete: {'; '.join(missing)}")


def _tell_remarks(title: str, remarks: Sequence[Remark], verbose: bool) -> None:
    if not remarks:
        return
    shown = remarks if verbose else remarks[:_SHOWN]
    lines = [f"  {escape.name(remark.path)}: {remark.reason}" for remark in shown]
    if len(shown) < len(remarks):
        lines.append(f"  and {len(remarks) - len(shown):,} more; --verbose names them all")
    say("\n".join([f"{title}: {len(remarks):,}", *lines]))


def _pattern_hint(pattern: str) -> str:
    return "" if "/" in pattern or "*" in pattern else f"; to look in all folders write '**/{pattern}'"
