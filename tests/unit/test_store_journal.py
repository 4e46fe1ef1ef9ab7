import os
import stat
import zlib
from pathlib import Path

from diffkeeper.store.journal import (
    BatchHeader,
    BatchKind,
    JournalReader,
    JournalWriter,
    SegmentPool,
    encode_batch,
    remove_journal,
    segment_path,
)

TRACE_ID = 0x1122334455667788


def payloads(reader: JournalReader, stream: str, after: int = 0) -> list[bytes]:
    return [batch.payload for batch in reader.batches(stream, after)]


def written(trace: Path, count: int, size: int = 4096) -> None:
    writer = JournalWriter(trace, TRACE_ID, size=size)
    for number in range(1, count + 1):
        writer.append(BatchKind.ENTRIES, b"%d" % number * 100)
    writer.close()


def test_a_batch_is_laid_out_as_the_format_says() -> None:
    batch = encode_batch(2, TRACE_ID, 3, 4, b"abc")
    assert len(batch) == 48
    plain = bytes.fromhex("444b42310200000088776655443322110300000000000000040000000000000003000000")
    assert batch[:36] == plain
    assert batch[36:40] == zlib.crc32(b"abc", zlib.crc32(plain + b"\0\0\0\0")).to_bytes(4, "little")
    assert batch[40:] == b"abc\0\0\0\0\0"


def test_batches_come_back_in_order_across_segments(tmp_path: Path) -> None:
    written(tmp_path, 100)
    assert len(list((tmp_path / "journal").iterdir())) > 5
    reader = JournalReader(tmp_path, TRACE_ID)
    assert payloads(reader, "b") == [b"%d" % number * 100 for number in range(1, 101)]
    assert payloads(reader, "b", after=97) == [b"%d" % number * 100 for number in (98, 99, 100)]
    assert payloads(reader, "b", after=100) == []
    assert payloads(reader, "r") == []
    assert reader.damage == []


def test_a_journal_can_be_followed_while_it_is_written(tmp_path: Path) -> None:
    writer, reader = JournalWriter(tmp_path, TRACE_ID, size=512), JournalReader(tmp_path, TRACE_ID)
    seen = 0
    for number in range(1, 50):
        writer.append(BatchKind.ENTRIES, bytes([number]) * number)
        if number % 3 == 0:
            batches = list(reader.batches("b", seen))
            assert [batch.sequence for batch in batches] == list(range(seen + 1, number + 1))
            assert all(batch.payload == bytes([batch.sequence]) * batch.sequence for batch in batches)
            seen = number
    assert reader.damage == []


def test_an_earlier_sequence_can_be_asked_for_again(tmp_path: Path) -> None:
    written(tmp_path, 30)
    reader = JournalReader(tmp_path, TRACE_ID)
    assert len(payloads(reader, "b", 20)) == 10
    assert len(payloads(reader, "b", 3)) == 27


def test_a_batch_of_another_trace_is_not_read(tmp_path: Path) -> None:
    written(tmp_path, 3)
    reader = JournalReader(tmp_path, TRACE_ID + 1)
    assert payloads(reader, "b") == []
    assert "does not begin with a batch of this trace" in reader.damage[0]


class Ring:
    """Write stream r as the native code does: through descriptors, wherever it is told to."""

    def __init__(self, trace: Path, size: int = 4096) -> None:
        self.pool = SegmentPool(trace, size)
        self.sequence = 0

    def fill(self, descriptor: int, count: int) -> None:
        offset = 0
        for _ in range(count):
            self.sequence += 1
            batch = encode_batch(BatchKind.RECORDS, TRACE_ID, self.sequence, 0, b"%d" % self.sequence * 50)
            os.pwrite(descriptor, batch, offset)
            offset += len(batch)


def test_segments_are_preallocated_private_and_empty(tmp_path: Path) -> None:
    pool = SegmentPool(tmp_path, 1 << 20)
    created = pool.create(3)
    assert [number for number, _ in created] == [1, 2, 3]
    for number, descriptor in created:
        facts = os.fstat(descriptor)
        assert (facts.st_size, stat.S_IMODE(facts.st_mode)) == (1 << 20, 0o600)
        assert facts.st_blocks * 512 >= 1 << 20
        assert os.stat(segment_path(tmp_path, "r", number)).st_ino == facts.st_ino
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    assert payloads(JournalReader(tmp_path, TRACE_ID), "r") == []
    pool.close()


def test_reused_segments_are_read_by_sequence_and_not_by_name(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    (one, first), (two, second) = ring.pool.create(2)
    ring.fill(first, 20)
    ring.fill(second, 10)
    assert JournalReader(tmp_path, TRACE_ID).segments_up_to("r", 20) == [one]
    ring.fill(ring.pool.recycle(one), 5)  # of its 20 old batches, 15 are still in the file
    reader = JournalReader(tmp_path, TRACE_ID)
    assert [batch.sequence for batch in reader.batches("r", 20)] == list(range(21, 36))
    assert reader.damage == []
    assert [batch.sequence for batch in reader.batches("r")] == list(range(21, 36))
    assert reader.damage == ["Journal stream r: batches 1 to 20 are missing."]
    assert reader.segments_up_to("r", 30) == [two]


def test_a_reader_that_follows_notices_that_a_segment_is_used_again(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    (one, first), (_, second) = ring.pool.create(2)
    reader = JournalReader(tmp_path, TRACE_ID)
    ring.fill(first, 20)
    assert len(list(reader.batches("r"))) == 20
    ring.fill(second, 4)
    ring.fill(ring.pool.recycle(one), 20)
    assert [batch.sequence for batch in reader.batches("r", 20)] == list(range(21, 45))
    assert reader.damage == []


def test_a_recycled_segment_that_was_not_written_again_counts_as_unused(tmp_path: Path) -> None:
    ring = Ring(tmp_path)
    (one, first), (_, second) = ring.pool.create(2)
    ring.fill(first, 5)
    ring.fill(second, 5)
    ring.pool.recycle(one)
    reader = JournalReader(tmp_path, TRACE_ID)
    assert [batch.sequence for batch in reader.batches("r", 5)] == [6, 7, 8, 9, 10]
    assert reader.damage == []


def test_batches_after_damage_in_a_later_segment_are_read_and_the_gap_is_named(tmp_path: Path) -> None:
    written(tmp_path, 40, size=2048)
    path = segment_path(tmp_path, "b", 2)
    data = bytearray(path.read_bytes())
    header = BatchHeader.from_bytes(bytes(data[:40]))
    assert header is not None
    data[header.span + 45] ^= 1  # in the payload of the segment's second batch
    path.write_bytes(data)
    reader = JournalReader(tmp_path, TRACE_ID)
    sequences = [batch.sequence for batch in reader.batches("b")]
    bad = header.sequence + 1
    following = next(sequence for sequence in sequences if sequence > bad)
    assert sequences == [*range(1, bad), *range(following, 41)]
    assert f"batch {bad} is incomplete or damaged" in reader.damage[0]
    assert reader.damage[1] == f"Journal stream b: batches {bad} to {following - 1} are missing."


def test_a_batch_that_the_disk_did_not_take_is_written_over(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, TRACE_ID)
    writer.append(BatchKind.ENTRIES, b"one")
    os.pwrite(writer._descriptor, b"half a batch", 48)
    writer.append(BatchKind.ENTRIES, b"two")
    writer.sync()
    assert payloads(JournalReader(tmp_path, TRACE_ID), "b") == [b"one", b"two"]


def test_a_sealed_trace_loses_its_segments_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path, 3)
    SegmentPool(tmp_path, 4096).create(2)
    (tmp_path / "journal" / "notes.txt").write_text("mine")
    remove_journal(tmp_path)
    assert os.listdir(tmp_path / "journal") == ["notes.txt"]
