"""Resolve observations into events, and keep the tree that those events make.

Nothing that is observed may stop the resolver: what does not fit is marked and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any

from diffkeeper.model import losses, mapped, writing
from diffkeeper.model.blobs import BlobSink as BlobSink  # part of this module's interface
from diffkeeper.model.blobs import ContentLog
from diffkeeper.model.doubts import END, Doubts, Settling
from diffkeeper.model.event import MOUNT_ELSEWHERE, MOUNT_ENDS, MOUNT_HIDES, MOUNT_SHOWS, Data, Event, Kind, Mark
from diffkeeper.model.holes import Holes
from diffkeeper.model.imports import Importer
from diffkeeper.model.late import Late
from diffkeeper.model.ledger import DOUBTS, Ledger, meta_of
from diffkeeper.model.looks import Looks
from diffkeeper.model.naming import Naming
from diffkeeper.model.node import Node
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    Closed,
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
    Looked,
    Lost,
    MountChanged,
    NameChanged,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    RequestSeen,
    Sampled,
    SizeChanged,
    SizeOp,
)
from diffkeeper.model.pending import Pending
from diffkeeper.model.plain import Resolved, Run, RunResolver
from diffkeeper.model.process import Process
from diffkeeper.model.promised import has_promised
from diffkeeper.model.tree import UNEXPLAINED, Tree
from diffkeeper.model.walker import PathWalker, last_name

_TMPFILE = 0o20000000  # __O_TMPFILE
_MAPPED = int(Flag.MAPPED)
_ATTRIBUTE_KINDS = {
    AttributeOp.CHMOD: Kind.CHMOD,
    AttributeOp.CHOWN: Kind.CHOWN,
    AttributeOp.UTIME: Kind.UTIME,
    AttributeOp.SETXATTR: Kind.SETXATTR,
    AttributeOp.REMOVEXATTR: Kind.REMOVEXATTR,
    AttributeOp.SETFLAGS: Kind.SETFLAGS,
}
_INODE_FLAGS = Struct("<III")  # is_extended flags project: struct dk_inode_flags

_Handler = Callable[[Any, tuple[Late, ...], bool], None]


class Resolver:
    """Turn observations, in order of (t_ns, sequence), into events numbered from 1.

    ``tree`` is the baseline and is kept up to date; observations from before ``start_ns`` change it without an event.
    ``root_paths`` gives the absolute path of each root by label, for absolute names. ``counters`` counts what a reader
    must know: unresolved, inexact, unknown_data, ambiguous, late, unknown_files, identity_conflicts,
    late_data_unused, mounts, lost_*.
    """

    def __init__(
        self, tree: Tree, start_ns: int, blobs: BlobSink, root_paths: Mapping[bytes, bytes] | None = None
    ) -> None:
        self.tree = tree
        self._ledger = Ledger(tree, start_ns)
        self._content = ContentLog(blobs)
        self._importer = Importer(self._ledger, self._content)
        self._walker = PathWalker(tree, root_paths or {})
        self._naming = Naming(self._ledger, self._walker, self._content, self._importer)
        self._doubts = Doubts()
        self._ledger.on_doubt = self._doubts.add_all
        self._settling = Settling(self._ledger, self._doubts, self._content)
        self._pending = Pending(self._ledger)
        self._holes = Holes(self._ledger, self._importer)
        self._looks = Looks(self._ledger, self._content)
        self._runs = RunResolver(self._ledger, self._content, blobs)
        self._output_offsets: dict[int, int] = {}
        self._lost_of_unknown: dict[Base, int] = {}
        self.counters = self._ledger.counters
        self._handlers: dict[type[Observation], _Handler] = {
            DataWritten: self._data_written,
            NameChanged: self._naming.resolve,
            Opened: self._opened,
            Closed: self._closed,
            AttributeChanged: self._attribute_changed,
            SizeChanged: self._size_changed,
            OutputWritten: self._output_written,
            ProcessSeen: self._process_seen,
            ProcessExecuted: self._process_executed,
            ProcessExited: self._process_exited,
            DirectorySeen: lambda seen, late, is_exact: self._importer.directory_seen(seen),
            EntryRead: lambda seen, late, is_exact: self._importer.entry_read(seen),
            LateData: lambda seen, late, is_exact: self._importer.late_data(seen),
            HoleFound: lambda seen, late, is_exact: self._holes.found(seen),
            HoleReread: self._reread,
            RequestSeen: lambda seen, late, is_exact: self._pending.seen(seen),
            EventsLost: self._events_lost,
            MountChanged: self._mount_changed,
            Sampled: self._sampled,
            Held: self._held,
            Looked: lambda seen, late, is_exact: self._looks.take(seen),
        }

    @property
    def processes(self) -> dict[int, Process]:
        """Return the processes seen so far by key."""
        return self._ledger.table.processes

    def feed(self, observation: Observation, late: tuple[Late, ...] = (), late_is_exact: bool = True) -> list[Event]:
        """Take the next observation with what was read late on its behalf; return its events, already applied."""
        events = self._ledger.begin(observation)
        handler = self._handlers.get(type(observation))
        if handler is not None:
            handler(observation, late, late_is_exact)
        return events

    def feed_run(self, run: Run) -> Resolved | None:
        """Take a run of plain writes at once, already applied when this returns; None where they must be fed singly."""
        return self._runs.take(run)

    def finish(self) -> None:
        """End the blobs of files that nobody closed; call it when no more observations come."""
        self._content.finish()

    def _unknown(self, seen: DataWritten | Opened | SizeChanged | AttributeChanged) -> None:
        """Count a file that should be in the tree; what may stand outside, and files without a name, need not be."""
        if seen.inode.nlink and not seen.flags & Flag.UNCERTAIN and not self._ledger.is_folding:
            self.counters["unknown_files"] += 1

    def _data_written(self, seen: DataWritten, late: tuple[Late, ...], is_exact: bool) -> None:
        ledger, inode = self._ledger, seen.inode
        node = ledger.tree.identities.get((inode.dev, inode.ino, inode.generation)) or ledger.find(inode)
        if node is None or node.content is None:
            self._unknown(seen)
            return
        offset, length, payload, number = seen.offset, seen.length, seen.payload, node.number
        if int(seen.flags) & _MAPPED:
            self._stored(seen, node)
            return
        if length <= 0 or offset < 0:
            return
        t_ns, bits = ledger.stamp(seen)
        kind, source_number = Kind.WRITE, 0
        if len(payload) == 1 and payload[0][0] == 0 and len(payload[0][1]) == length:
            blob, start = self._content.append(number, payload[0][1])
            data: tuple[Data, ...] = (Data(offset, length, blob, start),)
            self._content.written.add(number)
        else:
            source = self._copied_from(seen, late, is_exact)
            if source is not None:
                kind, source_number, data = Kind.COPY, source.number, ()
                if not late and not is_exact:
                    bits |= int(Mark.INEXACT)
            else:
                data, more = writing.fill(self._content, number, seen, late, is_exact)
                bits |= more
        if bits:
            ledger.count(bits)
        size = node.content.size
        end = offset + length
        was_certain = not node.doubts_for_good or node.inexact == UNEXPLAINED
        ledger.put(
            Event(
                ledger.number,
                t_ns,
                kind,
                seen.pid,
                seen.tid,
                ledger.process_of(seen),
                writing.ALL_MARKS[bits],
                max(0, seen.enter_ns - ledger.start_ns),
                max(0, seen.exit_ns - ledger.start_ns),
                number,
                path=ledger.path(node),
                meta=meta_of(inode, node.meta),
                offset=offset,
                length=length,
                size=end if end > size else size,
                data=data,
                source=source_number,
                source_offset=seen.source_offset,
            )
        )
        if node.doubts_for_good and (was_certain or bits & DOUBTS or kind == Kind.COPY):
            self._doubt(seen, node, was_certain)

    def _doubt(self, seen: DataWritten, node: Node, was_certain: bool) -> None:
        """Note which bytes a write has made doubtful; where its place is not known, it is all of them."""
        flags = seen.flags
        is_told = not flags & Flag.FROM_DESCRIPTOR or seen.slack
        if flags & Flag.CROSSED:
            self._doubts.add_all(node.number)
            return
        is_anywhere = flags & Flag.AMBIGUOUS and flags & (Flag.ASYNC | Flag.BY_REFERENCE)
        is_placeless = not is_told or is_anywhere
        begin, end = (0, END) if is_placeless else (seen.offset - seen.slack, seen.offset + seen.length)
        self._doubts.add(node, begin, end, was_certain=was_certain)

    def _reread(self, seen: HoleReread, late: tuple[Late, ...], is_exact: bool) -> None:
        if seen.is_settling:
            self._settling.settle(seen, late, is_exact)
        else:
            self._holes.reread(seen, late, is_exact)

    def _stored(self, seen: DataWritten, node: Node) -> None:
        """Take what was found in a mapped file: the bytes that are news, or that its metadata has changed."""
        assert node.content is not None, "only regular files are mapped"
        ledger, meta = self._ledger, meta_of(seen.inode, node.meta)
        fields = {"node": node.number, "path": ledger.path(node), "meta": meta, "size": node.content.size}
        found = list(mapped.news(node.content, seen, self._content.peek))
        for offset, data in found:
            blob, start = self._content.append(node.number, data)
            self._content.written.add(node.number)
            pieces = (Data(offset, len(data), blob, start),)
            ledger.emit(seen, Kind.WRITE, marks=Mark.MAPPED, offset=offset, length=len(data), data=pieces, **fields)
        if not found and meta is not node.meta:
            ledger.emit(seen, Kind.WRITE, marks=Mark.MAPPED, offset=seen.offset, **fields)

    def _sampled(self, seen: Sampled, late: tuple[Late, ...], is_exact: bool) -> None:
        for name in ("files", "rounds", "late_rounds", "longest_ns", "missed", "interval_ns", "pages", "spent_ns"):
            self.counters[f"mapped_{name}"] += getattr(seen, name)

    def _copied_from(self, seen: DataWritten, late: tuple[Late, ...], is_exact: bool) -> Node | None:
        """Return the node that bytes were copied from; where that does not know them, what was read late wins.

        Bytes that are only promised count as known where nothing better was read.
        """
        if seen.source is None or seen.payload or seen.source_offset < 0:
            return None
        if _reads_itself(seen, seen.source):
            return None
        source = self._ledger.find(seen.source)
        if source is None or source.content is None:
            return None
        if not source.names and seen.source.nlink > 0:
            return None  # its only links are outside, where writing is not seen
        part = source.content.slice(seen.source_offset, seen.length)
        is_known = not part.has_unknown and not (is_exact and has_promised(part))
        return source if is_known or not late else None

    def _opened(self, seen: Opened, late: tuple[Late, ...], is_exact: bool) -> None:
        ledger = self._ledger
        parent, name = self._place(seen)
        node = ledger.find(seen.inode)
        if node is None and parent is not None:
            node = self._settled(seen, parent, name)
        if seen.created:
            self._created(seen, parent, name, node)
        elif seen.truncated and node is not None and node.content is not None:
            self._cut(seen, node, 0)
        elif seen.truncated and parent is not None and parent.is_directory and name and seen.inode.nlink:
            self._unknown(seen)  # its bytes are known now: none
            inode = seen.inode
            empty = Inode(*inode.identity, inode.mode, inode.nlink, inode.uid, inode.gid, 0, inode.mtime_ns, inode.rdev)
            self._importer.entry(seen, parent, name, empty)
        elif seen.truncated:
            self._unknown(seen)

    def _place(self, seen: Opened) -> tuple[Node | None, bytes]:
        """Return directory and name of a file as its open made it.

        The open file's own, read at exit, hold unless another process may have renamed the file by then: its name is
        not the one asked for, or its directory is not among those that the call changed.
        """
        ledger, touched = self._ledger, {inode.identity for inode in seen.touched}
        is_as_asked = not seen.path or seen.name == last_name(seen.path)
        if is_as_asked and (not touched or seen.parent.identity in touched):
            return ledger.find(seen.parent), seen.name
        spot = self._walker.follow(seen.base, seen.path, follows_last=True)
        if spot.parent is not None and (not touched or spot.parent.identity in touched):
            return spot.parent, spot.name
        return ledger.find(seen.parent), seen.name

    def _settled(self, seen: Opened, parent: Node, name: bytes) -> Node | None:
        child = self.tree.child(parent, name)
        if child is None or not child.is_provisional or seen.created:
            return None
        self._ledger.settle(seen, child, seen.inode)
        return child

    def _created(self, seen: Opened, parent: Node | None, name: bytes, node: Node | None) -> None:
        ledger = self._ledger
        is_nameless = bool(seen.open_flags & _TMPFILE) and seen.inode.nlink == 0
        if not is_nameless and (parent is None or not parent.is_directory or not name):
            ledger.unresolved(seen, Kind.CREATE, path=name, meta=meta_of(seen.inode))
            return
        if ledger.is_folding and node is not None and node.names:
            if parent is not None and self.tree.child(parent, name) is None:
                ledger.emit(seen, Kind.CREATE, node=node.number, parent=parent.number, name=name)
            return
        assert parent is not None or is_nameless, "a name is in a directory"
        self._create(seen, parent, b"" if is_nameless else name)

    def _create(self, seen: Opened, parent: Node | None, name: bytes) -> None:
        """Note a new file; one without a name has a directory all the same, from which it takes attributes."""
        ledger = self._ledger
        event = ledger.emit(
            seen,
            Kind.CREATE,
            node=ledger.tree.next_number,
            parent=parent.number if parent is not None else 0,
            name=name,
            path=ledger.path_in(parent, name) if parent is not None and name else b"",
            meta=meta_of(seen.inode),
            parent_mtime_ns=self._mtime_of(seen, parent) if parent is not None and name else 0,
        )
        ledger.born(event.node, seen.inode.identity)

    def _mtime_of(self, seen: Opened, parent: Node) -> int:
        touched = (inode for inode in seen.touched if inode.identity == parent.identity and inode.mode)
        return next((inode.mtime_ns for inode in touched), seen.parent.mtime_ns)

    def _cut(self, seen: Opened | SizeChanged, node: Node, size: int) -> None:
        if size == 0:
            self._content.emptied(node)
        path = self._ledger.path(node)
        meta = meta_of(seen.inode, node.meta)
        self._ledger.emit(seen, Kind.TRUNCATE, node=node.number, path=path, meta=meta, size=size)

    def _size_changed(self, seen: SizeChanged, late: tuple[Late, ...], is_exact: bool) -> None:
        node = self._ledger.find(seen.inode)
        if node is None or node.content is None:
            self._unknown(seen)
        elif seen.length < 0 or seen.offset < 0:
            return
        elif seen.op == SizeOp.TRUNCATE:
            self._cut(seen, node, seen.length)
        else:
            self._allocated(seen, node)

    def _allocated(self, seen: SizeChanged, node: Node) -> None:
        assert node.content is not None, "only regular files are allocated"
        self._ledger.emit(
            seen,
            Kind.FALLOCATE,
            node=node.number,
            path=self._ledger.path(node),
            meta=meta_of(seen.inode, node.meta),
            offset=seen.offset,
            length=seen.length,
            size=writing.size_after_fallocate(node.content.size, seen.mode, seen.offset, seen.length),
            detail=seen.mode,
        )

    def _attribute_changed(self, seen: AttributeChanged, late: tuple[Late, ...], is_exact: bool) -> None:
        if seen.flags & Flag.HOLE:
            return self._holes.attribute(seen)
        node = self._ledger.find(seen.inode)
        kind = _ATTRIBUTE_KINDS.get(seen.op)
        if node is None or kind is None:
            if seen.t_ns >= seen.enter_ns:  # else no call: read of a file that an import has displaced
                self._unknown(seen)
            return
        marks = Mark(0) if seen.value_is_known else Mark.UNKNOWN_DATA
        path, meta = self._ledger.path(node), meta_of(seen.inode, node.meta)
        if kind == Kind.SETFLAGS:
            detail, text = _flags_of(seen.xattr_value)
            self._ledger.emit(seen, kind, node=node.number, path=path, meta=meta, detail=detail, text=text)
            return
        name, value = seen.xattr_name, seen.xattr_value
        self._ledger.emit(seen, kind, marks=marks, node=node.number, path=path, meta=meta, text=name, value=value)

    def _closed(self, seen: Closed, late: tuple[Late, ...], is_exact: bool) -> None:
        node = self._ledger.find(seen.inode)
        if node is None or node.content is None:
            return
        if self._content.closed(node):
            path, meta = self._ledger.path(node), meta_of(seen.inode, node.meta)
            self._ledger.emit(seen, Kind.CLOSE, node=node.number, path=path, meta=meta, size=node.content.size)

    def _output_written(self, seen: OutputWritten, late: tuple[Late, ...], is_exact: bool) -> None:
        if self._ledger.is_folding or seen.length <= 0:
            return
        data, bits = writing.fill_output(self._content, seen)
        offset = self._output_offsets.get(seen.stream, 0)
        self._output_offsets[seen.stream] = offset + seen.length
        fields = {"offset": offset, "length": seen.length, "data": data, "detail": seen.stream}
        self._ledger.emit(seen, Kind.OUTPUT, marks=bits, **fields)

    def _process_seen(self, seen: ProcessSeen, late: tuple[Late, ...], is_exact: bool) -> None:
        ledger = self._ledger
        is_outsider = bool(int(seen.flags) & 1)
        process = None if seen.is_fork else ledger.table.alive(seen.pid)
        if process is None:
            t_ns = seen.t_ns - ledger.start_ns
            process = ledger.table.start(seen.pid, seen.parent_pid, seen.comm, t_ns, is_outsider)
        process.comm = seen.comm
        if seen.is_fork and not ledger.is_folding:
            ledger.emit(seen, Kind.FORK, detail=seen.parent_pid, text=seen.comm)

    def _process_executed(self, seen: ProcessExecuted, late: tuple[Late, ...], is_exact: bool) -> None:
        process = self.processes.get(self._ledger.process_of(seen))
        if process is None:
            return  # number 0 is nobody's
        process.comm, process.exe, process.cwd, process.argv = seen.comm, seen.exe, seen.cwd, seen.argv
        if not self._ledger.is_folding:
            self._ledger.emit(seen, Kind.EXEC, text=seen.exe, value=b"\0".join(seen.argv))

    def _process_exited(self, seen: ProcessExited, late: tuple[Late, ...], is_exact: bool) -> None:
        process = self.processes.get(self._ledger.process_of(seen))
        if process is None:
            return  # number 0 is nobody's
        process.end_ns = seen.t_ns - self._ledger.start_ns
        process.status = seen.status
        if not self._ledger.is_folding:
            self._ledger.emit(seen, Kind.EXIT, detail=seen.status)

    def _held(self, seen: Held, late: tuple[Late, ...], is_exact: bool) -> None:
        self.counters["held"] += 1
        self.counters["held_us"] += (seen.t_ns - seen.enter_ns) // 1000
        if not self._ledger.is_folding:
            self._ledger.emit(seen, Kind.HELD)

    def _events_lost(self, seen: EventsLost, late: tuple[Late, ...], is_exact: bool) -> None:
        ledger = self._ledger
        file = seen.file
        node = self.tree.by_identity(file.dev, file.ino, file.generation) if file is not None else None
        if seen.what == Lost.HOLE and file is not None and self._is_of_others(seen, file, node):
            return
        self.counters[f"lost_{seen.channel}"] += seen.count
        if node is None and file is not None and not seen.count:
            return  # the end of a window, and the file is gone
        fields: dict[str, Any] = {"detail": seen.count, "text": seen.channel.encode(errors="replace")}
        if node is not None:
            fields |= {"node": node.number, "path": ledger.path(node), "offset": seen.offset, "length": seen.length}
        was_certain = node is None or not node.doubts_for_good
        ledger.emit(seen, Kind.GAP, value=losses.WHAT[seen.what], **fields)
        if node is not None and seen.what == Lost.BYTES:
            self._doubts.add(node, seen.offset, seen.offset + seen.length, was_certain=was_certain)
        elif node is not None:
            self._doubts.add_all(node.number)

    def _is_of_others(self, lost: EventsLost, file: Base, node: Node | None) -> bool:
        """Say whether a hole was lost of a file that is not in the tree, neither when its window begins nor at its end.

        Holes are those of all files on the device of a root; whether one is below it is asked when it is read again.
        """
        unknown = self._lost_of_unknown
        if node is None:
            unknown[file] = unknown.get(file, 0) + lost.count
        elif file in unknown:
            self.counters[f"lost_{lost.channel}"] += unknown.pop(file)
        return node is None

    def _mount_changed(self, seen: MountChanged, late: tuple[Late, ...], is_exact: bool) -> None:
        """Say what is mounted below a root. What is in it is not recorded, unless it lies below a root as well."""
        ledger = self._ledger
        node = ledger.find(seen.point) if seen.point is not None else self._walker.follow(seen.base, seen.path).node
        if ledger.is_folding or node is None or not node.is_directory:
            return
        is_hidden = MOUNT_ELSEWHERE if seen.is_elsewhere else MOUNT_HIDES
        detail = MOUNT_ENDS if not seen.is_mounted else MOUNT_SHOWS if seen.is_recorded else is_hidden
        self.counters["mounts"] += detail == MOUNT_HIDES
        ledger.emit(seen, Kind.MOUNT, node=node.number, path=ledger.path(node), text=seen.kind, detail=detail)


def _flags_of(value: bytes) -> tuple[int, bytes]:
    """Return the flags that SETFLAGS asked for, and of which sort they are."""
    if len(value) < _INODE_FLAGS.size:
        return 0, b""
    is_extended, flags, project = _INODE_FLAGS.unpack_from(value)
    if not is_extended:
        return flags, b"flags"
    return flags, b"xflags, project %d" % project if project else b"xflags"


def _reads_itself(seen: DataWritten, source: Inode) -> bool:
    """Say whether a copy within one file may have read what it had written."""
    is_same = source.identity == seen.inode.identity
    return is_same and abs(seen.offset - seen.source_offset) < seen.length
