"""The format of a directory of attempts: which there were, how they ended, and which of their traces are kept in it.

diffkeeper-trace/      mode 0700; while an attempt runs it is the directory of its trace as well
  attempts.json        AttemptsFacts, rewritten atomically after every attempt
  attempt-7/           a trace that was kept: the first attempt that failed
  attempt-6/           another: the nearest that passed
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from diffkeeper.model.values import dataclass
from diffkeeper.store.format import SESSION_NAME

ATTEMPTS_NAME = "attempts.json"
_NAME = re.compile(r"attempt-[1-9][0-9]{0,8}")
_MOST_BYTES = 1 << 20


@dataclass()
class AttemptsFacts:
    """Count attempts; ``failing`` and ``passing`` are the numbers of those that are kept to be compared, 0 for none."""

    attempts: int = 0
    failed: int = 0
    failing: int = 0
    passing: int = 0
    kept: list[int] = field(default_factory=list)


def is_attempt(name: str) -> bool:
    """Say whether an entry of such a directory has the name of a trace that was kept."""
    return _NAME.fullmatch(name) is not None


def attempt_name(number: int) -> str:
    """Return the name of the trace of an attempt."""
    return f"attempt-{number}"


def write_attempts(directory: Path, facts: AttemptsFacts) -> None:
    """Replace attempts.json."""
    document = {"v": 1, "type": "attempts", **asdict(facts)}
    temporary = directory / f"{ATTEMPTS_NAME}.tmp"
    temporary.write_text(json.dumps(document) + "\n", encoding="ascii")
    temporary.replace(directory / ATTEMPTS_NAME)


def chosen_attempt(path: Path) -> Path:
    """Return the trace that a path means: of a directory of attempts the one that failed, else the last that is kept.

    Any other path is returned as it is, and so is one of which nothing was kept.
    """
    if (path / SESSION_NAME).exists():
        return path
    document = _read(path / ATTEMPTS_NAME)
    kept = document.get("kept")
    numbers = [document.get("failing"), *reversed(kept if isinstance(kept, list) else [])]
    places = [path / f"attempt-{number}" for number in numbers if is_attempt(f"attempt-{number}")]
    return next((place for place in places if (place / SESSION_NAME).exists()), path)


def _read(path: Path) -> dict[str, Any]:
    """Return what a file of a stranger's says, nothing if it is not what it should be."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
