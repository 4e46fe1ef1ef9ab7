"""Make events of what came into the tree from outside, and of what was read back of it."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import Any

from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.event import Data, Event, Kind, Mark
from diffkeeper.model.late import Late
from diffkeeper.model.ledger import Ledger, meta_of
from diffkeeper.model.node import Node
from diffkeeper.model.observation import DirectorySeen, EntryRead, Inode, LateData, Observation

_FORGET_AFTER = 4_096


class Importer:
    """Emit IMPORT events; the readings of an import may come with it or later, one by one."""

    def __init__(self, ledger: Ledger, content: ContentLog) -> None:
        self._ledger = ledger
        self._content = content
        self._recent: dict[int, None] = {}  # sequences of observations that brought something in

    def entry(
        self,
        seen: Observation,
        parent: Node,
        name: bytes,
        inode: Inode,
        *,
        late: Iterable[Late] = (),
        is_exact: bool = True,
        target: bytes = b"",
        origin: bytes = b"",
        marks: Mark = Mark(0),  # noqa: B008 -- a flag without bits is a value
        parent_mtime_ns: int = 0,
    ) -> Event:
        """Emit that an inode now has a name in the tree, with its bytes as far as they were read."""
        self._remember(seen.sequence)
        ledger = self._ledger
        node = ledger.find(inode)
        if node is not None and not node.names and not ledger.tree.is_root(node.number):
            node = None  # while it was outside it may have changed
        number = node.number if node is not None else ledger.tree.next_number
        fields: dict[str, Any] = {}
        if node is None and stat.S_ISREG(inode.mode):
            data = self.data_of(number, inode, late)
            fields = {"data": data, "size": inode.size, "length": sum(piece.length for piece in data)}
            if fields["length"] < inode.size:
                marks |= Mark.UNKNOWN_DATA
            if data and not is_exact:
                marks |= Mark.INEXACT
        elif node is None and stat.S_ISLNK(inode.mode):
            target = target or next((r.target for r in late if isinstance(r, EntryRead) and r.inode == inode), b"")
            if not target:
                marks |= Mark.UNKNOWN_DATA
        event = ledger.emit(
            seen,
            Kind.IMPORT,
            marks=marks,
            node=number,
            parent=parent.number,
            name=name,
            path=ledger.path_in(parent, name),
            path2=origin,
            meta=meta_of(inode),
            text=target,
            parent_mtime_ns=parent_mtime_ns,
            **fields,
        )
        ledger.born(number, inode.identity)
        return event

    def subtree(self, seen: Observation, late: tuple[Late, ...], is_exact: bool) -> None:
        """Emit the entries that were read below something that came in, parents first."""
        for reading in late:
            if isinstance(reading, EntryRead):
                self.read(seen, reading, late, is_exact)
            elif isinstance(reading, LateData) and reading.failed and stat.S_ISDIR(reading.inode.mode):
                self._unlisted(seen, reading.inode)

    def _unlisted(self, seen: Observation, inode: Inode) -> None:
        """Say of a folder that what is below it is not known: it was closed to the reader, or gone."""
        node = self._ledger.find(inode)
        path = self._ledger.path(node) if node is not None else b""
        self._ledger.unresolved(seen, Kind.IMPORT, path=path, meta=meta_of(inode))

    def entry_read(self, reading: EntryRead) -> None:
        """Take an entry that was read too late to come with its import."""
        self.read(reading, reading, (), False)

    def late_data(self, reading: LateData) -> None:
        """Take bytes that were read too late to come with what they belong to: of an import they are still used."""
        node = self._ledger.find(reading.inode)
        if reading.of not in self._recent or reading.failed or node is None or node.content is None:
            self._ledger.counters["late_data_unused"] += 1
            return
        data = self.data_of(node.number, reading.inode, [reading])
        self._ledger.emit(
            reading,
            Kind.IMPORT,
            marks=Mark.INEXACT,
            node=node.number,
            path=self._ledger.path(node),
            data=data,
            length=sum(piece.length for piece in data),
            size=node.content.size,
        )

    def read(self, seen: Observation, reading: EntryRead, late: tuple[Late, ...], is_exact: bool) -> None:
        """Take an entry into the tree unless it is there."""
        self._recent[reading.of] = None
        base = reading.parent
        parent = self._ledger.tree.by_identity(base.dev, base.ino, base.generation)
        if parent is None or not parent.is_directory or not reading.name:
            if self._ledger.find(reading.inode) is None:
                self._ledger.unresolved(seen, Kind.IMPORT, path=reading.name, meta=meta_of(reading.inode))
            return
        present = self._ledger.tree.child(parent, reading.name)
        if present is not None and present.is_provisional:
            self._ledger.settle(seen, present, reading.inode)
        if present is None or present is not self._ledger.find(reading.inode):
            target = reading.target
            self.entry(seen, parent, reading.name, reading.inode, late=late, is_exact=is_exact, target=target)

    def data_of(self, number: int, inode: Inode, late: Iterable[Late]) -> tuple[Data, ...]:
        """Put what was read of an inode into its node's blob; return where, in ascending order."""
        pieces = []
        end = 0
        for reading in sorted(
            (r for r in late if isinstance(r, LateData) and not r.failed and r.inode.identity == inode.identity),
            key=lambda r: r.offset,
        ):
            skipped = max(0, end - reading.offset)
            content = reading.data[skipped:] if reading.offset >= 0 else b""
            if content:
                blob, start = self._content.append(number, content)
                pieces.append(Data(reading.offset + skipped, len(content), blob, start))
                end = reading.offset + skipped + len(content)
        if pieces:
            self._content.read_back(number, bool(inode.mode & 0o111))
        return tuple(pieces)

    def directory_seen(self, seen: DirectorySeen) -> None:
        """Bind, or bring in, the directories of a chain, from the root down."""
        root = seen.root
        at = self._ledger.tree.by_identity(root.dev, root.ino, root.generation)
        for ino, generation, name in reversed(seen.chain):
            if at is None or not at.is_directory or not name:
                return
            at = self._step_down(seen, at, (seen.dev, ino, generation), name)

    def _step_down(self, seen: DirectorySeen, at: Node, identity: tuple[int, int, int], name: bytes) -> Node | None:
        ledger = self._ledger
        known = ledger.tree.by_identity(*identity)
        if known is not None and known.is_directory:
            if known.identity != identity:
                ledger.tree.bind(known, identity)
            return known
        present = ledger.tree.child(at, name)
        if present is None:
            inode = Inode(*identity, stat.S_IFDIR | 0o755, 2, at.meta.uid, at.meta.gid, 0, at.meta.mtime_ns)
            event = self.entry(seen, at, name, inode, marks=Mark.INEXACT)
            return ledger.tree.nodes.get(event.node)
        if present.is_provisional and present.is_directory:
            ledger.born(present.number, identity)
            return present
        # The tree knows another entry there: the chain may be older than the tree, so the tree is believed.
        ledger.counters["identity_conflicts"] += 1
        return None

    def _remember(self, sequence: int) -> None:
        self._recent[sequence] = None
        if len(self._recent) > _FORGET_AFTER:
            del self._recent[next(iter(self._recent))]
