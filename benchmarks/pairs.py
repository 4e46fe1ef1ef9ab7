"""Pairs of measurements, interleaved, and what they come to: ratios, medians and spreads."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """Hold some measurements of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the middle one."""
        return statistics.median(self.values)

    def text(self, digits: int = 2) -> str:
        """Return the median, and the least and the greatest in brackets."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def interleaved(count: int, *ways: Callable[[], T]) -> list[tuple[T, ...]]:
    """Run all ways ``count`` times and return each round's results in the order of ``ways``.

    Every other round runs them backwards, so that what drifts (a disk that fills, a processor that heats) favours none.
    """
    rounds = []
    for number in range(count):
        order = range(len(ways)) if number % 2 == 0 else range(len(ways) - 1, -1, -1)
        results = {index: ways[index]() for index in order}
        rounds.append(tuple(results[index] for index in range(len(ways))))
    return rounds


def ratios(rounds: Sequence[tuple[T, ...]], value: Callable[[T], float], way: int = 1, against: int = 0) -> Spread:
    """Return what one way took in each round, as a multiple of what another did."""
    return Spread(tuple(value(each[way]) / value(each[against]) for each in rounds))


def differences(rounds: Sequence[tuple[T, ...]], value: Callable[[T], float], way: int = 1, against: int = 0) -> Spread:
    """Return by how much one way took more than another in each round."""
    return Spread(tuple(value(each[way]) - value(each[against]) for each in rounds))


def spread(rounds: Sequence[tuple[T, ...]], value: Callable[[T], float], way: int = 0) -> Spread:
    """Return a value of one way in each round."""
    return Spread(tuple(value(each[way]) for each in rounds))
