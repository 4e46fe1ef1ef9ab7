"""What becomes of a trace once its command has ended: the policies of ``record --keep``."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

ALWAYS, ON_FAILURE, ON_SIGNAL, NEVER = "always", "on-failure", "on-signal", "never"
POLICIES = (ALWAYS, ON_FAILURE, ON_SIGNAL, NEVER)

_SHELL_SIGNALS = range(129, 193)  # what a shell exits with when a signal (1 to 64) ended its command


class Fate(Enum):
    """Say what is done with a trace. DEFER: it is sealed as journaled, and processed if it turns out to be wanted."""

    KEEP = "keep"
    DEFER = "defer"
    DISCARD = "discard"


Policy = Callable[[int, int], Fate]
"""Decides by exit code and wait status."""


def is_failure(exit_code: int, wait_status: int) -> bool:
    """Say whether a command failed: by its exit code, a signal or the timeout."""
    return exit_code != 0 or wait_status != 0


def is_by_signal(exit_code: int, wait_status: int) -> bool:
    """Say whether a signal ended the command, or one that a shell ran as its last and reports as 128+N."""
    return bool(wait_status & 0x7F) or exit_code in _SHELL_SIGNALS


def policy_of(name: str) -> Policy:
    """Return the policy of a name in ``POLICIES``."""
    return {ALWAYS: _always, ON_FAILURE: _on_failure, ON_SIGNAL: _on_signal, NEVER: _never}[name]


def _always(exit_code: int, wait_status: int) -> Fate:
    return Fate.KEEP


def _on_failure(exit_code: int, wait_status: int) -> Fate:
    return Fate.KEEP if is_failure(exit_code, wait_status) else Fate.DISCARD


def _on_signal(exit_code: int, wait_status: int) -> Fate:
    return Fate.KEEP if is_by_signal(exit_code, wait_status) else Fate.DISCARD


def _never(exit_code: int, wait_status: int) -> Fate:
    return Fate.DISCARD
