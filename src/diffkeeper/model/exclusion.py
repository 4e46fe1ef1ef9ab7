"""Of the events of the whole tree make those of the shown tree, which is the whole tree without what is excluded.

A name is shown if no rule excludes it and its folder is shown, a node if one of its names is. An event passes as it is
where all that it speaks of is shown before and after; else the names that it touched are compared in both trees, and
events are made by which the shown tree loses or gains them (docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from diffkeeper.model.blobs import BlobSink
from diffkeeper.model.event import LOOK_APPEARED, LOOK_MOVED, RESYNC_CONTENT, Event, Kind, Mark
from diffkeeper.model.extents import HOLE, UNKNOWN
from diffkeeper.model.held import HeldBytes
from diffkeeper.model.node import Node
from diffkeeper.model.tree import KEEP_SIZE, PUNCH_HOLE, RESYNC_REMOVED, Tree

IsExcluded = Callable[[bytes, bool], bool]  # (path in the trace, whether it is a directory)
_Place = tuple[int, bytes]  # number of the directory, name

_MOST_ZEROS = 1 << 20  # of holes that are copied as zeros
_NAMING = frozenset(
    {Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD, Kind.LINK, Kind.UNLINK, Kind.RMDIR, Kind.RENAME, Kind.EXCHANGE}
    | {Kind.IMPORT, Kind.EXPORT, Kind.RESYNC, Kind.CHANGED}
)
_MAKING = frozenset({Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD})
_REMOVING = frozenset({Kind.UNLINK, Kind.RMDIR, Kind.EXPORT})
_REMOVED_BY_DETAIL = frozenset({Kind.RESYNC, Kind.CHANGED})
_ALWAYS_SHOWN = frozenset({Kind.OUTPUT, Kind.FORK, Kind.EXEC, Kind.EXIT, Kind.GAP, Kind.HELD})


class WholeTree(Tree):
    """Be the tree with what is excluded, and tell ``listener`` of each event when it was applied."""

    def __init__(self) -> None:
        super().__init__()
        self.listener: Callable[[Event], None] = lambda event: None

    @classmethod
    def of(cls, tree: Tree) -> WholeTree:
        """Return a copy of a tree."""
        whole = cls()
        tree._copy_into(whole, tree.nodes.values())
        return whole

    def apply(self, event: Event) -> None:
        """Change the state as the event says."""
        super().apply(event)
        self.listener(event)


def shown_part(whole: Tree, is_excluded: IsExcluded) -> Tree:
    """Return a tree without what is excluded."""
    shown = Tree()
    _add_below(whole, shown, is_excluded)
    for label, number in whole.roots:
        shown.make_root(label, number)
    shown.next_number = whole.next_number
    return shown


def _add_below(whole: Tree, shown: Tree, is_excluded: IsExcluded) -> None:
    hidden: set[int] = set()  # directories
    places: dict[int, set[_Place]] = {}
    for path, node in whole.walk():
        parent, name = _place_of(whole, path, node)
        if parent in hidden or (parent and is_excluded(path, node.is_directory)):
            hidden |= {node.number} if node.is_directory else set()
            continue
        places.setdefault(node.number, set()).update([(parent, name)] if parent else [])
    for number, names in places.items():
        twin = whole.nodes[number].copy()
        twin.names, twin.children = names, {} if twin.children is not None else None
        shown.insert(twin)
    shown.relink()


def _place_of(whole: Tree, path: bytes, node: Node) -> _Place:
    """Return which of a node's names a path ends in; (0, b"") for a root."""
    if whole.is_root(node.number):
        return 0, b""
    name = path.rpartition(b"/")[2]
    if len(node.names) == 1:
        return next(iter(node.names))
    above = whole.lookup(path.rpartition(b"/")[0])
    return (above.number if above is not None else 0), name


class Exclusion:
    """Follow the whole tree; ``shown`` is kept up to date, and ``take`` returns the events that made it so.

    ``sink`` is for the resolver of the whole tree, of which ``seen`` is the last event. What comes before the start of
    the recording, which a number that does not grow tells, changes ``shown`` without an event.
    """

    def __init__(
        self, whole: WholeTree, shown: Tree, is_excluded: IsExcluded, blobs: BlobSink, number: int = 0, seen: int = 0
    ) -> None:
        """Begin after event ``number`` of the shown tree, which was event ``seen`` of the whole one."""
        self.shown = shown
        self._whole = whole
        self._is_excluded = is_excluded
        self._number = number
        self.seen = seen
        self._masked: set[int] = set()  # nodes that live on in the shown tree, nameless, and have only hidden names
        self._is_folding = False
        self._out: list[Event] = []
        self.sink = HeldBytes(blobs, self._is_shown)
        whole.listener = self._applied
        for node in [node for node in shown.nodes.values() if not node.names and not shown.is_root(node.number)]:
            self._mask(node)

    def take(self) -> list[Event]:
        """Return the events since the last time."""
        events, self._out = self._out, []
        return events

    def _is_shown(self, number: int) -> bool:
        return number in self.shown.nodes and number not in self._masked

    def _applied(self, event: Event) -> None:
        self._is_folding = event.number <= self.seen
        self.seen = max(self.seen, event.number)
        if event.kind == Kind.GAP and event.node and not self._is_shown(event.node):
            self._emit(event, path=b"")  # counts; the node is none of the shown tree's
        elif event.kind in _ALWAYS_SHOWN:
            self._emit(event)
        elif event.marks & Mark.UNRESOLVED:
            self._unresolved(event)
        elif event.kind in _NAMING and (event.name or event.name2 or event.kind in _MAKING):
            self._named(event)
        elif event.kind == Kind.COPY and not self._is_shown(event.source):
            self._copied_from_hidden(event)
        elif self._is_shown(event.node):
            self._emit(event, path=self._path(event))
        self.sink.trim()

    def _emit(self, event: Event, **changes: Any) -> None:
        self._number += not self._is_folding
        event = replace(event, number=self._number, **changes)
        self.shown.apply(event)
        if not self._is_folding:
            self._out.append(event)

    def _make(self, cause: Event, kind: Kind, marks: Mark | int = 0, **fields: Any) -> None:
        """Emit an event that stands for something else."""
        marks = Mark((cause.marks & Mark.OUTSIDER) | marks)
        times = (cause.enter_ns, cause.exit_ns)
        self._emit(Event(0, cause.t_ns, kind, cause.pid, cause.tid, cause.process, marks, *times, **fields))

    def _unresolved(self, event: Event) -> None:
        """Tell that something is not known, but no string of it that a rule excludes."""
        texts = {"path": event.path, "path2": event.path2}
        hidden = {name: b"" for name, path in texts.items() if path and self._is_excluded(path.lstrip(b"/"), False)}
        self._emit(event, **hidden, **({"text": b"", "value": b""} if hidden else {}))

    def _path(self, event: Event) -> bytes:
        """Return the path to show for a shown node: of several names not one that is excluded."""
        node, shown = self._whole.nodes.get(event.node), self.shown.nodes[event.node]
        if node is None or not shown.names or len(node.names) == len(shown.names):
            return event.path
        return self.shown.path_of(shown)

    # --- content ---

    def _copied_from_hidden(self, event: Event) -> None:
        """Show a copy from what is not shown as a write: the bytes are those of a shown file now."""
        node = self._whole.nodes.get(event.node)
        if not self._is_shown(event.node) or node is None or node.content is None:
            return
        pieces = list(node.content.pieces(event.offset, event.length))
        for piece in pieces:
            if piece.blob == HOLE:
                self._fill(node, piece.offset, piece.length)
        data = self.sink.store(node, list(node.content.pieces(event.offset, event.length)))
        marks = event.marks | _marks_of(node, any(not piece.blob for piece in data))
        changes = {"kind": Kind.WRITE, "source": 0, "source_offset": 0, "data": data, "marks": Mark(marks)}
        self._emit(event, path=self._path(event), **changes)

    def _fill(self, node: Node, offset: int, length: int) -> None:
        """Put zeros into a hole of a shown node; a large one is not known then."""
        assert node.content is not None, "only regular files have holes"
        if length > _MOST_ZEROS:
            node.content.write_unknown(offset, length)
        else:
            node.content.write(offset, length, *self.sink.append(node.number, bytes(length)))

    # --- names ---

    def _named(self, event: Event) -> None:
        places = _places(event)
        concerned = {event.node, event.replaced, event.parent, event.parent2}
        concerned |= {node.number for place in places if (node := self._child(self.shown, place)) is not None}
        if self._is_plain(event, places):
            self._pass(event)
        self._reconcile(event, places)
        if event.kind == Kind.EXCHANGE or _is_move(event):
            self._reconcile_below(event, [event.node, event.replaced])
        for number in sorted(concerned):
            self._refresh(event, number)

    def _pass(self, event: Event) -> None:
        changes: dict[str, Any] = {}
        node, shown = self._whole.nodes.get(event.node), self.shown.nodes.get(event.node)
        if event.kind == Kind.LINK and shown is not None and (event.parent, event.name) not in shown.names:
            changes = {"parent": 0, "name": b"", "path": self.shown.path_of(shown)}
        elif _is_move(event) and not self._is_shown(event.replaced):
            changes = {"replaced": 0}
        elif event.kind in _REMOVING and node is not None and node.names:
            changes = {"meta": replace(node.meta, nlink=max(1, node.meta.nlink))}  # it lives on, perhaps unseen
        self._emit(event, **changes)

    def _is_plain(self, event: Event, places: list[_Place]) -> bool:
        """Say whether the shown tree may apply an event as it is."""
        if event.kind in _REMOVING or (event.kind in _REMOVED_BY_DETAIL and event.detail == RESYNC_REMOVED):
            return bool(places) and self._child(self.shown, places[0]) is not None
        if not all(self._want(place) is not None for place in places if place != _old_place(event)):
            return False
        if event.kind in _MAKING:
            return bool(places) and (self._is_shown(event.node) or self._is_fresh(event.node))
        if not self._is_shown(event.node):
            return False
        if _is_move(event):
            return self._child(self.shown, places[0]) is self.shown.nodes[event.node]
        return event.kind != Kind.EXCHANGE or (
            self._child(self.shown, places[0]) is self.shown.nodes[event.node]
            and self._child(self.shown, places[1]) is self.shown.nodes.get(event.replaced)
        )

    def _is_fresh(self, number: int) -> bool:
        """Say whether a node is as it was made."""
        node = self._whole.nodes.get(number)
        if node is None or number in self.shown.nodes:
            return False
        return not node.children and (node.content is None or not node.content.size)

    def _child(self, tree: Tree, place: _Place) -> Node | None:
        directory = tree.nodes.get(place[0])
        return tree.child(directory, place[1]) if directory is not None else None

    def _want(self, place: _Place) -> Node | None:
        """Return the node that the shown tree should have at a place."""
        node, directory = self._child(self._whole, place), self.shown.nodes.get(place[0])
        if node is None or directory is None or directory.children is None:
            return None
        return None if self._is_excluded(self._path_of(place), node.is_directory) else node

    def _path_of(self, place: _Place) -> bytes:
        above = self.shown.path_of(self.shown.nodes[place[0]])
        return above + b"/" + place[1] if above else place[1]

    def _reconcile(self, cause: Event, places: Iterable[_Place]) -> None:
        """Let the shown tree lose and gain names until it has at these places what it should."""
        wanted = {place: self._want(place) for place in places}
        for place, want in wanted.items():
            have = self._child(self.shown, place)
            if have is not None and want is None:
                self._lose(cause, place, have)
        for place, want in wanted.items():
            have = self._child(self.shown, place)
            if want is not None and (have is None or have.number != want.number):
                self._gain(cause, place, want)
                self._mask(have)
        for number in (cause.node, cause.replaced):
            self._mask(self.shown.nodes.get(number))

    def _reconcile_below(self, cause: Event, numbers: Iterable[int]) -> None:
        """Do the same for all below directories that were renamed: rules may be about whole paths."""
        waiting = [number for number in numbers if number in self.shown.nodes]
        while waiting:
            directory = self._whole.nodes.get(waiting.pop())
            if directory is None or not directory.children:
                continue
            self._reconcile(cause, [(directory.number, name) for name in sorted(directory.children)])
            waiting += [number for number in directory.children.values() if self._is_directory_shown(number)]

    def _is_directory_shown(self, number: int) -> bool:
        node = self.shown.nodes.get(number)
        return node is not None and node.is_directory

    def _lose(self, cause: Event, place: _Place, have: Node) -> None:
        whole = self._whole.nodes.get(have.number)
        self._make(
            cause,
            *_instead(cause, Kind.EXPORT),
            detail=RESYNC_REMOVED if cause.kind == Kind.CHANGED else 0,
            node=have.number,
            parent=place[0],
            name=place[1],
            path=self._path_of(place),
            meta=whole.meta if whole is not None else None,
            parent_mtime_ns=self._mtime_ns(place[0]),
        )
        if have.number not in self.shown.nodes:
            self.sink.hidden(have.number)

    def _gain(self, cause: Event, place: _Place, want: Node) -> None:
        if not self._is_shown(want.number):
            self._reveal(cause, place, want)
            return
        if cause.kind == Kind.CHANGED:
            fields: dict[str, Any] = {"parent": place[0], "name": place[1], "path": self._path_of(place)}
            fields |= {"meta": want.meta, "size": want.size, "parent_mtime_ns": self._mtime_ns(place[0])}
            self._make(cause, *_instead(cause, Kind.LINK), node=want.number, **fields)
            return
        self._make(
            cause,
            Kind.LINK,
            node=want.number,
            parent2=place[0],
            name2=place[1],
            path=self.shown.path_of(self.shown.nodes[want.number]),
            path2=self._path_of(place),
            meta=want.meta,
            parent2_mtime_ns=self._mtime_ns(place[0]),
        )

    def _mask(self, shown: Node | None) -> None:
        """Hide a node that has no shown name any more, but hidden ones."""
        if shown is None or shown.names or self.shown.nodes.get(shown.number) is not shown:
            return
        whole = self._whole.nodes.get(shown.number)
        if whole is not None and whole.names and shown.number not in self._masked:
            self._masked.add(shown.number)
            self.sink.hidden(shown.number)

    def _reveal(self, cause: Event, place: _Place, node: Node) -> None:
        """Bring a node that was hidden into the shown tree, with all below it that is not excluded."""
        waiting = [(place, node)]
        while waiting:
            place, node = waiting.pop()
            self._reveal_one(cause, place, node)
            for name in sorted(node.children or (), reverse=True):
                want = self._want((node.number, name))
                if want is not None:
                    waiting.append(((node.number, name), want))

    def _reveal_one(self, cause: Event, place: _Place, node: Node) -> None:
        if self._is_shown(node.number):
            self._gain(cause, place, node)  # another name of a file that was revealed
            return
        if node.number in self._masked:
            self._masked.discard(node.number)
            if cause.kind != Kind.CHANGED:
                self._make(cause, Kind.TRUNCATE, node=node.number, meta=node.meta)
        data = self.sink.store_all(node) if node.content is not None else ()
        length = sum(piece.length for piece in data if piece.blob != UNKNOWN)
        is_import = cause.kind == Kind.IMPORT and cause.node == node.number
        marks = _marks_of(node, any(piece.blob == UNKNOWN for piece in data)) | (cause.marks if is_import else 0)
        self._make(
            cause,
            *_instead(cause, Kind.IMPORT, marks),
            detail=self._detail(cause, node),
            node=node.number,
            parent=place[0],
            name=place[1],
            path=self._path_of(place),
            path2=cause.path2 if is_import else b"",
            meta=node.meta,
            text=node.target,
            size=node.size,
            length=length,
            data=data,
            parent_mtime_ns=self._mtime_ns(place[0]),
        )
        self._complete(cause, node)

    def _detail(self, cause: Event, node: Node) -> int:
        if cause.kind != Kind.CHANGED:
            return 0
        return RESYNC_CONTENT if node.number in self.shown.nodes else LOOK_APPEARED

    def _complete(self, cause: Event, node: Node) -> None:
        """Tell of a revealed node what an IMPORT cannot: holes and extended attributes."""
        shown = self.shown.nodes[node.number]
        fields: dict[str, Any] = {"node": node.number, "path": self.shown.path_of(shown), "meta": node.meta}
        for hole in _holes(node) if cause.kind != Kind.CHANGED else ():
            place = {"offset": hole[0], "length": hole[1], "size": node.size}
            self._make(cause, Kind.FALLOCATE, detail=PUNCH_HOLE | KEEP_SIZE, **place, **fields)
        for name in shown.xattrs.keys() - node.xattrs.keys():
            self._make(cause, Kind.REMOVEXATTR, text=name, **fields)
        for name, value in node.xattrs.items():
            if shown.xattrs.get(name) != value:
                self._make(cause, Kind.SETXATTR, text=name, value=value, **fields)

    def _mtime_ns(self, number: int) -> int:
        node = self._whole.nodes.get(number)
        return node.meta.mtime_ns if node is not None else 0

    def _refresh(self, cause: Event, number: int) -> None:
        """Tell of metadata that changed by something that is not shown."""
        node, shown = self._whole.nodes.get(number), self.shown.nodes.get(number)
        if node is None or shown is None or not self._is_shown(number) or node.meta == shown.meta:
            return
        path = self.shown.path_of(shown)
        self._make(cause, *_instead(cause, Kind.CLOSE), node=number, path=path, meta=node.meta, size=node.size)


def _places(event: Event) -> list[_Place]:
    """Return the names that an event changes."""
    second = [(event.parent2, event.name2)] if event.name2 else []
    if event.kind == Kind.LINK:
        return second
    return ([(event.parent, event.name)] if event.name else []) + second


def _old_place(event: Event) -> _Place | None:
    """Return the name that need not lead anywhere after an event."""
    return (event.parent, event.name) if _is_move(event) else None


def _is_move(event: Event) -> bool:
    return event.kind == Kind.RENAME or (event.kind == Kind.CHANGED and event.detail == LOOK_MOVED)


def _instead(cause: Event, kind: Kind, marks: Mark | int = 0) -> tuple[Kind, Mark | int]:
    """Return kind and marks of an event that stands for another: of what was looked at nobody saw what happened."""
    return (Kind.CHANGED, marks | Mark.INEXACT) if cause.kind == Kind.CHANGED else (kind, marks)


def _holes(node: Node) -> Iterator[tuple[int, int]]:
    for piece in node.content.pieces() if node.content is not None else ():
        if piece.blob == HOLE:
            yield piece.offset, piece.length


def _marks_of(node: Node, has_unknown: bool) -> int:
    return (Mark.UNKNOWN_DATA if has_unknown else 0) | (Mark.INEXACT if node.inexact else 0)
