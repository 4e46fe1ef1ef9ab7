"""The places where bytes of a trace are first believed: each takes any bytes and gives a value or a TraceError.

A trace from a stranger must not crash a reader, nor make it run code, fill the memory or write elsewhere than it was
told. ``TARGETS`` are run on the corpus and on made-up bytes by ``make test``, and for hours by ``python -m fuzz``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from diffkeeper.baseline_format import decode_content, decode_entries
from diffkeeper.engines.decoder import Decoder
from diffkeeper.engines.encoder import encode
from diffkeeper.errors import DiffkeeperError, TraceError, UsageError
from diffkeeper.model.observation import Observation
from diffkeeper.model.positions import parse_position, parse_range
from diffkeeper.model.resolve import Resolver
from diffkeeper.model.tree import Tree
from diffkeeper.store import bsdiff, deltas, zstd
from diffkeeper.store.checkpoint import decode_tree
from diffkeeper.store.columns import ColumnReader
from diffkeeper.store.eventblock import EventBlock
from diffkeeper.store.format import parse_session
from diffkeeper.store.journal import JournalReader
from diffkeeper.store.processtable import decode_process
from fuzz.made_up import observations
from scripts import START_NS, TRACE_ID, Script, begin_trace, write_ring

BASE = b"the base of a delta " * 20
LIMIT = 1 << 20


class _NoBlobs:
    """Take bytes and forget them."""

    def append(self, node: int, data: bytes) -> tuple[int, int]:
        return 1, 0

    def peek(self, blob: int, start: int, length: int) -> bytes | None:
        return bytes(length) if length < LIMIT else None

    def end(self, node: int, base_blob: int = 0, is_executable: bool = False) -> None:
        pass


def decoder(data: bytes) -> None:
    """Read wire records."""
    with contextlib.suppress(TraceError):
        Decoder().decode(data)


def baseline(data: bytes) -> None:
    """Read the records of a baseline."""
    for decode in (decode_entries, decode_content):
        with contextlib.suppress(TraceError):
            list(decode(data))


def journal(data: bytes) -> None:
    """Read a segment of a journal."""
    with tempfile.TemporaryDirectory(dir=_quick_place()) as place:
        folder = Path(place, "journal")
        folder.mkdir()
        for stream in "rb":
            (folder / f"{stream}000000.seg").write_bytes(data)
        for stream in ("r", "b"):
            with contextlib.suppress(TraceError):
                list(JournalReader(Path(place), TRACE_ID).batches(stream))


def session(data: bytes) -> None:
    """Read session.json."""
    with contextlib.suppress(TraceError):
        parse_session(data)


def block(data: bytes) -> None:
    """Read a block of events, and its columns, as they are and as what a frame holds."""
    for raw in (data, zstd.compress(data)):
        with contextlib.suppress(TraceError):
            list(EventBlock(1, 3, raw).events(1, 3))
        with contextlib.suppress(TraceError):
            reader = ColumnReader(raw)
            for column in range(60):
                with contextlib.suppress(TraceError):
                    reader.all_numbers(column)


def checkpoint(data: bytes) -> None:
    """Read a tree, and go all over it."""
    with contextlib.suppress(TraceError):
        _look_at(decode_tree([zstd.compress(data)]))


def process(data: bytes) -> None:
    """Read an entry of the table of processes."""
    with contextlib.suppress(TraceError):
        decode_process(1, data)


def content(data: bytes) -> None:
    """Read stored content of all encodings."""
    for decode in (
        lambda: deltas.decode(deltas.parse(data), BASE),
        lambda: bsdiff.apply_patch(BASE, data, 1000),
        lambda: zstd.decompress(data, 1000, BASE),
    ):
        with contextlib.suppress(TraceError):
            decode()


def positions(data: bytes) -> None:
    """Read what a user gives as a position."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_position, parse_range):
        with contextlib.suppress(UsageError):
            parse(text)


def replay(data: bytes) -> None:
    """Fold observations that contradict each other."""
    tree = Tree()
    resolver = Resolver(tree, START_NS, _NoBlobs())
    with contextlib.suppress(TraceError):
        for seen in observations(data):
            resolver.feed(seen)
        resolver.finish()
        _look_at(tree)


def trace(data: bytes) -> None:
    """Open a whole trace whose recorder was killed, ask it everything, and export it."""
    from diffkeeper.trace import Trace

    with tempfile.TemporaryDirectory(dir=_quick_place()) as place, _cache_in(place):
        folder = Path(place, "trace")
        script = Script()
        script.put("a", b"before")
        begin_trace(folder, script)
        write_ring(folder, filter(_has_wire_form, observations(data)), end=bool(len(data) % 2))
        with contextlib.suppress(DiffkeeperError), Trace.open(folder) as opened:
            list(opened.timeline(output=True))
            view = opened.at("end")
            for entry in view.entries():
                with contextlib.suppress(DiffkeeperError):
                    view.slice(entry, 0, LIMIT, allow_unknown=True) if entry.kind == "f" else entry.target
            opened.diff("start", "end")
            opened.export("end", Path(place, "out"))
        _check_nothing_else(Path(place))


def _has_wire_form(seen: Observation) -> bool:
    try:
        return bool(encode(seen))
    except (AssertionError, struct.error):
        return False


def _look_at(tree: Tree) -> None:
    """Check what every reader relies on."""
    for path, node in tree.walk():
        assert tree.lookup(path) is node or b"/" not in path, "a path leads to its node"
        if node.content is not None:
            end = 0
            for piece in node.content.pieces():
                assert piece.offset == end, "pieces cover a file without gaps"
                assert piece.length > 0, "no piece is empty"
                end += piece.length
            assert end == node.content.size, "pieces cover a file to its end"
    for node in tree.nodes.values():
        tree.path_of(node)


def _check_nothing_else(place: Path) -> None:
    found = {entry.name for entry in place.iterdir()}
    assert found <= {"trace", "out", "cache"}, f"an export wrote elsewhere: {found}"
    for folder, names, files in os.walk(place / "out"):
        for name in (*names, *files):
            assert name not in (".", ".."), folder


@contextlib.contextmanager
def _cache_in(place: str):  # type: ignore[no-untyped-def]
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = os.path.join(place, "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
        shutil.rmtree(os.path.join(place, "out"), ignore_errors=True)


def _quick_place() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        decoder, baseline, journal, session, block, checkpoint, process, content, positions, replay, trace,
    )
}  # fmt: skip
