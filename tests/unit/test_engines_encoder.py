from __future__ import annotations

import pytest

from diffkeeper.engines.decoder import decode
from diffkeeper.engines.encoder import encode
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    Closed,
    DataOp,
    DataWritten,
    DirectorySeen,
    EntryRead,
    EventsLost,
    Flag,
    Held,
    HoleFound,
    HoleReread,
    Inode,
    LateData,
    Lost,
    MountChanged,
    NameChanged,
    NameOp,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    RequestSeen,
    SizeChanged,
    SizeOp,
)

COMMON = (7, 100, 90, 110, 41, 42, Flag.IN_LOCK | Flag.APPEND, 5)
READING = (-COMMON[1], *COMMON[1:])  # bears a number of its own
INODE = Inode(8 << 20 | 1, 1234, 99, 0o100644, 1, 1000, 1001, 5, 1_700_000_000_123_456_789)
OTHER = Inode(8 << 20 | 1, 77, 3, 0o40755, 2, 0, 0, 4096, 5, 3)
BASE = Base(8 << 20 | 1, 2, 0)
LARGE = bytes(range(256)) * 600

OBSERVATIONS = [
    DataWritten(*COMMON, DataOp.WRITE, INODE, 10, 5, ((0, b"hallo"),)),
    DataWritten(*COMMON, DataOp.WRITE, INODE, 0, 0, ()),
    DataWritten(*COMMON, DataOp.WRITE, INODE, 10, 9, ((0, b"ab"), (7, b"c"))),
    DataWritten(*COMMON, DataOp.COPY_RANGE, INODE, 10, 5, (), OTHER, 3),
    DataWritten(*COMMON, DataOp.CLONE, INODE, 10, 5, (), None, 0),
    SizeChanged(*COMMON, SizeOp.FALLOCATE, INODE, 3, 4096, 8192),
    NameChanged(*COMMON, NameOp.RENAME, BASE, b"a/b", BASE, b"\xff\n c", 2, (OTHER, INODE)),
    NameChanged(*COMMON, NameOp.UNLINK, BASE, b"x" * 4095, BASE, b"", 0, ()),
    Opened(*COMMON, INODE, OTHER, b"name", True, False, 0o101, (OTHER, INODE)),
    AttributeChanged(*COMMON, AttributeOp.SETXATTR, INODE, b"user.x", b"value", True),
    AttributeChanged(*COMMON, AttributeOp.SETXATTR, INODE, b"user.x", b"", False),
    Closed(*COMMON, INODE),
    OutputWritten(*COMMON, 2, 6, ((0, b"error\n"),)),
    ProcessSeen(*COMMON, 40, b"worker", True),
    ProcessExecuted(*COMMON, b"sh", b"/bin/sh", b"/tmp", (b"sh", b"-c", b""), False),
    ProcessExecuted(*COMMON, b"sh", b"/bin/sh", b"/tmp", (b"sh", b"cut"), True),
    ProcessExited(*COMMON, 256),
    LateData(*READING, 7, INODE, 0, b"late", 90, 95, False),
    EntryRead(*READING, 7, BASE, b"name", INODE, b"target", 90, 95),
    EventsLost(*COMMON, "queue", 12, 80),
    MountChanged(*COMMON, True, INODE, INODE, b"tmpfs", False, True, BASE, b"m"),
    MountChanged(*COMMON, False, None, None, b"", False, False, BASE, b"some/where"),
    Held(*COMMON),
    RequestSeen(*COMMON, INODE, 4096, 8192, 7, False),
    RequestSeen(*COMMON, INODE, 0, 0, 7, True),
    EventsLost(*COMMON, "probe", 12, 80, Lost.BYTES, BASE, 4096, 3),
    HoleFound(*COMMON, INODE, BASE, b"core", 5, 6, 2),
    HoleFound(*COMMON, INODE, BASE, b"", 0, 0, 2),
    HoleReread(*COMMON, INODE, BASE, b"core", 5, 6, None),
    HoleReread(*COMMON, INODE, BASE, b"f", 0, 6, frozenset([b"user.a", b"user.b"])),
]


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=lambda one: type(one).__name__)
def test_what_is_encoded_is_decoded_as_it_was(observation: Observation) -> None:
    assert decode(encode(observation)) == [observation]


def test_a_large_payload_comes_back_in_pieces() -> None:
    (observation,) = decode(encode(DataWritten(*COMMON, DataOp.WRITE, INODE, 0, len(LARGE), ((0, LARGE),))))
    assert isinstance(observation, DataWritten)
    assert b"".join(data for _, data in observation.payload) == LARGE
    assert [start for start, _ in observation.payload] == [0, 65536, 131072]


def test_what_has_no_wire_format_is_refused() -> None:
    with pytest.raises(TypeError, match="DirectorySeen"):
        encode(DirectorySeen(*COMMON, 1, (), BASE))
