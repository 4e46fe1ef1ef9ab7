"""What a timeline shows: filters of events by path, operation, process and range; positions are in ``positions``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from dataclasses import field

from diffkeeper.errors import UsageError
from diffkeeper.model.event import Event, Kind, Mark
from diffkeeper.model.globs import PathFilter
from diffkeeper.model.positions import Cut, Extent, Position, Range, parse_position, parse_range
from diffkeeper.model.values import dataclass

__all__ = [
    "ALWAYS_KINDS",
    "HIDDEN_KINDS",
    "NAMELESS_KINDS",
    "Cut",
    "EventFilter",
    "Extent",
    "PathFilter",
    "Position",
    "Range",
    "parse_ops",
    "parse_position",
    "parse_range",
]

HIDDEN_KINDS = frozenset({Kind.CLOSE, Kind.FORK, Kind.EXEC, Kind.EXIT, Kind.OUTPUT, Kind.PENDING})
"""Kinds that a timeline leaves out unless they are asked for."""

ALWAYS_KINDS = frozenset({Kind.GAP, Kind.RESYNC, Kind.LIMIT})
"""Kinds that are shown whatever kinds were asked for."""

NAMELESS_KINDS = frozenset({Kind.OUTPUT, Kind.FORK, Kind.EXEC, Kind.EXIT})
"""Kinds that are shown whatever paths were asked for."""

LOSSES = frozenset({Kind.GAP, Kind.LIMIT})
"""Kinds that say that something is not there: no filter hides them."""

_EVERYTHING = PathFilter()


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Say which events a timeline shows.

    A gap, or a limit, is shown whatever else was asked for, so that no answer hides a loss; a resync is shown whatever
    the kinds; an event whose name could not be placed is shown whatever the paths.
    """

    paths: PathFilter = _EVERYTHING
    kinds: frozenset[Kind] = frozenset(Kind) - HIDDEN_KINDS
    pids: frozenset[int] = frozenset()
    first: int = 1
    last: int = sys.maxsize
    is_narrow: bool = field(default=False)  # something was asked for that may leave events out

    @classmethod
    def of(
        cls,
        extent: Extent,
        *,
        paths: PathFilter = _EVERYTHING,
        ops: Iterable[str | Kind] = (),
        pids: Iterable[int] = (),
        since: Position | None = None,
        until: Position | None = None,
        output: bool = False,
    ) -> EventFilter:
        """Make the filter for a trace from what a user asked for; ``output`` adds the command's own output."""
        asked = parse_ops(ops)
        kinds = asked or frozenset(Kind) - HIDDEN_KINDS
        first, last = Range(since, until).numbers(extent)
        wanted_pids = frozenset(pids)
        is_narrow = bool(asked or wanted_pids or since or until or not paths.is_everything)
        return cls(paths, kinds | {Kind.OUTPUT} if output else kinds, wanted_pids, first, last, is_narrow)

    def admits(self, event: Event) -> bool:
        """Return whether the event is shown."""
        return self.admits_row(event.number, event.kind, event.pid) and self.admits_paths(
            event.kind, event.marks, event.path, event.path2
        )

    def admits_row(self, number: int, kind: int, pid: int) -> bool:
        """Return whether an event may be shown, for its numbers alone; the paths remain to be asked."""
        if not self.first <= number <= self.last:
            return False
        if kind in LOSSES:
            return True
        if self.pids and pid not in self.pids:
            return False
        return kind in self.kinds or kind == Kind.RESYNC

    def admits_paths(self, kind: int, marks: int, path: bytes, path2: bytes) -> bool:
        """Return whether one of the names of an event was asked for."""
        if self.paths.is_everything or kind in LOSSES or marks & Mark.UNRESOLVED:
            return True
        if kind in NAMELESS_KINDS:
            return True
        return self.paths.matches(path) or bool(path2 and self.paths.matches(path2))


def parse_ops(ops: Iterable[str | Kind]) -> frozenset[Kind]:
    """Return the kinds that ``write``, ``write,rename`` or ``all`` name; raises UsageError for an unknown one."""
    if isinstance(ops, str):
        ops = (ops,)
    kinds: set[Kind] = set()
    for op in ops:
        for name in (op.name,) if isinstance(op, Kind) else op.split(","):
            kinds |= _kinds_named(name.strip().upper())
    return frozenset(kinds)


def _kinds_named(name: str) -> frozenset[Kind]:
    if name == "ALL":
        return frozenset(Kind)
    if name in Kind.__members__:
        return frozenset({Kind[name]})
    near = difflib.get_close_matches(name, Kind.__members__, 3, 0.5) or list(Kind.__members__)
    raise UsageError(f"no operation {name.lower()!r}: there is {', '.join(one.lower() for one in near)}, and all")
