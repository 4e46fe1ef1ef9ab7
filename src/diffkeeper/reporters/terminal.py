"""The timeline for people: a header, then one line an event, never cropped."""

from __future__ import annotations

from collections.abc import Sequence

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.clock import duration, precise, rfc3339
from diffkeeper.model.event import Kind, Mark
from diffkeeper.reporters import describe, escape
from diffkeeper.reporters.output import Output
from diffkeeper.reporters.pages import prefixes
from diffkeeper.reporters.values import Line, Page, Timeline, completeness, ending

_CHANGED = int(Kind.CHANGED)
_COLUMN = 55  # where the fixed part ends, unless it is longer; what is added to its right begins two further
_MILLISECOND_NS = 1_000_000
_MAPPED = int(Mark.MAPPED)
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
    Kind.CHANGED: "yellow",
    Kind.GAP: "bold red",
    Kind.LIMIT: "bold red",
    Kind.RESYNC: "magenta",
    Kind.MOUNT: "magenta",
    Kind.OUTPUT: "cyan",
}


def report_timeline(timeline: Timeline, output: Output) -> int:
    """Write header and lines; return how many lines there were."""
    output.line(header(timeline.info, output))
    rows = _Rows(timeline, output)
    count = 0
    for page in timeline.pages or ():
        output.stream.write("".join(rows.of_page(page)))
        count += len(page.rows)
    for line in timeline.lines if timeline.pages is None else ():
        output.stream.write(rows.of_line(line))
        count += 1
    return count


def report_classic(timeline: Timeline, output: Output) -> int:
    """Write the fixed part of each line alone; return how many lines there were."""
    count = 0
    for page in timeline.pages or ():
        output.stream.write("".join(f"{prefix}\n" for prefix in prefixes(page, timeline.line_of)))
        count += len(page.rows)
    for line in timeline.lines if timeline.pages is None else ():
        output.line(describe.prefix(line))
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


class _Rows:
    """Make whole lines of fixed parts: what stands to the right of them, and colours."""

    def __init__(self, timeline: Timeline, output: Output) -> None:
        self._timeline = timeline
        self._output = output
        self._width = max(5, len(str(timeline.info.events)) + 1)
        self._quick = f"%-{_COLUMN}s  @%-{self._width}d %s%s\n"  # a line without colours and marks
        self._marker = output.styled(f"   <-- last change before {ending(timeline.info)}", "bold red")
        self._processes: dict[tuple[int, int], str] = {}

    def of_line(self, line: Line) -> str:
        """Return the line of an event that was built."""
        event = line.event
        process = f"  {_process_name(line.comm)}[{event.pid}]" if event.pid else ""
        since_ns = event.t_ns - event.enter_ns
        return self._row(describe.prefix(line), event.kind, event.number, event.t_ns, process, event.marks, since_ns)

    def of_page(self, page: Page) -> list[str]:
        """Return the lines of a page."""
        fields = ("kind", "t_ns", "process", "pid", "marks")
        kinds, times, keys, pids, marks = (page.columns.column(field) for field in fields)
        first, last_change = page.columns.first, self._timeline.last_change
        since = self._since(page, kinds, marks)
        quick, lines = not self._output.is_coloured, list[str]()
        millisecond, instant, known, process = None, "", None, ""
        for row, prefix in zip(page.rows, prefixes(page, self._timeline.line_of), strict=True):
            if (keys[row], pids[row]) != known:
                known = keys[row], pids[row]
                process = self._processes.get(known) or self._process(*known)
            if marks[row] or not quick or first + row == last_change or kinds[row] == _CHANGED:
                since_ns = since.get(row, 0)
                lines.append(self._row(prefix, kinds[row], first + row, times[row], process, marks[row], since_ns))
                continue
            if times[row] // _MILLISECOND_NS != millisecond:
                millisecond, instant = times[row] // _MILLISECOND_NS, precise(times[row])
            lines.append(self._quick % (prefix, first + row, instant, process))
        return lines

    def _since(self, page: Page, kinds: Sequence[int], marks: Sequence[int]) -> dict[int, int]:
        """Return for rows that were found, by a look or in a mapping, how long before it may have come to be so."""
        has_some = any(marks) or _CHANGED in kinds
        rows = [row for row in page.rows if marks[row] & _MAPPED or kinds[row] == _CHANGED] if has_some else []
        events = page.columns.take(rows) if rows else ()
        return {row: event.t_ns - event.enter_ns for row, event in zip(rows, events, strict=True)}

    def _row(self, prefix: str, kind: int, number: int, t_ns: int, process: str, marks: int, since_ns: int) -> str:
        right = f"@{number:<{self._width}} {precise(t_ns)}{process}"
        tail = self._labels(marks) if marks else ""
        if marks & _MAPPED:
            tail += f" within {duration(since_ns)}"  # stored at some time in that
        elif kind == _CHANGED:
            tail += f" changed between scans, within {duration(since_ns)}"
        if number == self._timeline.last_change:
            tail += self._marker
        if not self._output.is_coloured:
            return f"{prefix:<{_COLUMN}}  {right}{tail}\n"
        styled = self._output.styled
        space = " " * max(_COLUMN + 2 - len(prefix), 2)
        return f"{styled(prefix, _STYLE_OF_KIND.get(Kind(kind), ''))}{space}{styled(right, 'dim')}{tail}\n"

    def _labels(self, marks: int) -> str:
        return "".join(" " + self._output.styled(label, "bold red") for label in describe.labels(marks))

    def _process(self, key: int, pid: int) -> str:
        text = f"  {_process_name(self._timeline.comm_of(key))}[{pid}]" if pid else ""
        self._processes[key, pid] = text
        return text


def _process_name(comm: bytes) -> str:
    return escape.name(comm) if comm else "?"
