"""Runs of plain writes, resolved as one: what no other observation stands between, and nothing is doubtful of.

A plain write has its bytes with it, its place and its time from inside the file system's lock, and its entry was seen
(native/rows.c tells them from other records). In a run of them nothing is asked of a single one: names, doubts and
processes are those of before the run. What a run leaves behind (tree, content, events) is byte for byte what its writes
leave when they are fed to the resolver one by one, which happens wherever a condition here does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from diffkeeper.model import attributes
from diffkeeper.model.blobs import BlobSink, ContentLog
from diffkeeper.model.event import Meta
from diffkeeper.model.ledger import Ledger
from diffkeeper.model.node import Identity, Node
from diffkeeper.model.values import dataclass

_SETTLING = frozenset({attributes.CAPABILITY, attributes.ACCESS, attributes.DEFAULT})


@dataclass(frozen=True, slots=True)
class RunFile:
    """Hold what a run says of one file: how much it wrote there, and the metadata that its last write found."""

    identity: Identity
    meta: Meta
    count: int
    length: int


@dataclass(frozen=True, slots=True)
class RunWriter:
    """Hold a process of a run, and when its first write there was (``t_ns`` as observed)."""

    pid: int
    is_outsider: bool
    t_ns: int
    count: int


class Run(Protocol):
    """Be a run; processing/plain_rows.py has it as rows of native code."""

    count: int

    @property
    def first_ns(self) -> int:
        """Return the time of the first write, as observed."""

    @property
    def last_ns(self) -> int:
        """Return the time of the last one."""

    @property
    def files(self) -> Sequence[RunFile]:
        """Return the files that it writes to, in the order of appearance."""

    @property
    def writers(self) -> Sequence[RunWriter]:
        """Return the processes that write, in the order of appearance."""

    def bytes_of(self, file: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return the bytes written to the file of that place in ``files``, and where in them each write ends."""

    def extents_of(self, file: int) -> Iterable[tuple[int, int, int]]:
        """Return (offset, length, place in its bytes) of what was written to a file, in order, neighbours joined."""


@runtime_checkable
class BulkSink(Protocol):
    """Be a BlobSink that takes the bytes of many writes at once."""

    def can_take(self, lengths: dict[int, int]) -> bool:
        """Say whether it makes no difference that so many bytes come node by node, and not in the order of time."""

    def append_many(self, node: int, data: Sequence[int], ends: Sequence[int]) -> tuple[int, int]:
        """Append bytes as ``append`` would one piece after the other; return (blob, start of the first)."""


@dataclass(frozen=True, slots=True)
class Target:
    """Say where a file's writes of a run went, and what it was before."""

    node: int
    path: bytes
    size: int
    blob: int
    start: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """Hold what the events of a run have, beside what its writes say themselves; lists are in the run's order."""

    number: int  # of the first event
    start_ns: int
    targets: Sequence[Target]
    processes: Sequence[int]  # keys


class RunResolver:
    """Take runs, where nothing speaks against it."""

    def __init__(self, ledger: Ledger, content: ContentLog, sink: BlobSink) -> None:
        """Use ``ledger`` for numbers and the tree, and put bytes into ``sink``."""
        self._ledger = ledger
        self._content = content
        self._sink = sink if isinstance(sink, BulkSink) else None

    def take(self, run: Run) -> Resolved | None:
        """Apply a run and say what its events are; None, and nothing is done, where it must go one by one."""
        nodes = self._nodes(run)
        if self._sink is None or nodes is None:
            return None
        lengths = {node.number: file.length for node, file in zip(nodes, run.files, strict=True)}
        if len(lengths) < len(nodes) or not self._sink.can_take(lengths):
            return None
        ledger = self._ledger
        ledger.is_folding = False
        first, ledger.number = ledger.number + 1, ledger.number + run.count
        ledger._last_ns = run.last_ns - ledger.start_ns
        key_of = ledger.table.key_of
        processes = [key_of(one.pid, one.t_ns - ledger.start_ns, one.is_outsider) for one in run.writers]
        targets = [self._written(run, place, node, self._sink) for place, node in enumerate(nodes)]
        return Resolved(first, ledger.start_ns, targets, processes)

    def _nodes(self, run: Run) -> list[Node] | None:
        """Return the nodes of a run's files, None if one is not there, in doubt, or has attributes that change."""
        ledger = self._ledger
        if run.first_ns < ledger.start_ns + ledger._last_ns:
            return None  # late, or before the command
        nodes: list[Node] = []
        for file in run.files:
            node = ledger.tree.identities.get(file.identity)
            if node is None or node.content is None or node.inexact or not _SETTLING.isdisjoint(node.xattrs):
                return None
            nodes.append(node)
        return nodes

    def _written(self, run: Run, place: int, node: Node, sink: BulkSink) -> Target:
        assert node.content is not None, "only regular files are in a run"
        size = node.content.size
        blob, start = sink.append_many(node.number, *run.bytes_of(place))
        self._content.written.add(node.number)
        self._ledger.tree.write_many(node, run.extents_of(place), blob, start, run.files[place].meta)
        return Target(node.number, self._ledger.path(node), size, blob, start)
