"""The fixed part of the lines of many events, straight from their columns; the same text as ``describe`` gives.

Building a value for each of a million events takes longer than all the rest. So the operations that come by the
thousand are told from columns, and only for the others an Event is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from diffkeeper.model.clock import bracketed
from diffkeeper.model.event import Event
from diffkeeper.reporters import describe, escape
from diffkeeper.reporters.values import Line, Page

_NAMED = frozenset(map(int, describe.NAMED))


def prefixes(page: Page, line_of: Callable[[Event], Line]) -> Iterator[str]:
    """Yield the fixed part of the line of each row."""
    columns = page.columns
    kinds, times, paths = columns.column("kind"), columns.column("t_ns"), columns.column("path")
    counts: dict[int, Sequence[int]] = {int(kind): columns.column(field) for kind, field in describe.COUNTED.items()}
    names = [escape.name(string) for string in columns.strings]
    ops, named = describe.OPS, _NAMED
    for row in page.rows:
        kind = kinds[row]
        count = counts.get(kind)
        if count is not None:
            yield f"{bracketed(times[row])} {ops[kind]}{names[paths[row]]} ({count[row]}B)"
        elif kind in named:
            yield f"{bracketed(times[row])} {ops[kind]}{names[paths[row]]}"
        else:
            yield describe.prefix(line_of(columns.event(columns.first + row)))
