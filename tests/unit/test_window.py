"""The window that puts observations in the order of time."""

from __future__ import annotations

import random
from collections.abc import Iterable

from diffkeeper.model.late import Settled
from diffkeeper.model.observation import Closed, Flag, Inode, Observation
from diffkeeper.processing.window import Window

SECOND = 1_000_000_000


def seen(sequence: int, t_ns: int) -> Observation:
    inode = Inode(1, 2, 3, 0o100644, 1, 0, 0, 0, 0)
    return Closed(sequence, t_ns, t_ns, t_ns, 7, 7, Flag(0), 0, inode)


def sequences(released: Iterable[Settled]) -> list[int]:
    return [one.sequence for one, _, _ in released]


def test_observations_leave_in_the_order_of_time_and_then_of_sequence() -> None:
    window = Window()
    window.add(1, 100, [seen(2, 30), seen(1, 30), seen(3, 10)])
    window.add(2, 200, [seen(4, 20)])
    assert sequences(window.drain()) == [3, 4, 1, 2]


def test_nothing_leaves_before_the_journal_is_a_horizon_ahead() -> None:
    window = Window()
    window.add(1, 3 * SECOND, [seen(1, 1 * SECOND), seen(2, 3 * SECOND)])
    assert sequences(window.release_all_due()) == [1]
    assert window.covered == 0
    window.add(2, 5 * SECOND, [])
    assert sequences(window.release_all_due()) == [2]
    assert window.covered == 2


def test_what_comes_behind_the_line_goes_at_once() -> None:
    window = Window()
    window.add(1, 4 * SECOND, [seen(1, 1 * SECOND)])
    assert sequences(window.release_all_due()) == [1]
    window.add(2, 4 * SECOND, [seen(2, 2 * SECOND - 5), seen(3, 3 * SECOND)])
    assert sequences(window.release_all_due()) == [2]


def test_a_batch_is_covered_only_when_all_before_it_are() -> None:
    window = Window()
    window.add(1, 1 * SECOND, [seen(1, 3 * SECOND)])
    window.add(2, 4 * SECOND, [seen(2, 1 * SECOND)])
    assert sequences(window.release_all_due()) == [2]
    assert window.covered == 0
    window.drain()
    assert window.covered == 2


def test_the_horizon_gives_way_before_memory_does() -> None:
    window = Window(memory_bytes=100 * 2560)
    for number in range(1, 301):
        window.add(number, SECOND, [seen(number, number)])
    assert len(sequences(window.release_all_due())) == 250
    assert window.shortened == 1


def test_small_batches_are_not_sorted_one_by_one() -> None:
    window = Window()
    window.add(1, 10 * SECOND, [seen(1, 1)])
    assert sequences(window.release()) == []
    assert sequences(window.release_all_due()) == [1]


def test_the_order_does_not_depend_on_how_the_batches_were_cut() -> None:
    dice = random.Random(4)
    observations = [seen(number, number * 10 + dice.randrange(300)) for number in range(1, 3000)]
    window, at = Window(), 0
    while at < len(observations):
        size = dice.randrange(1, 200)
        window.add(at, 0, observations[at : at + size])
        assert sequences(window.release_all_due()) == []  # sorts
        at += size
    in_order = sorted(observations, key=lambda one: (one.t_ns, one.sequence))
    assert sequences(window.drain()) == [one.sequence for one in in_order]
