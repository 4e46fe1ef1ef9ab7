"""The manifest of a state that a trace holds."""

from __future__ import annotations

import stat
from collections.abc import Iterable

from diffkeeper import Entry, Exactness, TreeView
from diffkeeper.model.extents import Piece
from oracle.manifest import Content, Hasher, Manifest, State, with_links


class TraceReader:
    """Take manifests of the states that a trace holds; equal recipes of content are not read again."""

    def __init__(self) -> None:
        self._known: dict[tuple[Piece, ...], Content] = {}
        self.inexact: dict[bytes, str] = {}  # entries of the last state that the trace itself does not vouch for

    def read(self, view: TreeView) -> Manifest:
        """Return the manifest of one state."""
        return self.read_entries(view, view.entries())

    def read_entries(self, view: TreeView, entries: Iterable[Entry]) -> Manifest:
        """Return the manifest of some entries of a state."""
        states: Manifest = {}
        files: dict[bytes, object] = {}
        self.inexact = {}
        for entry in entries:
            states[entry.path] = self._state(view, entry)
            files[entry.path] = entry.links
            if entry.content != Exactness.EXACT:
                self.inexact[entry.path] = entry.reason
        return with_links(states, files)

    def _state(self, view: TreeView, entry: Entry) -> State:
        meta = entry.meta
        return State(
            entry.kind,
            stat.S_IMODE(meta.mode),
            meta.uid,
            meta.gid,
            meta.mtime_ns,
            meta.rdev if entry.kind in "bc" else 0,
            entry.target if entry.kind == "l" else b"",
            tuple(sorted(entry.xattrs.items())),
            b"",
            self._content(view, entry) if entry.kind == "f" else None,
        )

    def _content(self, view: TreeView, entry: Entry) -> Content:
        recipe = tuple(view.recipe(entry))
        if recipe not in self._known:
            hasher = Hasher()
            for offset, data in view.chunks(entry, allow_unknown=True):
                hasher.add_zeros(offset - hasher.size)
                hasher.add(data)
            hasher.add_zeros(entry.size - hasher.size)
            self._known[recipe] = hasher.content()
        return self._known[recipe]
