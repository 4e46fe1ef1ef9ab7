"""What many runs of the oracle came to, as a table in Markdown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from oracle.judge import Finding, Verdict
from oracle.workloads import Workload

_HEAD = (
    "workload", "what is in it", "events", "took", "instants", "exact", "right, but marked", "wrong where marked",
    "**wrong and unmarked**", "lost", "resynced", "holes",
)  # fmt: skip
_BETWEEN = "(<!-- oracle: {place} -->\n).*?(<!-- end of oracle: {place} -->)"


@dataclass(frozen=True)
class Row:
    """Hold what is told of one workload; ``skipped`` is why it could not be run."""

    workload: Workload
    verdict: Verdict | None
    seconds: float = 0.0
    skipped: str = ""

    def cells(self) -> list[str]:
        """Return the cells under ``_HEAD``."""
        head = [f"`{self.workload.name}`", self.workload.why]
        if self.verdict is None:
            return [*head, self.skipped, *[""] * (len(_HEAD) - 3)]
        verdict = self.verdict
        counts = [verdict.findings[finding] for finding in Finding]
        numbers = [verdict.instants, *counts, verdict.lost, verdict.resynced, verdict.holes]
        return [*head, f"{verdict.events:,}", f"{self.seconds:.1f} s", *(f"{number:,}" for number in numbers)]


def table_of(rows: list[Row]) -> str:
    """Return the rows as a table."""
    lines = [list(_HEAD), ["---"] * len(_HEAD), *(row.cells() for row in rows)]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


class NoSuchSectionError(Exception):
    """Report a document that has no comments for a table: it is not written over."""


def has_section(file: Path, place: str) -> bool:
    """Say whether a table can be written: into a document that has the comments of ``place``, or into a new file."""
    return not file.exists() or re.search(_section(place), file.read_text(), flags=re.DOTALL) is not None


def write_table(rows: list[Row], file: Path, place: str, conditions: str) -> None:
    """Write a table, into a document between the comments of ``place``. Raises NoSuchSectionError if it has none."""
    text = f"{conditions}\n\n{table_of(rows)}"
    if not file.exists():
        file.write_text(f"<!-- oracle: {place} -->\n{text}<!-- end of oracle: {place} -->\n")
        return
    written, count = re.subn(
        _section(place), lambda found: found[1] + text + found[2], file.read_text(), flags=re.DOTALL
    )
    if not count:
        raise NoSuchSectionError(f"{file} has no section for {place}")
    file.write_text(written)


def _section(place: str) -> str:
    return _BETWEEN.format(place=re.escape(place))


def conditions_of(instants: int, seed: int, kind: str, took_s: float) -> str:
    """Say under which conditions a table came about; ``took_s`` is the time of all of it."""
    system = os.uname()
    release = re.sub(r"[^\d.].*", "", system.release)
    machine = f"Linux {release}, {system.machine}, {os.cpu_count()} processors"
    load = os.getloadavg()[2]
    return (
        f"{machine} (load {load:.0f}), {kind}; {instants} instants asked for, seed {seed}; {took_s / 60:.0f} minutes."
    )
