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


def write_table(rows: list[Row], file: Path, place: str, conditions: str) -> None:
    """Write a table; into a document that has the comments of ``place``, between them."""
    text = f"{conditions}\n\n{table_of(rows)}"
    former = file.read_text() if file.exists() else ""
    written, count = re.subn(
        _BETWEEN.format(place=re.escape(place)), lambda found: found[1] + text + found[2], former, flags=re.DOTALL
    )
    file.write_text(written if count else text)


def conditions_of(instants: int, seed: int, kind: str) -> str:
    """Say under which conditions a table came about."""
    system = os.uname()
    release = re.sub(r"[^\d.].*", "", system.release)
    machine = f"Linux {release}, {system.machine}, {os.cpu_count()} processors"
    return f"{machine}, {kind}; {instants} instants asked for, seed {seed}."
