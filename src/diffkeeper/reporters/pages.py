"""The fixed part of the lines of many events, straight from their columns; the same text as ``describe`` gives.

Building a value for each of a million events takes longer than all the rest. So the operations that come by the
thousand are told from columns, and only for the others events are built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from diffkeeper.model.clock import SECOND_NS, bracketed
from diffkeeper.model.event import Event, Kind, Meta
from diffkeeper.reporters import describe, escape
from diffkeeper.reporters.values import Columns, Line, Page

_COUNTED = {int(kind): field for kind, field in describe.COUNTED.items()}
_NAMED = frozenset(map(int, describe.NAMED))
_WITH_META: dict[int, Callable[[Meta | None], str]] = {
    Kind.CHMOD: describe.mode_text,
    Kind.CHOWN: describe.owner_text,
    Kind.UTIME: describe.times_text,
}


def prefixes(page: Page, line_of: Callable[[Event], Line]) -> list[str]:
    """Return the fixed part of the line of each row."""
    columns = page.columns
    kinds, times, paths = columns.column("kind"), columns.column("t_ns"), columns.column("path")
    counts = {kind: columns.column(field) for kind, field in _COUNTED.items()}
    names = _escaped(columns, paths, page.rows)
    others = _others(page, names, line_of)
    ops, named, lines = describe.OPS, _NAMED, list[str]()
    second, time = None, ""
    for row in page.rows:
        kind = kinds[row]
        if times[row] // SECOND_NS != second:
            second, time = times[row] // SECOND_NS, bracketed(times[row])
        count = counts.get(kind)
        if count is not None:
            lines.append(f"{time} {ops[kind]}{names[paths[row]]} ({count[row]}B)")
        elif kind in named:
            lines.append(f"{time} {ops[kind]}{names[paths[row]]}")
        else:
            lines.append(others[row])
    return lines


def _escaped(columns: Columns, places: Sequence[int], rows: Iterable[int]) -> dict[int, str]:
    """Return the strings that some rows refer to, as they are shown."""
    strings, name = columns.strings, escape.name
    return {place: name(strings[place]) for place in {places[row] for row in rows}}


def _others(page: Page, names: dict[int, str], line_of: Callable[[Event], Line]) -> dict[int, str]:
    """Return the fixed parts of the rows that are not told by a path and a number of bytes."""
    columns = page.columns
    kinds, paths, strings = columns.column("kind"), columns.column("path"), columns.strings
    rest = [row for row in page.rows if kinds[row] not in _COUNTED and kinds[row] not in _NAMED]
    moved = [row for row in rest if kinds[row] == Kind.RENAME]
    changed = [row for row in rest if kinds[row] in _WITH_META and strings[paths[row]]]  # the root's own path is empty
    told = {**_moved(columns, moved, names), **_changed(columns, changed, names)}
    built = [row for row in rest if row not in told]
    lines = (describe.prefix(line_of(event)) for event in (columns.take(built) if built else ()))
    return {**told, **dict(zip(built, lines, strict=True))}


def _moved(columns: Columns, rows: Sequence[int], names: dict[int, str]) -> dict[int, str]:
    if not rows:
        return {}
    times, paths, paths2, sizes = (columns.column(field) for field in ("t_ns", "path", "path2", "size"))
    op, names2 = describe.OPS[Kind.RENAME], _escaped(columns, paths2, rows)
    return {
        row: f"{bracketed(times[row])} {op}{names[paths[row]]} -> {names2[paths2[row]]}"
        + describe.size_text(meta, sizes[row])
        for row, meta in zip(rows, columns.metas(rows), strict=True)
    }


def _changed(columns: Columns, rows: Sequence[int], names: dict[int, str]) -> dict[int, str]:
    if not rows:
        return {}
    kinds, times, paths = columns.column("kind"), columns.column("t_ns"), columns.column("path")
    return {
        row: f"{bracketed(times[row])} {describe.OPS[kinds[row]]}{names[paths[row]]}{_WITH_META[kinds[row]](meta)}"
        for row, meta in zip(rows, columns.metas(rows), strict=True)
    }
