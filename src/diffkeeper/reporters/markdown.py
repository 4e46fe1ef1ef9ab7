"""What is known of a trace as Markdown, for the summary of a CI job.

Names, arguments and messages come from the recorded command. They stand in code, of which nothing is interpreted,
behind a fence that is longer than any run of backticks in them.
"""

from __future__ import annotations

import io
import re
import shlex

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.clock import duration
from diffkeeper.reporters import escape, terminal
from diffkeeper.reporters.numbers import counted
from diffkeeper.reporters.output import Output
from diffkeeper.reporters.values import Timeline, ending

_MOST_COLUMNS = 300  # of a line: GitHub takes a mebibyte for all summaries of a step


def report_summary(timeline: Timeline, state_dir: str, output: Output) -> None:
    """Write verdict, completeness, the lines of the timeline and the commands that open the trace in ``state_dir``."""
    info = timeline.info
    output.line(f"## diffkeeper: {ending(info)}\n")
    output.line(f"{code(escape.command(info.argv))} {_what_it_did(info)}.\n")
    _completeness(info, output)
    output.line("<details open><summary>The last changes before the end</summary>\n")
    output.line(block(_rows(timeline)))
    output.line("</details>\n")
    output.line("To see more of it:\n")
    output.line(block("\n".join(commands(timeline.last_change, state_dir)), "sh"))


def commands(last_change: int, state_dir: str) -> list[str]:
    """Return the commands that one begins with."""
    place = shlex.quote(state_dir)
    first = [f"diffkeeper timeline --state-dir={place} --last 20"]
    before = f"diffkeeper export --state-dir={place} --time=@{last_change}^ --out=debug_fs"
    return [*first, before] if last_change else first


def code(text: str) -> str:
    """Return text as code within a line."""
    shown = _shortened(text.replace("\n", " "))
    fence = "`" * (_longest_run(shown) + 1)
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown or ' '}`"


def block(text: str, language: str = "text") -> str:
    """Return lines as a block of code."""
    shown = "\n".join(map(_shortened, text.splitlines()))
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _what_it_did(info: TraceInfo) -> str:
    changes = counted(info.counters.get("changes", 0), "change", "changes")
    taken = "" if info.duration_ns is None else f" in {duration(info.duration_ns)}"
    return f"made {changes} to {counted(info.files, 'file', 'files')}{taken}"


def _completeness(info: TraceInfo, output: Output) -> None:
    if info.is_complete:
        output.line(f"**The trace is complete.** Recorded with {code(info.engine)}.\n")
        return
    reasons = "\n".join(map(escape.escaped, dict.fromkeys((*info.defects, *info.damage))))
    output.line(f"**The trace is not complete.** Recorded with {code(info.engine)}:\n")
    output.line(block(reasons or info.state) + "\n")


def _rows(timeline: Timeline) -> str:
    lines = Output(io.StringIO())
    terminal.report_timeline(timeline, lines)
    text = lines.stream.getvalue() if isinstance(lines.stream, io.StringIO) else ""
    return text.partition("\n")[2] or "none"


def _shortened(line: str) -> str:
    return line if len(line) <= _MOST_COLUMNS else f"{line[: _MOST_COLUMNS - 1]}…"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
