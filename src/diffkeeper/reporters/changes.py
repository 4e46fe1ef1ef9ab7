"""Differences of two instants as letters and paths, as ``git diff --name-status`` prints them."""

from __future__ import annotations

from collections.abc import Iterable

from diffkeeper.model.answers import Change
from diffkeeper.reporters import escape
from diffkeeper.reporters.output import Output

_STYLE_OF_LETTER = {"A": "green", "D": "red", "M": "yellow", "R": "blue", "T": "magenta", "U": "dim"}


def report_changes(changes: Iterable[Change], output: Output) -> int:
    """Write one line a difference; return how many there were."""
    count = 0
    for change in changes:
        names = escape.name(change.path)
        if change.path2:
            names = f"{names} -> {escape.name(change.path2)}"
        output.line(f"{output.styled(change.letter, _STYLE_OF_LETTER.get(change.letter, ''))}  {names}")
        count += 1
    return count
