"""Stand in for the kernel: do operations on a real folder and report of each the observations that eBPF would make.

Inodes are looked at before and after each call, so ``touched`` lists what the call really touched. Generations are
made up, a new one for each inode that a call created, since not every file system tells its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.node import Node
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    Closed,
    DataOp,
    DataWritten,
    DirectorySeen,
    EntryRead,
    Flag,
    Inode,
    LateData,
    NameChanged,
    NameOp,
    Observation,
    Opened,
    SizeChanged,
    SizeOp,
)
from diffkeeper.model.resolve import Resolver
from diffkeeper.model.tree import Tree

START_NS = 1_000_000
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
_MADE = (NameOp.MKDIR, NameOp.MKNOD, NameOp.SYMLINK)


class Blobs:
    """Keep blobs in memory."""

    def __init__(self) -> None:
        self.blobs: dict[int, bytearray] = {}
        self.ended: list[tuple[int, int, int, bool]] = []  # blob, node, base blob, executable
        self._current: dict[int, int] = {}

    def append(self, node: int, data: bytes) -> tuple[int, int]:
        """Append to the node's blob."""
        number = self._current.setdefault(node, len(self.blobs) + 1)
        blob = self.blobs.setdefault(number, bytearray())
        blob += data
        return number, len(blob) - len(data)

    def peek(self, blob: int, start: int, length: int) -> bytes | None:
        """Return bytes of a blob."""
        return bytes(self.blobs[blob][start : start + length])

    def end(self, node: int, base_blob: int, is_executable: bool) -> None:
        """End the node's blob."""
        if node in self._current:
            self.ended.append((self._current.pop(node), node, base_blob, is_executable))

    def read(self, content: ExtentMap) -> bytes | None:
        """Return the bytes of a file, None if some are not known."""
        data = bytearray(content.size)
        for piece in content.extents():
            if not piece.blob:
                return None
            blob = self.blobs[piece.blob]
            data[piece.offset : piece.offset + piece.length] = blob[piece.start : piece.start + piece.length]
        return bytes(data)


@dataclass
class State:
    """Hold what can be compared of one entry."""

    mode: int
    size: int = 0
    data: bytes | None = b""
    target: bytes = b""
    links: tuple[bytes, ...] = ()
    mtime_ns: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


def state_of_tree(tree: Tree, blobs: Blobs) -> dict[bytes, State]:
    """Return every entry of a tree by path."""
    states: dict[bytes, State] = {}
    names: dict[int, list[bytes]] = {}
    for path, node in tree.walk():
        names.setdefault(node.number, []).append(path)
        states[path] = _state_of_node(node, blobs)
    for paths in names.values():
        for path in paths:
            states[path].links = tuple(sorted(paths))
    return states


def _state_of_node(node: Node, blobs: Blobs) -> State:
    state = State(node.meta.mode, target=node.target, mtime_ns=node.meta.mtime_ns, xattrs=dict(node.xattrs))
    if node.content is not None:
        state.size, state.data = node.content.size, blobs.read(node.content)
    return state


def state_of_folder(root: bytes) -> dict[bytes, State]:
    """Return every entry of a real folder by path."""
    states: dict[bytes, State] = {}
    inodes: dict[int, list[bytes]] = {}
    for path, full in walk(root):
        status = os.lstat(full)
        state = State(status.st_mode, mtime_ns=status.st_mtime_ns)
        if stat.S_ISLNK(status.st_mode):
            state.target = os.readlink(full)
        elif stat.S_ISREG(status.st_mode):
            state.size, state.data = status.st_size, Path(os.fsdecode(full)).read_bytes()
        if not stat.S_ISLNK(status.st_mode):
            state.xattrs = {os.fsencode(name): os.getxattr(full, name) for name in os.listxattr(full)}
        states[path] = state
        inodes.setdefault(status.st_ino, []).append(path)
    for paths in inodes.values():
        for path in paths:
            states[path].links = tuple(sorted(paths))
    return states


def walk(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (path below the root, full path) of a folder and every entry in it."""
    yield b"", root
    for folder, directories, files in os.walk(root):
        for name in directories + files:
            full = os.path.join(folder, name)
            yield os.path.relpath(full, root), full


class Witness:
    """Do operations in and around a watch root; ``events`` are those that the resolver made."""

    def __init__(self, root: bytes, limit: bytes, *, untouched: bool = False, start_ns: int = START_NS) -> None:
        self.root, self.limit, self.untouched = root, limit, untouched
        self.observations: list[Observation] = []
        self.blobs = Blobs()
        self._sequence = 0
        self._generations: dict[tuple[int, int], int] = {}
        self._created = 0
        self._seen: set[tuple[int, int, int]] = set()
        self._handles: list[int] = []
        self.tree = self._baseline()
        self.resolver = Resolver(self.tree, start_ns, self.blobs, {b"root": root})
        self.baseline = self.tree.copy()
        self.events = []  # type: ignore[var-annotated]

    def close(self) -> None:
        """Close what is still open."""
        for fd in self._handles:
            os.close(fd)

    # What is known of inodes

    def inode(self, path: bytes | int) -> Inode:
        """Return the inode at a path (not followed) or of a descriptor."""
        return self._inode_of(os.fstat(path) if isinstance(path, int) else os.lstat(path))

    def _inode_of(self, status: os.stat_result) -> Inode:
        key = os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino
        rdev = os.major(status.st_rdev) << 20 | os.minor(status.st_rdev)
        return Inode(
            *key,
            self._generations.get(key, 0),
            status.st_mode,
            status.st_nlink,
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            rdev,
        )

    def _base(self, path: bytes) -> Base:
        return Base(*self.inode(os.path.realpath(path)).identity)

    def _new_inode(self, path: bytes | int) -> Inode:
        inode = self.inode(path)
        self._created += 1
        self._generations[inode.dev, inode.ino] = self._created
        return self.inode(path)

    def _baseline(self) -> Tree:
        tree = Tree()
        numbers: dict[bytes, int] = {}
        for path, full in walk(self.root):
            inode = self.inode(full)
            meta = Meta(inode.mode, inode.uid, inode.gid, inode.mtime_ns, inode.nlink, inode.rdev)
            if not path:
                numbers[path] = tree.add_root(b"root", inode.identity, meta).number
                continue
            content = target = None
            if stat.S_ISREG(inode.mode):
                blob, start = self.blobs.append(-inode.ino, Path(os.fsdecode(full)).read_bytes())
                content = ExtentMap(inode.size, [(0, inode.size, blob, start)])
            elif stat.S_ISLNK(inode.mode):
                target = os.readlink(full)
            folder, name = os.path.split(path)
            node = tree.add(numbers[folder], name, inode.identity, meta, content=content, target=target or b"")
            numbers[path] = node.number
        return tree

    # How observations are made

    def _feed(
        self, make: Callable[..., Observation], late: tuple[LateData | EntryRead, ...] = (), **fields: object
    ) -> None:
        self._sequence += 1
        t_ns = START_NS + self._sequence * 1000
        flags = Flag.UNTOUCHED if self.untouched else Flag(0)
        seen = make(self._sequence, t_ns, t_ns - 10, t_ns + 10, 7, 7, flags, 0, **fields)
        self.observations.append(seen)
        self.events += self.resolver.feed(seen, late)

    def _next(self) -> int:
        return self._sequence + 1

    def _is_inside(self, path: bytes) -> bool:
        real = os.path.realpath(path)
        return real == self.root or real.startswith(self.root + b"/")

    def is_allowed(self, path: bytes) -> bool:
        """Say whether a name is where operations may be done."""
        real = os.path.realpath(os.path.dirname(path))
        return (real + b"/").startswith(self.limit + b"/") and not (self.root + b"/").startswith(
            os.path.realpath(path) + b"/"
        )

    def _introduce(self, directory: bytes) -> None:
        """Report a directory when it is first a parent."""
        real = os.path.realpath(directory)
        inode = self.inode(real)
        if inode.identity in self._seen or not self._is_inside(real):
            return
        self._seen.add(inode.identity)
        chain = []
        while real != self.root:
            one = self.inode(real)
            chain.append((one.ino, one.generation, os.path.basename(real)))
            real = os.path.dirname(real)
        self._feed(DirectorySeen, dev=inode.dev, chain=tuple(chain), root=self._base(self.root))

    # Operations: each raises OSError as its call does, and then reports nothing

    def name(
        self, op: NameOp, base: bytes, path: bytes, path2: bytes = b"", flags: int = 0, follow: bool = False
    ) -> None:
        """Change names; ``base`` is the directory that relative paths start from."""
        full, full2 = os.path.join(base, path), os.path.join(base, path2)
        parents = [os.path.dirname(full.rstrip(b"/"))]
        if op in (NameOp.LINK, NameOp.RENAME):
            parents = [os.path.dirname(full.rstrip(b"/")), os.path.dirname(full2.rstrip(b"/"))]
        if op == NameOp.LINK:
            del parents[0]
        parents = [os.path.realpath(parent) for parent in parents]
        before = [self._try(full)] if op not in _MADE else []
        if op == NameOp.LINK and follow:
            before = [self._inode_of(os.stat(full))]
        replaced = self._try(full2) if op == NameOp.RENAME else None
        if self.untouched and replaced is not None and before[0] is not None:
            is_one, goes_out = before[0].identity == replaced.identity, self._is_inside(parents[0])
            if is_one and goes_out and not self._is_inside(parents[1]):
                raise ValueError("strings cannot tell that nothing will happen")
        bases = [self._base(b"/" if one.startswith(b"/") else base) for one in (path, path2)]
        if op == NameOp.LINK and parents[0] and self.untouched:
            self._introduce(parents[0])
        old, new = (os.path.join(parents[at], os.path.basename(p.rstrip(b"/"))) for at, p in ((0, full), (-1, full2)))
        self._call(op, full, full2, path2, flags, follow)
        if op in _MADE:
            before = [self._new_inode(full.rstrip(b"/"))]
        if flags & 4:
            before.append(self._new_inode(full.rstrip(b"/")))
        has_effect = not (op == NameOp.RENAME and replaced is not None and before[0].identity == replaced.identity)
        touched = self._touched(parents, before, replaced) if has_effect else ()
        several = any(one is not None and one.nlink > 1 and not stat.S_ISDIR(one.mode) for one in [*before, replaced])
        if not several and not any(self._is_inside(parent) for parent in parents):
            return
        for parent in parents if self.untouched else ():
            self._introduce(parent)
        late = self._subtree(new, self._next()) if self._comes_in(op, parents, before[0], has_effect) else ()
        if flags & 2 and self._comes_in(op, parents[::-1], before[0], has_effect):
            late = self._subtree(old, self._next())
        self._feed(
            NameChanged,
            late,
            op=op,
            base=bases[0],
            path=path,
            base2=bases[1],
            path2=path2,
            call_flags=flags | (0x400 if follow else 0),
            touched=() if self.untouched else touched,
        )

    def _comes_in(self, op: NameOp, parents: list[bytes], inode: Inode | None, has_effect: bool) -> bool:
        if not (has_effect or self.untouched) or not self._is_inside(parents[-1]) or inode is None:
            return False
        return (op == NameOp.RENAME and not self._is_inside(parents[0])) or op == NameOp.LINK

    def _try(self, path: bytes) -> Inode | None:
        try:
            return self.inode(path.rstrip(b"/"))
        except OSError:
            return None

    def _touched(self, parents: list[bytes], entries: list[Inode | None], replaced: Inode | None) -> tuple[Inode, ...]:
        found: dict[tuple[int, int, int], Inode] = {}
        for path in parents:
            found[self.inode(path).identity] = self.inode(path)
        for entry in [*entries, replaced]:
            if entry is not None:
                found[entry.identity] = self._now(entry)
        return tuple(found.values())

    def _now(self, inode: Inode) -> Inode:
        """Look at an inode again, wherever it is; one that is gone has nlink 0."""
        for folder, directories, files in os.walk(self.limit):
            for name in directories + files:
                with contextlib.suppress(OSError):
                    now = self.inode(os.path.join(folder, name))
                    if now.identity == inode.identity:
                        return now
        for fd in self._handles:
            if self.inode(fd).identity == inode.identity:
                return self.inode(fd)
        return Inode(*inode.identity, 0, 0, 0, 0, 0, 0)

    def _call(self, op: NameOp, full: bytes, full2: bytes, path2: bytes, flags: int, follow: bool) -> None:
        if op == NameOp.MKDIR:
            os.mkdir(full)
        elif op == NameOp.MKNOD:
            os.mkfifo(full)
        elif op == NameOp.SYMLINK:
            os.symlink(path2, full)
        elif op == NameOp.LINK:
            os.link(full, full2, follow_symlinks=follow)
        elif op == NameOp.UNLINK:
            os.unlink(full)
        elif op == NameOp.RMDIR:
            os.rmdir(full)
        elif _libc.renameat2(AT_FDCWD, full, AT_FDCWD, full2, flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    def _subtree(self, top: bytes, of: int) -> tuple[LateData | EntryRead, ...]:
        readings: list[LateData | EntryRead] = []
        top = top.rstrip(b"/")
        below = [full for name, full in walk(top) if name] if not os.path.islink(top) else []
        for path in [top, *below] if os.path.lexists(top) else []:
            inode = self.inode(path)
            sequence = 1_000_000 + of * 1000 + len(readings)
            head = (sequence, 0, 0, 0, 0, 0, Flag(0), 0, of)
            target = os.readlink(path) if stat.S_ISLNK(inode.mode) else b""
            parent = self._base(os.path.dirname(path))
            readings.append(EntryRead(*head, parent, os.path.basename(path), inode, target, 0, 0))
            if stat.S_ISREG(inode.mode):
                data = Path(os.fsdecode(path)).read_bytes()
                readings.append(LateData(*head, inode, 0, data, 0, 0, False))
        return tuple(readings)

    def open(self, path: bytes, flags: int) -> int:
        """Open a file for reading and writing and keep it open; return a descriptor."""
        is_new = not os.path.exists(path)
        parent = os.path.dirname(os.path.realpath(path))
        fd = os.open(path, flags | os.O_RDWR | os.O_NONBLOCK, 0o640)
        self._handles.append(fd)
        is_nameless = flags & os.O_TMPFILE == os.O_TMPFILE
        created = bool(flags & os.O_CREAT and is_new) or is_nameless
        inode = self._new_inode(fd) if created else self.inode(fd)
        truncated = bool(flags & os.O_TRUNC) and not created and stat.S_ISREG(inode.mode)
        folder = os.path.realpath(path) if is_nameless else parent
        if not self._is_inside(folder) and (inode.nlink < 2 or not truncated):
            return fd
        if created or truncated:
            if self.untouched:
                self._introduce(folder)
            name = b"#1" if is_nameless else os.path.basename(os.path.realpath(path))
            touched = () if self.untouched else (self.inode(folder), inode)
            fields = {"created": created, "truncated": truncated, "open_flags": flags, "touched": touched}
            self._feed(Opened, inode=inode, parent=self.inode(folder), name=name, **fields)
        return fd

    def is_watched(self, fd: int) -> bool:
        """Say whether the kernel's filter lets an open file pass."""
        path, status = os.readlink(f"/proc/self/fd/{fd}".encode()), os.fstat(fd)
        if self._is_inside(os.path.dirname(path)) or status.st_nlink > 1:
            return True
        return any(os.path.samestat(os.lstat(full), status) for _, full in walk(self.root))

    def write(self, fd: int, offset: int, data: bytes) -> None:
        """Write bytes."""
        os.pwrite(fd, data, offset)
        if self.is_watched(fd):
            fields = {"offset": offset, "length": len(data), "payload": ((0, data),)}
            self._feed(DataWritten, op=DataOp.WRITE, inode=self.inode(fd), **fields)

    def copy(self, source: int, offset: int, fd: int, offset2: int, length: int) -> None:
        """Copy bytes between open files in the kernel."""
        count = os.copy_file_range(source, fd, length, offset, offset2)
        if count and self.is_watched(fd):
            known = self.resolver.tree.by_identity(*self.inode(source).identity) is not None
            payload = () if known else ((0, os.pread(fd, count, offset2)),)
            fields = {"offset": offset2, "length": count, "payload": payload, "source_offset": offset}
            source_inode = self.inode(source)
            self._feed(DataWritten, op=DataOp.COPY_RANGE, inode=self.inode(fd), source=source_inode, **fields)

    def truncate(self, fd: int, size: int) -> None:
        """Change a size."""
        os.ftruncate(fd, size)
        if self.is_watched(fd):
            self._feed(SizeChanged, op=SizeOp.TRUNCATE, inode=self.inode(fd), mode=0, offset=0, length=size)

    def fallocate(self, fd: int, mode: int, offset: int, length: int) -> None:
        """Allocate, punch, zero, collapse or insert a range."""
        if _libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)):
            raise OSError(ctypes.get_errno(), "fallocate")
        if self.is_watched(fd):
            fields = {"mode": mode, "offset": offset, "length": length}
            self._feed(SizeChanged, op=SizeOp.FALLOCATE, inode=self.inode(fd), **fields)

    def attribute(self, op: AttributeOp, path: bytes, value: int) -> None:
        """Change metadata of what a path leads to."""
        name, text = b"user.k%d" % (value % 2), b"v%d" % value
        if op == AttributeOp.CHMOD:
            os.chmod(path, 0o700 | value % 64)
        elif op == AttributeOp.UTIME:
            os.utime(path, ns=(value, value * 1_000_000_007))
        elif op == AttributeOp.SETXATTR:
            os.setxattr(path, name, text)
        else:
            os.removexattr(path, name)
            text = b""
        real = os.path.realpath(path)
        if self._is_inside(real) or os.stat(real).st_nlink > 1:
            has_name = op in (AttributeOp.SETXATTR, AttributeOp.REMOVEXATTR)
            fields = {"xattr_name": name, "xattr_value": text} if has_name else {}
            self._feed(AttributeChanged, op=op, inode=self.inode(real), **fields)

    def forget(self, fd: int) -> None:
        """Close a file."""
        inode, is_watched = self.inode(fd), self.is_watched(fd)
        os.close(fd)
        self._handles.remove(fd)
        if is_watched:
            self._feed(Closed, inode=inode)
