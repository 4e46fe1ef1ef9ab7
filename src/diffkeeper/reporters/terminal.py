"""The timeline for people: a header, then one line an event, never cropped."""

from __future__ import annotations

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.clock import duration, precise, rfc3339
from diffkeeper.model.event import Kind
from diffkeeper.reporters import describe, escape
from diffkeeper.reporters.output import Output
from diffkeeper.reporters.values import Line, Timeline, completeness, ending

_COLUMN = 57  # where what is added to the right of the prefix begins, unless the prefix is longer
_STYLE_OF_KIND = {
    Kind.CREATE: "green",
    Kind.MKDIR: "green",
    Kind.LINK: "green",
    Kind.SYMLINK: "green",
    Kind.IMPORT: "green",
    Kind.WRITE: "yellow",
    Kind.COPY: "yellow",
    Kind.TRUNCATE: "yellow",
    Kind.FALLOCATE: "yellow",
    Kind.UNLINK: "red",
    Kind.RMDIR: "red",
    Kind.EXPORT: "red",
    Kind.RENAME: "blue",
    Kind.EXCHANGE: "blue",
    Kind.GAP: "bold red",
    Kind.RESYNC: "magenta",
    Kind.OUTPUT: "cyan",
}


def report_timeline(timeline: Timeline, output: Output) -> int:
    """Write header and lines; return how many lines there were."""
    output.line(header(timeline.info, output))
    width = max(5, len(str(timeline.info.events)) + 1)
    marker = f"   <-- last change before {ending(timeline.info)}"
    write = output.stream.write
    count = 0
    for line in timeline.lines:
        is_last = line.event.number == timeline.last_change
        write(_text(line, width, output) + (output.styled(marker, "bold red") if is_last else "") + "\n")
        count += 1
    return count


def report_classic(timeline: Timeline, output: Output) -> int:
    """Write the fixed part of each line alone; return how many lines there were."""
    count = 0
    for line in timeline.lines:
        output.stream.write(describe.prefix(line) + "\n")
        count += 1
    return count


def header(info: TraceInfo, output: Output) -> str:
    """Return the line above a timeline: start, command, how it ended, how long it took, whether all is there."""
    parts = [f"Session Start: {rfc3339(info.start_realtime_ns, 3)}", escape.command(info.argv), ending(info)]
    if info.duration_ns is not None:
        parts.append(duration(info.duration_ns))
    verdict = escape.escaped(completeness(info))
    parts.append(output.styled(verdict, "green" if info.is_complete else "bold red"))
    return "   ".join(parts)


def _text(line: Line, width: int, output: Output) -> str:
    event = line.event
    prefix = describe.prefix(line)
    space = " " * max(_COLUMN - len(prefix), 2)
    right = f"@{event.number:<{width}} {precise(event.t_ns)}{_process(line)}"
    labels = describe.labels(event.marks) if event.marks else ()
    if not output.is_coloured:
        return f"{prefix}{space}{right}{''.join(f' {label}' for label in labels)}"
    shouted = "".join(" " + output.styled(label, "bold red") for label in labels)
    return f"{output.styled(prefix, _STYLE_OF_KIND.get(event.kind, ''))}{space}{output.styled(right, 'dim')}{shouted}"


def _process(line: Line) -> str:
    if not line.event.pid:
        return ""
    return f"  {escape.name(line.comm) if line.comm else '?'}[{line.event.pid}]"
