"""What processing counts, for `info`, for the line after a recording and for finding named points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from operator import attrgetter
from typing import Any

from diffkeeper.model.event import FILE_KINDS, Event, Kind, Mark
from diffkeeper.model.values import dataclass
from diffkeeper.store.eventblock import Column, EventColumns

CHANGE_KINDS = FILE_KINDS - {Kind.CLOSE, Kind.GAP, Kind.RESYNC, Kind.MOUNT, Kind.PENDING}
_WRITING = (Kind.WRITE, Kind.COPY)
_CHANGING_BYTES = frozenset({Kind.WRITE, Kind.COPY, Kind.TRUNCATE, Kind.FALLOCATE, Kind.IMPORT, Kind.CHANGED})
_MARK_NAMES = {
    Mark.OUTSIDER: "outsiders",
    Mark.AMBIGUOUS: "ambiguous",
    Mark.INEXACT: "inexact",
    Mark.UNKNOWN_DATA: "unknown",
    Mark.UNRESOLVED: "unresolved",
    Mark.LATE: "late",
    Mark.MAPPED: "mapped",
}

_kind = attrgetter("kind")
_marks = attrgetter("marks")


@dataclass(slots=True)
class Totals:
    """Count events by kind and mark, changed nodes, writing processes and bytes."""

    kinds: Counter[int] = field(default_factory=Counter)
    marks: Counter[int] = field(default_factory=Counter)
    bytes_written: int = 0
    nodes: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)  # nodes whose bytes changed
    processes: set[int] = field(default_factory=set)
    exits: dict[int, int] = field(default_factory=dict)  # pid to the number of its last EXIT
    counters: dict[str, int] = field(default_factory=dict)  # the resolver's own

    def add(self, events: Sequence[Event | EventColumns]) -> None:
        """Count events."""
        single: list[Event] = []
        for event in events:
            if isinstance(event, EventColumns):
                self._add_writes(event)
            else:
                single.append(event)
        self._add_events(single)

    def _add_writes(self, run: EventColumns) -> None:
        """Count a run of writes, which have no mark but OUTSIDER."""
        self.kinds[Kind.WRITE] += run.count
        outsiders = sum(run.columns[Column.MARKS])
        if outsiders:
            self.marks[Mark.OUTSIDER] += outsiders
        self.nodes.update(run.columns[Column.NODE])
        self.written.update(run.columns[Column.NODE])
        self.processes.update(run.columns[Column.PROCESS])
        self.bytes_written += sum(run.columns[Column.LENGTH])

    def _add_events(self, events: Sequence[Event]) -> None:
        self.kinds.update(map(_kind, events))
        self.marks.update(filter(None, map(_marks, events)))
        for event in events:
            kind = event.kind
            if kind in CHANGE_KINDS:
                self.nodes.add(event.node)
                self.processes.add(event.process)
                if kind in _CHANGING_BYTES:
                    self.written.add(event.node)
                    if kind in _WRITING:
                        self.bytes_written += event.length
            elif kind == Kind.EXIT:
                self.exits[event.pid] = event.number

    @property
    def events(self) -> int:
        """Return how many events there are."""
        return sum(self.kinds.values())

    @property
    def changes(self) -> int:
        """Return how many events changed a file."""
        return sum(count for kind, count in self.kinds.items() if kind in CHANGE_KINDS)

    def summary(self) -> dict[str, int]:
        """Return the counters that session.json holds and `info` shows."""
        marked = {
            name: sum(count for marks, count in self.marks.items() if marks & mark)
            for mark, name in _MARK_NAMES.items()
        }
        return {
            **self.counters,
            "events": self.events,
            "changes": self.changes,
            "files": len(self.nodes - {0}),
            "processes": len(self.processes - {0}),
            "bytes": self.bytes_written,
            **marked,
        }

    def to_json(self) -> dict[str, Any]:
        """Return a value that ``from_json`` reads."""
        return {
            "kinds": dict(self.kinds),
            "marks": dict(self.marks),
            "bytes": self.bytes_written,
            "nodes": sorted(self.nodes),
            "written": sorted(self.written),
            "processes": sorted(self.processes),
            "exits": self.exits,
            "counters": self.counters,
            "summary": self.summary(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Totals:
        """Read what ``to_json`` returned."""
        return cls(
            Counter(_numbers(document["kinds"])),
            Counter(_numbers(document["marks"])),
            int(document["bytes"]),
            set(document["nodes"]),
            set(document.get("written", ())),
            set(document["processes"]),
            _numbers(document["exits"]),
            {str(name): int(count) for name, count in document["counters"].items()},
        )


def summary_of(document: Mapping[str, Any]) -> dict[str, int]:
    """Return the counters in what ``to_json`` returned; of an older one by counting what it lists."""
    told = document.get("summary")
    if told is None:
        return (Totals.from_json(document) if document else Totals()).summary()
    return {str(name): int(count) for name, count in told.items()}


def kinds_of(document: Mapping[str, Any]) -> dict[int, int]:
    """Return how many events of each kind there are, in what ``to_json`` returned."""
    return _numbers(document.get("kinds", {}))


def _numbers(document: Mapping[str, Any]) -> dict[int, int]:
    return {int(key): int(value) for key, value in document.items()}
