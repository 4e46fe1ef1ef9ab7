"""What a block of events touches: paths, nodes, processes and marks, so that a filter can pass over the block unread.

It is an aid: a trace without it (older ones have none) answers the same, only later. Numbers of columns are part of the
format: never reuse one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from diffkeeper.model.event import Event
from diffkeeper.store.columns import ColumnReader, ColumnWriter
from diffkeeper.store.eventblock import Column, EventColumns

PATH_LENGTHS, PATHS, NODES, PIDS, MARKS = range(1, 6)


def encode_touched(events: Sequence[Event | EventColumns]) -> bytes:
    """Return the summary of a block of events."""
    single = [event for event in events if not isinstance(event, EventColumns)]
    paths = {event.path for event in single} | {event.path2 for event in single}
    nodes = {event.node for event in single} | {event.replaced for event in single}
    pids, marks = {event.pid for event in single}, {int(event.marks) for event in single}
    for run in events:
        if isinstance(run, EventColumns):
            paths |= {b"", *run.used_paths()}
            nodes |= {0, *run.columns[Column.NODE]}
            pids.update(run.columns[Column.PID])
            marks.update(run.columns[Column.MARKS])
    return encode_summary(paths, nodes, pids, reduce(or_, marks, 0))


def encode_summary(paths: Iterable[bytes], nodes: Iterable[int], pids: Iterable[int], marks: int) -> bytes:
    """Return a summary of what is given, each thing once; ``marks`` are those of all events taken together."""
    writer = ColumnWriter()
    writer.strings(PATH_LENGTHS, PATHS, sorted(paths))
    writer.numbers(NODES, sorted(nodes), differences=True)
    writer.numbers(PIDS, sorted(pids), differences=True)
    writer.numbers(MARKS, [marks])
    return writer.to_bytes()


class Touched:
    """Read a summary; everything is decoded when it is first asked for. All raise DamagedTraceError."""

    def __init__(self, value: bytes) -> None:
        """Take the stored value."""
        self._reader = ColumnReader(value)

    def paths(self) -> list[bytes]:
        """Return all that the events have as path or second path, the empty one included."""
        return self._reader.strings(PATH_LENGTHS, PATHS)

    def nodes(self) -> Sequence[int]:
        """Return the nodes that the events are about, or that lost their names to these."""
        return self._reader.all_numbers(NODES)

    def pids(self) -> Sequence[int]:
        """Return the processes that did the events."""
        return self._reader.all_numbers(PIDS)

    def marks(self) -> int:
        """Return the marks of all events taken together."""
        return reduce(or_, self._reader.all_numbers(MARKS), 0)
