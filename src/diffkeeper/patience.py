"""How long processing may take: as long as it does, or until a deadline, at which it stops as if it had been killed."""

from __future__ import annotations

import time


class OutOfTimeError(Exception):
    """Report that processing was stopped at its deadline; what it has committed stays."""


class Patience:
    """Know a deadline, None for no end of patience (CLOCK_MONOTONIC, in seconds)."""

    def __init__(self, deadline_s: float | None = None) -> None:
        """Start waiting."""
        self._deadline_s = deadline_s

    @property
    def left_s(self) -> float | None:
        """Return how many seconds are left, None if there is no end."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - time.monotonic())

    def check(self) -> None:
        """Raise OutOfTimeError at the deadline."""
        if self._deadline_s is not None and time.monotonic() >= self._deadline_s:
            raise OutOfTimeError
