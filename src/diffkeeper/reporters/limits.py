"""What is said of a trace that was kept below a size: from when on it answers, or until when."""

from __future__ import annotations

from diffkeeper.model.clock import precise
from diffkeeper.reporters.numbers import size


def since_words(number: int, t_ns: int) -> str:
    """Return the first moment that a trace answers for, as ``00:12.345 (@20000)``."""
    return f"{precise(t_ns)} (@{number})"


def dropped_words(asked: str, number: int, t_ns: int, limit_bytes: int) -> str:
    """Return why a trace cannot answer what was ``asked`` for, and from where on it can."""
    why = f" as the trace may have {size(limit_bytes)}" if limit_bytes else ""
    return (
        f"{asked} is before {since_words(number, t_ns)}: history up to there was dropped{why}; write @{number} or later"
    )


def full_words(full_ns: int, max_bytes: int) -> str:
    """Return what is missing from a trace that was full at some time."""
    return f"the trace had its {size(max_bytes)} at {precise(full_ns)}: what came after is missing"
