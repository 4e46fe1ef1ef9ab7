"""Look at entries that may have changed, hold them against the mirror, and tell what is new.

Names are looked at in batches: what vanished from one name and appeared under another in the same batch has moved.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from diffkeeper import mounts
from diffkeeper.beneath import entry_status, s_dev
from diffkeeper.engines.notify import COOKIE, Notifier, TooManyWatchesError
from diffkeeper.engines.watch_mirror import Entry, Folder, Root, is_fresh, packed
from diffkeeper.engines.watch_reading import Reading
from diffkeeper.engines.watch_seeing import NOT_THERE, key_of, look_at, target_of, xattrs_of
from diffkeeper.engines.watch_telling import Teller
from diffkeeper.model.observation import LookOp, Read
from diffkeeper.rules import Rules

_REST_AFTER_LOOK = 4  # a file that keeps changing is left alone for so many times as long as it took to look at it
_SHORTEST_REST_NS = 2_000_000

Place = tuple[Folder, bytes]
Batch = Mapping[Place, int]  # to the time since when it may have changed


class _Sight(NamedTuple):
    """Hold one name that was looked at."""

    folder: Folder
    name: bytes
    status: os.stat_result
    since_ns: int


class Looks:
    """Keep the mirror, and tell how the files differ from it."""

    def __init__(self, teller: Teller, notifier: Notifier | None, rules: Rules, own: tuple[int, int]) -> None:
        """``own`` is (s_dev, inode) of the trace's directory, which is never looked at."""
        self.notifier = notifier
        self.again: dict[Place, tuple[int, int]] = {}  # to be looked at again: (not before, since when)
        self.unwatched = 0
        self._teller = teller
        self._rules = rules
        self._own = own
        self._closed: set[Folder] = set()  # of which has been told that something in them cannot be looked at
        self._linked: dict[tuple[int, int], Entry] = {}  # files with several names
        self._mount_points: dict[Root, frozenset[bytes]] = {}
        self._devices: dict[Root, set[int]] = {}
        self._vanished: dict[tuple[int, int], tuple[Folder, bytes, Entry]] = {}
        self._mtimes: dict[Folder, int] = {}
        self._there: dict[Folder, bool] = {}

    # --- the mirror ---

    def begin(self, root: Root) -> Folder:
        """Take a root and all below it into the mirror without telling of it; raise OSError."""
        status = os.stat(root.path)
        folder = Folder(root.base(status), None, b"", root)
        self._mount_points[root] = mounts.points_below(root.path)
        self._devices[root] = {status.st_dev}
        root.entry.folder = folder
        return folder

    def fill(self, top: Folder) -> None:
        """Watch a directory that is new to the mirror and list it, with all below it, without telling."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            for name, status in self._listed(folder):
                if not self._is_left_out(folder, name, status):
                    entry = self._entered(folder, name, status)
                    if entry.folder is not None:
                        waiting.append(entry.folder)

    def _entered(self, folder: Folder, name: bytes, status: os.stat_result) -> Entry:
        """Put an entry into the mirror."""
        now_ns = time.monotonic_ns()
        key = key_of(status)
        entry = self._linked.get(key) if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode) else None
        if entry is None or not entry.is_of(status):
            entry = Entry(packed(status), now_ns, is_fresh(status))
        if stat.S_ISDIR(status.st_mode):
            entry.folder = Folder(folder.root.base(status), folder, name, folder.root)
        elif status.st_nlink > 1:
            self._linked[key] = entry
        folder.children[name] = entry
        entry.names += 1
        return entry

    def _unname(self, folder: Folder, name: bytes, entry: Entry) -> None:
        """Take a name out of the mirror; what has none left is not known any more, also if it comes back by a link."""
        del folder.children[name]
        entry.names -= 1
        if entry.names <= 0:
            self._linked.pop(entry.key, None)

    def _listed(self, folder: Folder) -> Iterator[tuple[bytes, os.stat_result]]:
        """Watch a directory, then yield what is in it: what comes later is hinted at."""
        self._watch(folder)
        folder.listed_ns = time.monotonic_ns()
        try:
            with os.scandir(folder.path) as listing:
                for entry in listing:
                    try:
                        yield entry.name, entry_status(entry)
                    except OSError:
                        continue  # it went again
        except FileNotFoundError:
            return
        except OSError:
            self._failed(folder)

    def _watch(self, folder: Folder) -> None:
        if self.notifier is None or folder.handle is not None:
            return
        try:
            self.notifier.watch(folder)
        except FileNotFoundError:
            return
        except TooManyWatchesError:
            self.unwatched += 1
        except OSError:
            return  # what may not be watched may not be read either, and listing it says so

    def _failed(self, folder: Folder) -> None:
        if folder in self._closed:
            return
        self._closed.add(folder)
        self._teller.look(LookOp.FAILED, folder.listed_ns, parent=folder.base)

    def _is_left_out(self, folder: Folder, name: bytes, status: os.stat_result) -> bool:
        """Say whether an entry is excluded, another mount, or our own."""
        if name.startswith(COOKIE):
            return True
        root = folder.root
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory and (s_dev(status.st_dev), status.st_ino) == self._own:
            return True
        if status.st_dev not in self._devices[root]:
            self._mount_points[root] = mounts.points_below(root.path)
            self._devices[root].add(status.st_dev)
        points = self._mount_points[root]
        if not points and not self._rules:
            return False
        below = folder.below
        below = below + b"/" + name if below else name
        if points and os.path.join(root.path, below) in points:
            return True
        shown = root.label + b"/" + below if root.label else below
        return bool(self._rules) and self._rules.is_excluded(shown, is_directory)

    # --- looking ---

    def look(self, batch: Batch) -> None:
        """Look at names of directories of the mirror; an empty name means the directory itself."""
        sights: list[_Sight] = []
        gone: list[tuple[Folder, bytes, int]] = []
        self._vanished, self._mtimes, self._there = {}, {}, {}
        now_ns = time.monotonic_ns()
        for (folder, name), since_ns in batch.items():
            if folder.is_gone:
                continue
            entry = folder.children.get(name) if name else folder.root.entry
            if entry is not None and name and self._rests(folder, name, entry, since_ns, now_ns):
                continue
            if not self._is_there(folder):
                self.again.setdefault((folder, name), (now_ns + _SHORTEST_REST_NS, since_ns))
                continue  # it moved, or is gone: that comes first
            try:
                status = look_at(os.path.join(folder.path, name) if name else folder.path)
            except OSError:
                self._failed(folder)  # too long a path, or a folder that may not be entered any more
                continue
            if not name:
                self._root(folder, status, since_ns)
            elif status is None:
                if entry is not None:
                    gone.append((folder, name, since_ns))
                    self._vanished[entry.key] = (folder, name, entry)
            elif entry is None and self._is_left_out(folder, name, status):
                continue
            else:
                if entry is not None and not entry.is_of(status):
                    self._vanished[entry.key] = (folder, name, entry)
                sights.append(_Sight(folder, name, status, since_ns))
        self._settle(sights, gone)

    def _settle(self, sights: list[_Sight], gone: list[tuple[Folder, bytes, int]]) -> None:
        sights.sort(key=self._turn)
        for sight in sights:
            self._see(sight)
        for folder, name, since_ns in gone:
            if not folder.is_gone and name in folder.children:
                self._gone(folder, name, since_ns)

    def _is_there(self, folder: Folder) -> bool:
        """Say whether a directory's path still leads to it, and not by a symlink to another."""
        known = self._there.get(folder)
        if known is None:
            known = False
            with contextlib.suppress(OSError):
                status = os.lstat(folder.path)
                known = stat.S_ISDIR(status.st_mode) and key_of(status)[1] == folder.base.ino
                self._mtimes[folder] = status.st_mtime_ns
            self._there[folder] = known
        return known

    def _turn(self, sight: _Sight) -> int:
        """Return when a name has its turn: first what moved, lest its former name is taken before."""
        if key_of(sight.status) not in self._vanished:
            return 2
        present = sight.folder.children.get(sight.name)
        return int(present is not None and present.key in self._vanished)

    def _rests(self, folder: Folder, name: bytes, entry: Entry, since_ns: int, now_ns: int) -> bool:
        """Say whether a file was looked at a moment ago, and note that it must be again."""
        due_ns = entry.looked_ns + max(_REST_AFTER_LOOK * entry.cost_ns, _SHORTEST_REST_NS)
        if not entry.cost_ns or now_ns >= due_ns:
            return False
        self.again.setdefault((folder, name), (due_ns, since_ns))
        return True

    def _root(self, folder: Folder, status: os.stat_result | None, since_ns: int) -> None:
        entry = folder.root.entry
        if status is None or not entry.is_of(status):
            return  # gone, or another one: verification says so
        if entry.status != packed(status) and folder.parent is None:
            self._told(entry, status)
            xattrs = xattrs_of(folder.root.path)
            inode = folder.root.inode(status)
            self._teller.look(LookOp.FOUND, max(since_ns, entry.looked_ns), inode=inode, xattrs=xattrs)

    def _see(self, sight: _Sight) -> None:
        """Tell what is new of a name that is there."""
        folder, name, status, since_ns = sight
        if folder.is_gone:
            return
        entry = folder.children.get(name)
        if entry is not None and entry.is_of(status):
            self._changed(sight, entry)
            return
        if entry is not None:
            self._displaced(folder, name, entry, status, since_ns)
        key = key_of(status)
        moved = self._vanished.get(key_of(status))
        has_moved = moved is not None and self._is_still_at(moved) and self._is_same(moved[2], status)
        if moved is not None and not has_moved and self._is_still_at(moved):
            self._gone(moved[0], moved[1], since_ns)  # its number is used again, or nobody can tell
        if _is_gone(folder):
            return  # with what had to give way; it is listed anew where it appears
        if moved is not None and has_moved:
            del self._vanished[key_of(status)]
            self._moved(sight, *moved)
        elif status.st_nlink > 1 and (known := self._linked.get(key)) is not None and known.is_of(status):
            folder.children[name] = known
            known.names += 1
            self._file(sight, known, is_news=True)
        else:
            self._appeared(sight)

    def _displaced(self, folder: Folder, name: bytes, entry: Entry, status: os.stat_result, since_ns: int) -> None:
        """Forget what had a name before; a directory is told to be gone with all that was in it."""
        kept = self._vanished.get(entry.key)
        if kept is not None and entry.folder is None and entry.is_of(status):
            return
        if entry.folder is not None:
            self._gone(folder, name, since_ns)
            return
        self._unname(folder, name, entry)
        self._vanished.pop(entry.key, None)

    def _is_same(self, entry: Entry, status: os.stat_result) -> bool:
        """Say whether a status under another name is that of the same file, and not of one with a number used again."""
        is_watched = entry.folder is not None and self.notifier is not None and self.notifier.is_told(entry.folder)
        return entry.has_moved_as(status) and (is_watched or entry.folder is None or not entry.is_fresh)

    def _is_still_at(self, moved: tuple[Folder, bytes, Entry]) -> bool:
        folder, name, entry = moved
        return not folder.is_gone and folder.children.get(name) is entry

    def _changed(self, sight: _Sight, entry: Entry) -> None:
        folder, name, status, _ = sight
        new = packed(status)
        if entry.folder is not None:
            if entry.status != new:
                self._found(sight, entry, Read.AS_KNOWN)
        elif stat.S_ISREG(status.st_mode):
            if entry.status != new or entry.is_fresh:
                self._file(sight, entry, is_news=entry.status != new)
        elif entry.status != new:
            self._found(sight, entry, Read.AS_KNOWN, data=target_of(folder, name, status))

    def _moved(self, sight: _Sight, former: Folder, name: bytes, entry: Entry) -> None:
        folder = sight.folder
        del former.children[name]
        folder.children[sight.name] = entry
        place: dict[str, Any] = {"parent2": former.base, "name2": name, "parent2_mtime_ns": self._mtime_of(former)}
        if entry.folder is not None:
            entry.folder.parent, entry.folder.name, entry.folder.root = folder, sight.name, folder.root
            self._found(sight, entry, Read.AS_KNOWN, **place)
        elif stat.S_ISREG(sight.status.st_mode):
            self._file(sight, entry, is_news=True, **place)
        else:
            target = target_of(folder, sight.name, sight.status)
            self._found(sight, entry, Read.AS_KNOWN, data=target, **place)

    def _appeared(self, first: _Sight) -> None:
        """Tell of an entry that is new, and of all below it."""
        waiting = [first]
        while waiting:
            sight = waiting.pop()
            if sight.folder.is_gone:
                continue
            folder, name, status, since_ns = sight
            entry = self._entered(folder, name, status)
            if folder.children[name] is not self._linked.get(key_of(status)):
                entry.looked_ns = since_ns  # it was not there then
            if entry.folder is not None:
                self._found(sight, entry, Read.AS_KNOWN)
                below = [
                    _Sight(entry.folder, one, its, since_ns)
                    for one, its in self._listed_anew(entry.folder)
                    if not self._is_left_out(entry.folder, one, its)
                ]
                for one in below:
                    if stat.S_ISDIR(one.status.st_mode) and key_of(one.status) not in self._vanished:
                        waiting.append(one)
                    else:
                        self._see(one)
            elif stat.S_ISREG(status.st_mode):
                self._file(sight, entry, is_news=True, is_new=True)
            else:
                self._found(sight, entry, Read.AS_KNOWN, data=target_of(folder, name, status))

    def _listed_anew(self, folder: Folder) -> list[tuple[bytes, os.stat_result]]:
        listed = []
        for name, status in self._listed(folder):
            listed.append((name, status))
        return listed

    def _gone(self, folder: Folder, name: bytes, since_ns: int) -> None:
        """Tell that a name is gone, with all that was below it."""
        entry = folder.children[name]
        if entry.folder is not None:
            for inner, one, below in list(entry.folder.under()):
                self._forget(inner, one, below, since_ns)
        self._forget(folder, name, entry, since_ns)

    def _forget(self, folder: Folder, name: bytes, entry: Entry, since_ns: int) -> None:
        if folder.children.get(name) is not entry:
            return
        self._unname(folder, name, entry)
        self._vanished.pop(entry.key, None)
        if entry.folder is not None:
            entry.folder.is_gone = True
            if self.notifier is not None:
                self.notifier.unwatch(entry.folder)
        self._teller.look(
            LookOp.GONE,
            max(since_ns, entry.looked_ns),
            parent=folder.base,
            name=name,
            parent_mtime_ns=0 if folder.is_gone else self._mtime_of(folder),
        )

    # --- telling ---

    def _file(self, sight: _Sight, entry: Entry, *, is_news: bool, is_new: bool = False, **place: Any) -> None:
        """Tell of a regular file, reading it unless its status says that its bytes are as they were."""
        status = sight.status
        is_empty = not status.st_size and entry.blocks == b""
        if not is_new and (is_empty or entry.is_untouched(status)):
            if is_news:
                self._found(sight, entry, Read.AS_KNOWN, **place)
            return
        self._read(sight, entry, is_news=is_news, is_new=is_new, place=place)

    def _read(self, sight: _Sight, entry: Entry, *, is_news: bool, is_new: bool, place: dict[str, Any]) -> None:
        folder, name, status, since_ns = sight
        begun_ns = time.monotonic_ns()
        since_ns = max(since_ns, entry.looked_ns)
        try:
            with Reading(os.path.join(folder.path, name), None if is_new else entry.blocks) as reading:
                if (reading.status.st_dev, reading.status.st_ino) != (status.st_dev, status.st_ino):
                    raise FileNotFoundError("another file has its name by now")
                sight = sight._replace(status=reading.status)
                inode = folder.root.inode(reading.status)
                for offset, data in reading.pieces():
                    fields: dict[str, Any] = {"inode": inode, "parent": folder.base, "read": reading.read}
                    self._teller.look(LookOp.BYTES, since_ns, offset=offset, data=data, **fields)
                is_torn = reading.was_disturbed()
                entry.blocks = reading.digests
                if is_torn:  # what was read is told with the size that it had
                    place["size"] = reading.size
                if is_news or is_torn or reading.read != Read.AS_KNOWN:
                    self._found(sight, entry, reading.read, **place)
                else:
                    self._told(entry, reading.status)
        except OSError as error:
            if error.errno in NOT_THERE or isinstance(error, FileNotFoundError):
                self._went(sight, entry)
                return
            entry.blocks = None
            self._found(sight, entry, Read.UNREADABLE, **place)
            is_torn = False
        entry.cost_ns = time.monotonic_ns() - begun_ns
        if is_torn:
            self.again.setdefault((folder, name), (entry.looked_ns + _SHORTEST_REST_NS, begun_ns))

    def _went(self, sight: _Sight, entry: Entry) -> None:
        """Forget a file that went before it could be read; whatever became of it is told by the next look."""
        folder, name, _, since_ns = sight
        if entry.blocks is None and folder.children.get(name) is entry:
            self._forget(folder, name, entry, since_ns)
        self.again.setdefault((folder, name), (time.monotonic_ns(), since_ns))

    def _found(self, sight: _Sight, entry: Entry, read: Read, size: int = -1, **fields: Any) -> None:
        folder, name, status, since_ns = sight
        since_ns = max(since_ns, entry.looked_ns)
        self._told(entry, status)
        inode = folder.root.inode(status)
        self._teller.look(
            LookOp.FOUND,
            since_ns,
            inode=inode if size < 0 else replace(inode, size=size),
            parent=folder.base,
            name=name,
            parent_mtime_ns=self._mtime_of(folder),
            read=read,
            xattrs=xattrs_of(os.path.join(folder.path, name)),
            **fields,
        )

    def _told(self, entry: Entry, status: os.stat_result) -> None:
        entry.status = packed(status)
        entry.looked_ns = time.monotonic_ns()
        entry.is_fresh = is_fresh(status)

    def _mtime_of(self, folder: Folder) -> int:
        """Return a directory's mtime, once for a batch, and take it for told."""
        mtime_ns = self._mtimes.get(folder)
        if mtime_ns is None:
            mtime_ns = 0
            with contextlib.suppress(OSError):
                mtime_ns = os.lstat(folder.path).st_mtime_ns
            self._mtimes[folder] = mtime_ns
        return mtime_ns


def _is_gone(folder: Folder) -> bool:
    return folder.is_gone
