"""Measure the disk layer: python benchmarks/store.py [directory]."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from diffkeeper.model.event import Data, Event, Kind, Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.tree import Tree
from diffkeeper.store.checkpoint import decode_tree, encode_tree
from diffkeeper.store.content import ContentReader, ContentWriter
from diffkeeper.store.eventlog import EventReader, EventWriter
from diffkeeper.store.format import Key
from diffkeeper.store.journal import JournalReader, JournalWriter
from diffkeeper.store.rocks import RocksStore

EVENTS = 1_000_000
NODES = 100_000
KINDS = (Kind.CREATE, Kind.WRITE, Kind.WRITE, Kind.CLOSE, Kind.RENAME)


def timed(what: str, action: Callable[[], object], unit: str = "", amount: float = 0) -> None:
    """Run ``action`` and print how long it took, wall and CPU, and how much of ``unit`` it did in a second."""
    wall, cpu = time.perf_counter(), time.process_time()
    note = action()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rate = f"  {amount / wall:12,.0f} {unit}/s" if unit else ""
    print(f"{what:44} {wall:8.3f} s  CPU {cpu:8.3f} s{rate}  {note if note is not None else ''}", flush=True)


def some_events(count: int) -> Iterator[Event]:
    """Yield events like those of a build: creates, writes, closes and renames of 3,000 files by many processes."""
    chance, t_ns = random.Random(1), 0
    paths = [b"src/pkg%d/module_%d.py" % (number % 40, number) for number in range(3000)]
    for number in range(1, count + 1):
        t_ns += chance.randint(500, 40_000)
        file, kind = chance.randrange(3000), KINDS[number % 5]
        meta = Meta(0o100644, 1000, 1000, 1_763_800_000_000_000_000 + t_ns // 4_000_000 * 4_000_000)
        length = chance.randint(1, 9000) if kind == Kind.WRITE else 0
        yield Event(
            number,
            t_ns,
            kind,
            4000 + number // 500,
            4000 + number // 500,
            number // 500,
            enter_ns=t_ns - chance.randint(300, 9000),
            exit_ns=t_ns + chance.randint(300, 4000),
            node=file + 10,
            parent=file % 40 + 1,
            name=paths[file].split(b"/")[-1],
            path=paths[file],
            meta=meta,
            length=length,
            size=length,
            data=(Data(0, length, number, 0),) if length else (),
        )


def measure_events(directory: Path) -> None:
    """Write and read EVENTS events."""
    rocks = RocksStore.create(directory / "events")
    writer = EventWriter(rocks)

    def write() -> None:
        for first in range(0, EVENTS, len(batch)):
            for event in batch:  # the cost of making new events is not the store's
                object.__setattr__(event, "number", writer.count + 1)
                writer.append((event,))
            if first % 200_000 == 0:
                writer.flush()
        writer.flush()
        rocks.flush()

    batch = list(some_events(20_000))
    timed("events: write", write, "events", EVENTS)
    size = sum(len(key) + len(value) for key, value in rocks.scan(Key.EVENTS))
    print(f"events: {size / EVENTS:.1f} bytes an event")
    reader = EventReader(rocks)
    columns = ("kind", "pid", "t_ns", "path")
    timed(
        "events: read four columns", lambda: _drain(block.column(name) for block in reader.blocks() for name in columns)
    )
    timed("events: build every tenth block", lambda: _drain(_events_of_some(reader)), "events", EVENTS / 10)
    timed("events: find an instant", lambda: reader.number_at(batch[7000].t_ns))


def _events_of_some(reader: EventReader) -> Iterator[Event]:
    for facts in reader.index[::10]:
        yield from reader.events(facts.first, facts.last)


def _drain(values: Iterator[object]) -> None:
    for _ in values:
        pass


def measure_content(directory: Path) -> None:
    """Write content of several kinds and read it back."""
    chance = random.Random(2)
    rocks = RocksStore.create(directory / "content")
    writer = ContentWriter(rocks)
    noise = os.urandom(256 << 20)
    text = (b" ".join(b"%x" % chance.randrange(4096) for _ in range(60_000)) + b"\n") * 4

    def write(pieces: Iterator[bytes]) -> str:
        before = writer.stored_bytes
        for node, piece in enumerate(pieces, 1):
            writer.append(node, piece)
            writer.end(node)
        writer.flush()
        rocks.flush()
        return f"{(writer.stored_bytes - before) / 1e6:.2f} MB stored"

    pieces = (noise[at : at + (8 << 20)] for at in range(0, len(noise), 8 << 20))
    timed("content: 256 MiB of noise", lambda: write(pieces), "MB", 268)
    timed(
        "content: the same again",
        lambda: write(noise[at : at + (8 << 20)] for at in range(0, len(noise), 8 << 20)),
        "MB",
        268,
    )
    timed("content: 100 x 1.2 MB of text", lambda: write(b"%d" % n + text for n in range(100)), "MB", len(text) / 1e4)
    timed("content: 50,000 files of 400 bytes", lambda: write(b"%d " % n * 80 for n in range(50_000)), "files", 50_000)
    timed("content: 20 versions of 16 MiB", lambda: _versions(writer, noise[: 16 << 20]), "MB", 20 * 16.8)
    reader = ContentReader(rocks)
    timed(
        "content: read 256 MiB",
        lambda: _drain(piece for n in range(1, 33) for piece in reader.stream(n, 0, 8 << 20)),
        "MB",
        268,
    )


def _versions(writer: ContentWriter, data: bytes) -> str:
    before, blob = writer.stored_bytes, 0
    for version in range(20):
        data = data[: version << 19] + b"version %d" % version + data[version << 19 : -9]
        new, _ = writer.append(-1, data)
        writer.end(-1, blob)
        blob = new
    writer.flush()
    return f"{(writer.stored_bytes - before) / 1e6:.2f} MB stored"


def measure_journal(directory: Path) -> None:
    """Write and read 512 MiB of journal."""
    payload = os.urandom(256 << 10)
    directory.joinpath("trace").mkdir()
    writer = JournalWriter(directory / "trace", 1)
    timed("journal: write 512 MiB", lambda: _drain(writer.append(1, payload) for _ in range(2048)), "MB", 537)
    writer.close()
    reader = JournalReader(directory / "trace", 1)
    timed("journal: read 512 MiB", lambda: _drain(reader.batches("b")), "MB", 537)
    timed("journal: read what is new, nothing", lambda: _drain(reader.batches("b", 2048)))


def measure_checkpoint() -> None:
    """Encode and decode a tree of NODES nodes."""
    tree = Tree()
    root = tree.add_root(b"", (5, 2, 0), Meta(0o40755, 0, 0, 1)).number
    folders = [
        tree.add(root, b"folder%d" % n, (5, 10 + n, 7), Meta(0o40755, 0, 0, n)).number for n in range(NODES // 20)
    ]
    for n in range(NODES - len(folders) - 1):
        meta = Meta(0o100644, 1000, 1000, 1763 * 10**15 + n * 4_000_000)
        content = ExtentMap(1000, [(0, 1000, n + 1, 0)])
        identity = (5, 1_000_000 + n, n * 7919 % 2**32)
        tree.add(folders[n % len(folders)], b"file_%d.py" % n, identity, meta, content=content)
    parts: list[bytes] = []
    timed("checkpoint: encode 100,000 nodes", lambda: parts.extend(encode_tree(tree)), "nodes", NODES)
    timed("checkpoint: decode them", lambda: decode_tree(parts) and None, "nodes", NODES)
    print(f"checkpoint: {sum(map(len, parts)) / NODES:.1f} bytes a node")


def measure_opening(directory: Path) -> None:
    """Create a store, and open one for reading."""
    timed("store: create", lambda: RocksStore.create(directory / "new").close())
    timed("store: open for reading", lambda: RocksStore.open_readonly(directory / "content").close())


def main() -> None:
    """Run all measurements in a temporary directory."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        directory = Path(name)
        measure_events(directory)
        measure_content(directory)
        measure_journal(directory)
        measure_checkpoint()
        measure_opening(directory)


if __name__ == "__main__":
    main()
