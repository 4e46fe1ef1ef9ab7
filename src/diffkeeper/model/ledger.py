"""Turn a finding into a numbered event, apply it to the live tree, and keep what belongs to that: identities and paths.

Observations from before the start of the recording change the tree too, but make no event.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable
from typing import Any

from diffkeeper.model.event import Event, Kind, Mark, Meta
from diffkeeper.model.node import GENERATION_UNKNOWN, Identity, Node
from diffkeeper.model.observation import Flag, Inode, Observation
from diffkeeper.model.process import ProcessTable
from diffkeeper.model.tree import Tree

_ALL_MARKS = [Mark(bits) for bits in range(256)]
_OUTSIDER, _AMBIGUOUS = int(Flag.OUTSIDER), int(Flag.AMBIGUOUS)
_LATE = int(Mark.LATE)
DOUBTS = int(Mark.AMBIGUOUS | Mark.INEXACT | Mark.LATE)
_COUNTED = {
    int(Mark.AMBIGUOUS): "ambiguous",
    int(Mark.INEXACT): "inexact",
    int(Mark.UNKNOWN_DATA): "unknown_data",
    int(Mark.UNRESOLVED): "unresolved",
    int(Mark.LATE): "late",
}
_DELETED = b" (deleted)"  # as /proc/PID/fd shows it
_MOVES = frozenset({Kind.RENAME, Kind.EXCHANGE, Kind.EXPORT, Kind.IMPORT})


class Ledger:
    """Number events from 1; their times never decrease."""

    def __init__(self, tree: Tree, start_ns: int) -> None:
        self.tree = tree
        self.start_ns = start_ns
        self.counters: Counter[str] = Counter()
        self.table = ProcessTable()
        self.is_folding = False
        self.number = 0
        self._last_ns = 0
        self._out: list[Event] = []
        self._paths: dict[int, bytes] = {}
        self._deleted: dict[int, bytes] = {}
        self._provisional = 0
        self.on_doubt: Callable[[int], None] = lambda number: None

    def begin(self, observation: Observation) -> list[Event]:
        """Start with an observation; return the list that its events will be put in."""
        self.is_folding = observation.t_ns < self.start_ns
        self._out = []
        return self._out

    def emit(self, observation: Observation, kind: Kind, *, marks: int = 0, **fields: Any) -> Event:
        """Make an event of an observation and apply it."""
        t_ns, bits = self.stamp(observation)
        bits |= int(marks)
        if bits:
            self.count(bits)
        start_ns = self.start_ns
        event = Event(
            self.number,
            t_ns,
            kind,
            observation.pid,
            observation.tid,
            self.process_of(observation),
            _ALL_MARKS[bits],
            max(0, observation.enter_ns - start_ns),
            max(0, observation.exit_ns - start_ns),
            **fields,
        )
        self.tree.apply(event)
        if bits & DOUBTS and event.node:
            self.on_doubt(event.node)
        if event.name or event.name2:
            self._forget_paths(event)
        if not self.is_folding:
            self._out.append(event)
        return event

    def stamp(self, observation: Observation) -> tuple[int, int]:
        """Count one more event; return its time and the marks (as bits) that its observation brings along."""
        flags = int(observation.flags)
        bits = (flags & _OUTSIDER) | (flags & _AMBIGUOUS) >> 1
        if self.is_folding:
            return 0, bits
        self.number += 1
        t_ns = observation.t_ns - self.start_ns
        if t_ns < self._last_ns:
            return self._last_ns, bits | _LATE
        self._last_ns = t_ns
        return t_ns, bits

    def count(self, bits: int) -> None:
        """Count the marks of an event that make it less than exact."""
        if not self.is_folding:
            for bit, name in _COUNTED.items():
                if bits & bit:
                    self.counters[name] += 1

    def put(self, event: Event) -> None:
        """Apply an event that was made with ``stamp`` and, unless it is from before the start, hand it out."""
        self.tree.apply(event)
        if not self.is_folding:
            self._out.append(event)

    def process_of(self, observation: Observation) -> int:
        """Return the key of the process that an observation is about, 0 where nobody knows or the recorder did it."""
        if not observation.pid:
            return 0
        is_outsider = bool(int(observation.flags) & _OUTSIDER)
        return self.table.key_of(observation.pid, observation.t_ns - self.start_ns, is_outsider)

    def unresolved(self, observation: Observation, kind: Kind, **fields: Any) -> None:
        """Keep on the timeline what could not be placed in the tree."""
        if not self.is_folding:
            self.emit(observation, kind, marks=Mark.UNRESOLVED, **fields)

    def find(self, inode: Inode) -> Node | None:
        """Return the node of an inode; a generation that was not known is learnt."""
        node = self.tree.identities.get((inode.dev, inode.ino, inode.generation))
        if node is None:
            node = self.tree.by_identity(inode.dev, inode.ino, inode.generation)
            if node is None:
                return None
        if inode.nlink > 0 and stat.S_IFMT(inode.mode) != stat.S_IFMT(node.meta.mode):
            return None  # the number was used again for something else
        if node.identity[2] == GENERATION_UNKNOWN and inode.generation != GENERATION_UNKNOWN:
            self.tree.bind(node, inode.identity)
        return node

    def born(self, number: int, identity: Identity) -> None:
        """Give a new node its identity. Whatever had the inode's number before is gone."""
        node = self.tree.nodes.get(number)
        if node is None:
            return
        old = self.tree.latest(identity[0], identity[1])
        if old is not None and old is not node and not self.tree.is_root(old.number):
            if not old.names:
                self.tree.drop(old)
            elif not self.is_folding:
                self.counters["identity_conflicts"] += 1
        self.tree.bind(node, identity)

    def provisional(self, dev: int) -> Identity:
        """Return an identity for a node whose inode was not told."""
        self._provisional += 1
        return dev, 0, -self._provisional - 1

    def settle(self, observation: Observation, node: Node, inode: Inode) -> None:
        """Bind a provisional node to its inode and correct its metadata, which had been guessed."""
        if node.is_provisional and stat.S_IFMT(inode.mode) == stat.S_IFMT(node.meta.mode):
            self.born(node.number, inode.identity)
            self.emit(observation, Kind.RESYNC, node=node.number, path=self.path(node), meta=meta_of(inode))

    def path(self, node: Node) -> bytes:
        """Return the path of a node, or the one it had when it lost its last name."""
        number = node.number
        path = self._paths.get(number)
        if path is None:
            path = self.tree.path_of(node)
            if not path and not node.names and not self.tree.is_root(number):
                return self._deleted.get(number, b"")
            self._paths[number] = path
        return path

    def path_in(self, directory: Node, name: bytes) -> bytes:
        """Return the path of a name in a directory."""
        path = self.path(directory)
        return path + b"/" + name if path else name

    def _forget_paths(self, event: Event) -> None:
        node = self.tree.nodes.get(event.node)
        if node is not None and node.is_directory:
            if event.kind in _MOVES or (event.kind == Kind.CHANGED and event.name2):
                self._paths.clear()
            return
        for number in (event.node, event.replaced):
            path = self._paths.pop(number, b"")
            node = self.tree.nodes.get(number)
            if path and node is not None and not node.names:
                self._deleted[number] = path + _DELETED


def meta_of(inode: Inode, old: Meta | None = None) -> Meta | None:
    """Return the metadata of an inode, None if it was freed; ``old`` itself if it is the same."""
    if not inode.mode:
        return None
    if (
        old is not None
        and old.mtime_ns == inode.mtime_ns
        and old.mode == inode.mode
        and old.nlink == inode.nlink
        and old.uid == inode.uid
        and old.gid == inode.gid
        and old.rdev == inode.rdev
    ):
        return old
    return Meta(inode.mode, inode.uid, inode.gid, inode.mtime_ns, inode.nlink, inode.rdev)
