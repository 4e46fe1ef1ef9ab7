"""For random histories and random beginnings: what a trace still answers is what it answered before."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkeeper import Event, Trace
from diffkeeper.errors import DroppedHistoryError
from diffkeeper.store.content import chunk_key
from diffkeeper.store.format import STORE_NAME, Key, read_session
from diffkeeper.store.rocks import RocksStore
from histories import HUGE, SETTINGS, process_dropping, process_whole, states
from scripts import seal


@pytest.fixture(autouse=True, scope="module")
def many_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setattr(name, value)
        yield


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1 << 32), every=st.integers(1, 6))
def test_what_is_left_is_as_it_was(seed: int, every: int) -> None:
    home = Path(tempfile.mkdtemp())
    try:
        whole = process_whole(home / "whole", seed)
        first = process_dropping(home / "left", seed, lambda commit: commit % every == 0)[-1]
        left = home / "left"
        seal(left, read_session(left))
        assert states(left, first) == states(whole, first)
        assert_told(left, whole, first)
        assert_nothing_is_left_over(left)
    finally:
        shutil.rmtree(home)


def assert_told(left: Path, whole: Path, first: int) -> None:
    """The events that are left bear their numbers, and one stands for those that are not."""
    with Trace.open(left) as opened, Trace.open(whole) as other:
        expected = told(list(other.timeline(ops="all")))
        events = list(opened.timeline(ops="all"))
        if not first:
            assert told(events) == expected
            return
        assert (events[0].number, events[0].length, events[0].kind.name) == (first, first, "LIMIT")
        assert told(events[1:]) == expected[first:]
        for asked in (0, first - 1, "start", "@1^"):
            with pytest.raises(DroppedHistoryError, match=f"write @{first} or later"):
                opened.at(asked)
        assert opened.info().max_bytes == HUGE


def told(events: list[Event]) -> list[Event]:
    """Return events without where their bytes are kept."""
    return [replace(event, data=()) for event in events]


def assert_nothing_is_left_over(trace: Path) -> None:
    rocks = RocksStore.open_readonly(trace / STORE_NAME)
    chunks = {key[len(Key.CHUNK) :] for key, _ in rocks.scan(Key.CHUNK)}
    named = {part[at : at + 32] for _, part in rocks.scan(Key.BLOB) for at in range(0, len(part), 36)}
    bases = {key[len(Key.BASE) :]: base for key, base in rocks.scan(Key.BASE)}
    assert bases.keys() <= chunks
    assert set(bases.values()) <= chunks, "what a chunk is a difference from stays with it"
    assert chunks - named <= set(bases.values()), "a chunk that nobody needs stays only as a base"
    assert all(rocks.contains(chunk_key(digest)) for digest in chunks)
    rocks.close()
