"""What is known of a trace as a whole, for people."""

from __future__ import annotations

from collections.abc import Iterator

from diffkeeper.model.answers import TraceInfo
from diffkeeper.model.clock import duration, rfc3339
from diffkeeper.reporters import escape
from diffkeeper.reporters.limits import since_words
from diffkeeper.reporters.numbers import counted, size
from diffkeeper.reporters.output import Output
from diffkeeper.reporters.values import completeness, ending

_WIDTH = 12


def report_info(info: TraceInfo, output: Output) -> None:
    """Write one line a fact; what is wrong with the trace comes last, and in words."""
    for label, text in _facts(info):
        output.line(f"{output.styled(label.ljust(_WIDTH), 'dim')}  {escape.escaped(text)}")
    verdict = completeness(info).replace("complete", "yes") if info.is_complete else "no"
    style = "green" if info.is_complete else "bold red"
    output.line(f"{output.styled('complete'.ljust(_WIDTH), 'dim')}  {output.styled(verdict, style)}")
    for defect in (*info.defects, *info.damage):
        output.line(f"{' ' * _WIDTH}  {output.styled(escape.escaped(defect), 'red')}")


def _facts(info: TraceInfo) -> Iterator[tuple[str, str]]:
    yield "trace", f"{info.path} ({info.state}, id {info.trace_id:016x})"
    yield "command", escape.command(info.argv)
    yield "in", f"{info.cwd} as {info.user} on {info.hostname}, Linux {info.kernel}"
    yield "start", rfc3339(info.start_realtime_ns)
    yield "end", _end(info)
    for label, path in info.roots:
        yield "watched", path if len(info.roots) == 1 else f"{label} = {path}"
    if info.excludes:
        yield "left out", ", ".join(info.excludes)
    for path in info.mounts_left_out:
        yield "left out", f"{path} (mounted; record it with a --watch of its own)"
    yield "engine", info.engine + "".join(f"; except {exception}" for exception in info.engine_exceptions)
    yield "baseline", _baseline(info)
    files, processes = counted(info.files, "file", "files"), counted(info.processes, "process", "processes")
    yield "changes", f"{counted(info.events, 'event', 'events')} on {files} by {processes}"
    if info.first_number:
        since = since_words(info.first_number, info.first_ns)
        yield "answers", f"from {since} on; history up to there was dropped"
    if info.max_bytes:
        yield "limit", f"{size(info.max_bytes)} for the trace"
    yield "operations", ", ".join(f"{count:,} {kind}" for kind, count in info.kinds.items()) or "none"
    yield "written", size(info.bytes_written)
    yield "on disk", f"journal {size(info.journal_bytes)}, store {size(info.store_bytes)}"
    yield from _holding(info)
    yield from _mapped(info)
    yield from _verification(info)
    yield "counted", ", ".join(f"{name} {count:,}" for name, count in info.counters.items() if count) or "nothing"
    yield "recorded by", f"diffkeeper {info.version}"


def _holding(info: TraceInfo) -> Iterator[tuple[str, str]]:
    times = info.counters.get("held", 0)
    if times:
        held = f"{counted(times, 'time', 'times')}, {info.counters['held_us'] / 1000:,.1f} ms in all"
        yield "held", f"{held}: more changes came than could be taken"


def _baseline(info: TraceInfo) -> str:
    """Return the kind of the baseline, and where the content of its files is."""
    counters = info.counters
    files, kept = counters.get("baseline_files", 0), counters.get("baseline_kept", 0)
    if files <= kept:
        return info.baseline
    kept += counters.get("before_images", 0)
    missing = counters.get("no_before_image", 0)
    parts = [f"{kept:,} of {files:,} files have their content in the trace"]
    if files - kept - missing > 0:
        parts.append(f"{files - kept - missing:,} are taken from the base, being untouched")
    if missing:
        parts.append(f"{missing:,} were changed and have none")
    if counters.get("uncovered"):
        parts.append(f"{counters['uncovered']:,} were no longer covered when their holder ended")
    if counters.get("disturbed_opens"):
        opens = counted(counters["disturbed_opens"], "open", "opens")
        parts.append(f"{opens} with O_NONBLOCK failed, perhaps for a lease: --no-leases")
    return f"{info.baseline}; {', '.join(parts)}"


def _mapped(info: TraceInfo) -> Iterator[tuple[str, str]]:
    """Say how files that were mapped shared and writable were looked at."""
    counters = info.counters
    count = counters.get("mapped_files", 0)
    if not count:
        return
    every = duration(counters.get("mapped_interval_ns", 0))
    text = f"{counted(count, 'file', 'files')}, sampled every {every}"
    if counters.get("mapped_late_rounds"):
        text += f"; {counters['mapped_late_rounds']:,} of {counters.get('mapped_rounds', 0):,} samples came later, "
        text += f"after {duration(counters.get('mapped_longest_ns', 0))} at most"
    yield "mapped", text


def _verification(info: TraceInfo) -> Iterator[tuple[str, str]]:
    counters = info.counters
    if info.verification == "done":
        files, entries = counters.get("verified_files", 0), counters.get("verified_entries", 0)
        others = counted(entries, "other entry", "other entries")
        yield "verified", f"{counted(files, 'file', 'files')} byte for byte, {others} by metadata"
    elif info.verification:
        yield "verified", f"no ({info.verification})"
    if info.differing:
        yield "differed", ", ".join(info.differing)


def _end(info: TraceInfo) -> str:
    after = "" if info.duration_ns is None else f" after {duration(info.duration_ns)}"
    return ending(info) + after
