"""When streams of bytes end, and what they are based on."""

from __future__ import annotations

import stat

import pytest

from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.node import Node
from witness import Blobs


@pytest.fixture
def blobs() -> Blobs:
    """Return a sink in memory."""
    return Blobs()


def written(log: ContentLog, number: int, data: bytes = b"data", mode: int = 0o644) -> Node:
    """Return a file with bytes that were just written."""
    blob, start = log.append(number, data)
    log.written.add(number)
    content = ExtentMap(len(data), [(0, len(data), blob, start)])
    return Node(number, (1, number, 0), Meta(stat.S_IFREG | mode, 0, 0, 0), content=content)


def test_a_file_renamed_over_another_is_based_on_it(blobs: Blobs) -> None:
    log = ContentLog(blobs)
    old, new = written(log, 1), written(log, 2, mode=0o755)
    assert log.closed(old)
    assert log.closed(new)
    assert blobs.ended == [], "what it is based on may yet turn up"
    log.replaced(new, old)
    assert blobs.ended == [(2, 2, 1, True)]


def test_a_file_cut_to_nothing_is_based_on_what_it_was(blobs: Blobs) -> None:
    log = ContentLog(blobs)
    node = written(log, 1)
    log.closed(node)
    log.emptied(node)
    written(log, 1, b"new")
    log.closed(node)
    assert blobs.ended == [(1, 1, 0, False), (2, 1, 1, False)]


def test_a_close_without_a_write_means_nothing(blobs: Blobs) -> None:
    log = ContentLog(blobs)
    node = written(log, 1)
    assert log.closed(node)
    assert not log.closed(node)


def test_few_streams_wait_and_all_end(blobs: Blobs) -> None:
    log = ContentLog(blobs)
    for number in range(1, 51):
        log.closed(written(log, number))
    assert len(blobs.ended) == 18
    written(log, 99)
    log.finish()
    assert len(blobs.ended) == 51
