"""What was measured, as tables in a document: a section is written anew, the others stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BETWEEN = "<!-- bench: {name} -->\n(.*?)<!-- end of bench: {name} -->\n"
LIMITS = "limits"


@dataclass(frozen=True)
class Limit:
    """Hold one limit and what was measured."""

    what: str
    aim: str
    measured: str
    is_met: bool

    def cells(self, company: str) -> tuple[str, ...]:
        """Return the cells of its row; ``company`` is what else ran on the machine."""
        return (
            self.what,
            self.aim,
            self.measured,
            f"{'yes' if self.is_met else '**no**'}{company and ' (busy machine)'}",
        )


@dataclass
class Section:
    """Hold what one group of benchmarks came to; ``name`` is its place in the document."""

    name: str
    head: Sequence[str]
    text: str = ""
    rows: list[Sequence[str]] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row, and print it."""
        print(f"{self.name:10} {' | '.join(cells)}", flush=True)
        self.rows.append(cells)

    def markdown(self) -> str:
        """Return the text and the table."""
        return f"{self.text}\n\n{table(self.head, self.rows)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def write(document: Path, section: Section, conditions: str, company: str) -> None:
    """Put a section and its limits into the document, between the comments of its name."""
    text = document.read_text()
    text = _replaced(text, section.name, f"{conditions}\n\n{section.markdown()}")
    limits = _limits_in(text)
    limits.update({limit.what: limit.cells(company) for limit in section.limits})
    document.write_text(_replaced(text, LIMITS, table(("what", "limit", "measured", "met"), limits.values())))


def _replaced(text: str, name: str, body: str) -> str:
    begin, end = f"<!-- bench: {name} -->\n", f"<!-- end of bench: {name} -->\n"
    written, count = re.subn(_BETWEEN.format(name=name), lambda _: begin + body + end, text, flags=re.DOTALL)
    assert count == 1, f"the document has no place for {name}"
    return written


def _limits_in(text: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of limits that the document has, by their first cell."""
    found = re.search(_BETWEEN.format(name=LIMITS), text, re.DOTALL)
    lines = found[1].splitlines()[2:] if found else []
    rows = [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]
    return {cells[0]: cells for cells in rows if cells}
