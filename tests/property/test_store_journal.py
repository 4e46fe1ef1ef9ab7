"""A torn journal yields exactly the batches before the damage."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from diffkeeper.store.journal import JournalReader, encode_batch, segment_path

TRACE_ID = 5


def read(data: bytes) -> tuple[list[bytes], list[str]]:
    with tempfile.TemporaryDirectory() as trace:
        path = segment_path(trace, "r", 1)
        path.parent.mkdir()
        path.write_bytes(data)
        reader = JournalReader(Path(trace), TRACE_ID)
        return [batch.payload for batch in reader.batches("r")], reader.damage


PAYLOADS = st.lists(st.binary(max_size=60), min_size=1, max_size=6)


def journal(payloads: list[bytes]) -> tuple[bytes, list[int]]:
    data, ends = b"", []
    for number, payload in enumerate(payloads, 1):
        data += encode_batch(1, TRACE_ID, number, number, payload)
        ends.append(len(data) - (-len(payload)) % 8)  # the padding may be missing
    return data, ends


@given(PAYLOADS, st.data())
@settings(max_examples=50, deadline=None)
def test_a_journal_cut_at_any_byte_yields_the_batches_before_the_cut(
    payloads: list[bytes], draw: st.DataObject
) -> None:
    data, ends = journal(payloads)
    cut = draw.draw(st.integers(0, len(data)))
    assert read(data[:cut])[0] == payloads[: sum(end <= cut for end in ends)]


@given(PAYLOADS, st.data(), st.integers(1, 255))
@settings(max_examples=50, deadline=None)
def test_a_changed_byte_ends_the_segment_there(payloads: list[bytes], draw: st.DataObject, change: int) -> None:
    data, ends = journal(payloads)
    place = draw.draw(st.integers(0, len(data) - 1))
    torn = bytearray(data)
    torn[place] ^= change
    found = read(bytes(torn))[0]
    padding = not any(
        start <= place < end for start, end in zip([0, *((e + 7) & ~7 for e in ends)], ends, strict=False)
    )
    assert found == (payloads if padding else payloads[: sum(((end + 7) & ~7) <= place for end in ends)])


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_a_journal_without_batches(data: bytes) -> None:
    found, damage = read(data)
    assert found == []
    assert bool(damage) == any(data[:40])


@given(PAYLOADS, st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_what_is_left_over_from_a_former_use_is_not_read(payloads: list[bytes], rest: bytes) -> None:
    data, _ = journal(payloads)
    old = b"".join(encode_batch(1, TRACE_ID, number, 0, b"old") for number in range(1, 4))
    assert read(data + rest)[0] == payloads
    assert read(data + old)[0] == payloads
