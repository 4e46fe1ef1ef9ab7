"""What a trace itself says may not be right: a difference there is an inexactness, everywhere else it is a lie.

The rule is narrow on purpose. An entry whose content is not exact is not vouched for as to bytes and modification time;
an event that is marked, as to the paths that it names; a GAP without a path, as to all that comes after it.
"""

from __future__ import annotations

from collections.abc import Iterable

from diffkeeper import Event
from diffkeeper.model.event import Kind, Mark
from oracle.manifest import Difference

_OF_THE_CONTENT = frozenset({"bytes", "content", "mtime_ns"})
_DOUBTFUL = ~int(Mark.OUTSIDER | Mark.LATE | Mark.MAPPED)  # these say nothing of what is true


class Marks:
    """Answer whether a difference was to be expected, by what the trace says."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._events = [event for event in events if _is_doubtful(event)]

    def cover(self, difference: Difference, cut: int, inexact: dict[bytes, str]) -> bool:
        """Say whether the trace warned of a difference in the state after event ``cut``."""
        if difference.path in inexact and difference.what in _OF_THE_CONTENT:
            return True
        return any(_names(event, difference.path) for event in self._events if event.number <= cut)


def _is_doubtful(event: Event) -> bool:
    return event.kind == Kind.GAP or bool(int(event.marks) & _DOUBTFUL)


def _names(event: Event, path: bytes) -> bool:
    """Say whether an event in doubt may have changed a path: it names it, what is above it, or what is right in it."""
    named = [each for each in (event.path, event.path2) if each]
    if not named:
        return event.kind == Kind.GAP
    return any(path == each or path.startswith(each + b"/") or path == each.rpartition(b"/")[0] for each in named)
