"""Walk the live tree and the replayed one side by side, a directory at a time, and repair what differs on the way.

An entry of which nothing was recorded costs one lstat. One whose inode changed after the engine had stopped (its ctime
tells) is not a difference: nobody promised to see that.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from diffkeeper import beneath
from diffkeeper.baseline_index import s_dev
from diffkeeper.model.attributes import is_second_name
from diffkeeper.model.compare import LinkGroups, What, differences, missing
from diffkeeper.model.losses import is_tainted
from diffkeeper.model.node import Node
from diffkeeper.verification import content
from diffkeeper.verification.content import BlobSource, Match
from diffkeeper.verification.live import Listing, LiveRoot, open_file, read_xattrs
from diffkeeper.verification.repair import Repair
from diffkeeper.verification.result import MOST_PATHS, Verification

_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


@dataclass(frozen=True, slots=True)
class Touched:
    """Name the nodes that the recording says were changed: in any way, and in their bytes."""

    nodes: frozenset[int]
    written: frozenset[int]


@dataclass(slots=True)
class _Place:
    """Hold one name under comparison."""

    listing: Listing
    directory: Node
    name: bytes
    path: bytes  # in the trace
    status: os.stat_result


class Sweep:
    """Compare everything below the roots, one root after the other."""

    def __init__(
        self, nodes: Mapping[int, Node], touched: Touched, blobs: BlobSource, repair: Repair, *,
        stopped_ns: int, has_all_bytes: bool, is_in_doubt: bool = False, confirms: bool = True,
        check_time: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Judge by ``stopped_ns``, the time of CLOCK_REALTIME_COARSE at which the engine was stopped.

        Without ``has_all_bytes`` the trace need not hold the bytes of files that nobody wrote. ``is_in_doubt``: changes
        of which nothing is known were lost; what differs is explained by that. ``confirms``: say of what was in doubt
        and is right that it is so; without it, only of roots. ``check_time`` is called now and then, and may raise.
        """
        self.result = Verification()
        self._nodes = nodes
        self._touched = touched
        self._blobs = blobs
        self._repair = repair
        self._stopped_ns = stopped_ns
        self._has_all_bytes = has_all_bytes
        self._is_in_doubt = is_in_doubt
        self._check_time = check_time
        self._confirms = confirms
        self._groups = LinkGroups()

    def root(self, live: LiveRoot, node: Node, label: bytes) -> None:
        """Compare a root and all below it."""
        left_open = self.result.not_verified + self.result.changed_since
        self._metadata_of_root(live, node, label)
        self._walk(live, node, label)
        if node.inexact and left_open == self.result.not_verified + self.result.changed_since:
            self._repair.confirm(node, label, live.status)

    def _walk(self, live: LiveRoot, node: Node, label: bytes) -> None:
        waiting = [(b"", node, live.status)]
        while waiting:
            self._check_time()
            below, directory, status = waiting.pop()
            try:
                listing = live.list(below, status)
            except OSError:
                self.result.not_verified += 1
                continue
            try:
                path = b"/".join(filter(None, (label, below)))
                prefix = below + b"/" if below else b""
                for name, number in self._directory(live, listing, directory, path, prefix):
                    waiting.append((prefix + name, self._nodes[number], listing.entries[name]))
            finally:
                listing.close()

    def _metadata_of_root(self, live: LiveRoot, node: Node, label: bytes) -> None:
        found = differences(node, live.status)
        if found and self._is_settled(live.status):
            self._differs(label or b".", node)
            self._repair.metadata(node, label, live.status)

    def _directory(
        self, live: LiveRoot, listing: Listing, directory: Node, path: bytes, prefix: bytes
    ) -> Iterator[tuple[bytes, int]]:
        """Compare the entries of a directory; yield name and node of each directory in it."""
        assert directory.children is not None, "only directories are listed"
        children, nodes, special = directory.children, self._nodes, self._touched.nodes
        above = path + b"/" if path else b""
        gone = missing(directory, listing.entries, lambda name: self._is_left_out(live, directory, prefix, name))
        for name in gone:
            self._missing(listing, directory, name, above + name)
        for name, status in listing.entries.items():
            node = nodes.get(children.get(name, 0))
            if (
                node is not None
                and node.number not in special
                and not differences(node, status)
                and not node.inexact
                and (status.st_nlink == 1 or node.children is not None)
                and len(node.names) == 1
            ):
                self.result.entries += 1
            else:
                node = self._entry(_Place(listing, directory, name, above + name, status), node)
            if node is not None and node.children is not None:
                yield name, node.number

    def _is_left_out(self, live: LiveRoot, directory: Node, prefix: bytes, name: bytes) -> bool:
        node = self._nodes.get((directory.children or {}).get(name, 0))
        return live.is_left_out(prefix + name, is_directory=node is not None and node.is_directory)

    def _missing(self, listing: Listing, directory: Node, name: bytes, path: bytes) -> None:
        if not self._is_settled(listing.status):
            self.result.changed_since += 1
            return
        node = self._nodes[(directory.children or {})[name]]
        self._differs(path, node)
        self._repair.remove(node, directory, name, path)

    def _entry(self, place: _Place, node: Node | None) -> Node | None:
        """Compare one entry in every way; return its node if the walk may go on below it."""
        if node is None:
            return self._extra(place) if self._is_settled_now(place) else self._since()
        found = differences(node, place.status, _rdev(place.status))
        target = self._target(place, node)
        if What.TYPE in found or target not in (None, node.target) or not self._groups.fits(node, place.status):
            return self._extra(place) if self._is_settled_now(place) else self._since(node)
        if node.is_regular:
            return self._file(place, node, found)
        return self._other(place, node, found)

    def _target(self, place: _Place, node: Node) -> bytes | None:
        """Return the target of a symlink that may be another than the node's, None if there is no reason to look."""
        is_link = stat.S_ISLNK(place.status.st_mode)
        if not is_link or (node.number not in self._touched.nodes and place.status.st_size == len(node.target)):
            return None
        return self._read_target(place)

    def _read_target(self, place: _Place) -> bytes:
        with contextlib.suppress(OSError):
            return beneath.readlink(place.name, place.listing.fd)
        return b""

    def _other(self, place: _Place, node: Node, found: tuple[What, ...]) -> Node | None:
        known, live = self._xattrs(place, node)
        if not found and known == live:
            self.result.entries += 1
            if node.inexact and self._confirms:
                self._repair.confirm(node, place.path, place.status)
            return node
        if not self._is_settled_now(place):
            return self._since(node)
        self._differs(place.path, node)
        if found:
            self._repair.metadata(node, place.path, place.status)
        self._repair.xattrs(node, place.path, live, known)
        if node.inexact and self._confirms:
            self._repair.confirm(node, place.path, place.status)
        return node

    def _file(self, place: _Place, node: Node, found: tuple[What, ...]) -> Node | None:
        with self._opened(place) as fd:
            same = self._match(node, fd, found)
            known, live = self._xattrs(place, node)
            if found or same == Match.DIFFERENT or known != live:
                if not self._is_settled_now(place):
                    return self._since(node)
                self._differs(place.path, node)
                if same != Match.SAME:
                    self._repair.bytes_of(node, place.path, place.status, fd)
                elif found:
                    self._repair.metadata(node, place.path, place.status)
                self._repair.xattrs(node, place.path, live, known)
                if node.inexact and same == Match.SAME and fd >= 0 and self._confirms:
                    self._repair.confirm(node, place.path, place.status)
            elif fd < 0 or same == Match.UNKNOWN:
                self.result.not_verified += 1
            else:
                self._right(place, node)
        return node

    def _right(self, place: _Place, node: Node) -> None:
        is_in_doubt = bool(node.inexact)
        if is_in_doubt and self._confirms:
            self.result.confirmed += 1
            self._repair.confirm(node, place.path, place.status)
        if is_in_doubt or node.number in self._touched.nodes:
            self.result.files += 1
        else:
            self.result.entries += 1

    @contextlib.contextmanager
    def _opened(self, place: _Place) -> Iterator[int]:
        """Open a regular file, -1 if that cannot be."""
        try:
            fd = open_file(place.listing.fd, place.name)
        except OSError:
            yield -1
            return
        try:
            status = os.fstat(fd)
            is_it = (status.st_dev, status.st_ino) == (place.status.st_dev, place.status.st_ino)
            yield fd if is_it else -1
        finally:
            os.close(fd)

    def _match(self, node: Node, fd: int, found: tuple[What, ...]) -> Match:
        assert node.content is not None, "only regular files have bytes"
        if What.SIZE in found:
            return Match.DIFFERENT
        is_suspect = node.number in self._touched.written or node.inexact or What.MTIME in found
        is_suspect = is_suspect or (self._is_in_doubt and node.number in self._touched.nodes)
        if fd < 0 or not is_suspect:
            return Match.SAME
        same = content.match(node.content, self._blobs, fd)
        is_amiss = same == Match.UNKNOWN and (self._has_all_bytes or What.MTIME in found or is_tainted(node))
        return Match.DIFFERENT if is_amiss else same

    def _xattrs(self, place: _Place, node: Node) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        """Return the node's attributes and the live ones, as far as both can be known."""
        if node.number not in self._touched.nodes:
            return {}, {}
        live = read_xattrs(place.listing.fd, place.name)
        return ({}, {}) if live is None else (_comparable(node.xattrs), _comparable(live))

    def _extra(self, place: _Place) -> Node:
        """Bring in an entry that the trace does not know, or knows as something else."""
        self._differs(place.path, None)
        known = self._nodes.get(self._groups.node_of(place.status))
        if known is not None and known.is_regular and stat.S_ISREG(place.status.st_mode):
            self._repair.link(known, place.directory, place.name, place.path, place.status)
            return known
        target = self._read_target(place) if stat.S_ISLNK(place.status.st_mode) else b""
        where = (place.directory, place.name, place.path, place.status)
        if stat.S_ISREG(place.status.st_mode):
            with self._opened(place) as fd:
                node = self._repair.make(*where, fd, target)
        else:
            node = self._repair.make(*where, -1, target)
        self._groups.fits(node, place.status)
        self._repair.xattrs(node, place.path, _comparable(read_xattrs(place.listing.fd, place.name) or {}), {})
        return node

    def _since(self, node: Node | None = None) -> Node | None:
        self.result.changed_since += 1
        return node if node is not None and node.is_directory else None

    def _differs(self, path: bytes, node: Node | None) -> None:
        if self._is_in_doubt or (node is not None and is_tainted(node)):
            self.result.explained += 1
            return
        self.result.differ += 1
        self.result.resynced += 1
        if len(self.result.paths) < MOST_PATHS:
            self.result.paths.append(os.fsdecode(path))

    def _is_settled(self, status: os.stat_result) -> bool:
        return status.st_ctime_ns < self._stopped_ns

    def _is_settled_now(self, place: _Place) -> bool:
        """Say whether an entry is as it was when the engine stopped, even after it was looked at."""
        try:
            now = beneath.lstat(place.name, place.listing.fd)
        except OSError:
            return False
        return self._is_settled(place.status) and self._is_settled(now) and now.st_ino == place.status.st_ino


def _rdev(status: os.stat_result) -> int | None:
    return s_dev(status.st_rdev) if stat.S_IFMT(status.st_mode) in _DEVICES else None


def _comparable(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Leave out what the kernel gives to a new file unasked (labels), and what only root may see."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return {
        name: value
        for name, value in xattrs.items()
        if (not name.startswith(b"security.") or name == b"security.capability")
        and (is_root or not name.startswith(b"trusted."))
        and not is_second_name(name)
    }
