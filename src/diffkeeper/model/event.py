"""One decoded change: the value that replay folds, the store keeps and every command shows."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from diffkeeper.model.values import dataclass


class Kind(IntEnum):
    """Name what an event was, in POSIX's words. The numbers are part of the trace format: never reuse one."""

    CREATE = 1  # a regular file came to be (open, mknod)
    WRITE = 2
    TRUNCATE = 3
    RENAME = 4
    LINK = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    SYMLINK = 9
    MKNOD = 10  # device node, fifo, socket
    CHMOD = 11
    CHOWN = 12
    UTIME = 13
    SETXATTR = 14
    REMOVEXATTR = 15
    FALLOCATE = 16
    COPY = 17  # copy_file_range, FICLONE from a file in the tree
    CLOSE = 18
    OUTPUT = 19  # bytes on the command's stdout or stderr
    FORK = 20
    EXEC = 21
    EXIT = 22
    IMPORT = 23  # came in from outside by rename or link
    GAP = 24  # something was lost
    RESYNC = 25  # state read back from the file system
    EXCHANGE = 26  # renameat2 RENAME_EXCHANGE
    EXPORT = 27  # left the tree by rename to outside
    SETFLAGS = 28  # chattr: flags of the inode, or its project number; no part of the tree
    HELD = 29  # the recorded processes were held, from enter_ns on, as more came than could be taken
    MOUNT = 30  # another tree is seen at a directory, or no more; no part of the tree
    LIMIT = 31  # the trace had the size that it may have: what came before, or after, is not in it
    CHANGED = 32  # found by a look: nobody saw what made it so, nor when between enter_ns and t_ns
    PENDING = 33  # requests of io_uring or AIO may be writing to a file from here on; or none is any more


# Event.detail of a RESYNC: 0, metadata or a name was corrected; or a name is gone; the bytes are replaced; an extended
# attribute is set, or removed (``text`` is its name); bytes that were in doubt are right; the bytes of an extent are
# replaced, others stay (without data: only the metadata was read again). Numbers of the trace format.
RESYNC_REMOVED, RESYNC_CONTENT, RESYNC_XATTR, RESYNC_NO_XATTR, RESYNC_CONFIRMED, RESYNC_EXTENT = range(1, 7)

# Event.detail of a MKNOD: it took no access control list from its directory, as others do (a whiteout on XFS).
INHERITS_NOTHING = 1

# Event.detail of a CHANGED: one of those but for RESYNC_CONFIRMED, or: it was not there at the look before; it was
# there under another name.
LOOK_APPEARED, LOOK_MOVED = 7, 8

# Event.detail of a PENDING: none is under way any more.
PENDING_ENDS = 1

# Event.detail of a MOUNT (``text`` is the kind of file system): what is seen there is not recorded, or it is, under its
# own path below a root; or nothing is mounted there any more; or another mount namespace alone sees it.
MOUNT_HIDES, MOUNT_SHOWS, MOUNT_ENDS, MOUNT_ELSEWHERE = 1, 2, 3, 4

# Event.detail of a LIMIT (``size`` is what the trace may have): all events up to this one, which has the number of the
# last of them, were dropped; or nothing was recorded any more; or the command was ended for that as well.
LIMIT_DROPPED, LIMIT_STOPPED, LIMIT_FAILED = 1, 2, 3

FILE_KINDS = frozenset(Kind) - {Kind.OUTPUT, Kind.FORK, Kind.EXEC, Kind.EXIT, Kind.HELD, Kind.LIMIT}


class Mark(IntFlag):
    """Say what a reader must know about an event. The bits are part of the trace format."""

    OUTSIDER = 1
    AMBIGUOUS = 2  # which file, or which offset, was settled against the file or not at all
    INEXACT = 4  # bytes were read later and may hold another writer's
    UNKNOWN_DATA = 8  # part of the bytes is not known
    UNRESOLVED = 16  # the name could not be placed in the tree
    LATE = 32  # reached the recorder after later events had been numbered
    MAPPED = 64  # stored through a shared mapping, between enter_ns and exit_ns
    HOLE = 128  # no recorded call explains what changed; it was read again


@dataclass(frozen=True, slots=True)
class Meta:
    """Hold the metadata of a node after an event (mtime in ns since the epoch)."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    nlink: int = 1
    rdev: int = 0


@dataclass(frozen=True, slots=True)
class Data:
    """Say where bytes [offset, offset+length) of a write stand: in blob ``blob`` from ``start``; blob 0: unknown."""

    offset: int
    length: int
    blob: int
    start: int


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one change. Nodes are numbers of the trace, 0 for none; times are ns since the start of the recording.

    ``path`` and ``path2`` are for people and for filters (the name at that time, below the root); the tree is rebuilt
    from ``node``, ``parent``, ``name``, ``parent2`` and ``name2`` alone.
    """

    number: int  # 1, 2, …: what @N names
    t_ns: int
    kind: Kind
    pid: int
    tid: int
    process: int  # key of the process table
    marks: Mark = Mark(0)
    enter_ns: int = 0
    exit_ns: int = 0
    node: int = 0
    parent: int = 0
    name: bytes = b""
    parent2: int = 0  # RENAME, EXCHANGE, LINK, CHANGED: where the name went
    name2: bytes = b""
    replaced: int = 0  # RENAME: the node that lost its name to this one; EXCHANGE: the other node
    path: bytes = b""
    path2: bytes = b""
    meta: Meta | None = None  # of node, after the event
    parent_mtime_ns: int = 0  # 0: unchanged or unknown
    parent2_mtime_ns: int = 0
    offset: int = 0  # WRITE, COPY, FALLOCATE, RESYNC of an extent, GAP
    length: int = 0  # bytes written, copied, lost; FALLOCATE range; OUTPUT bytes
    size: int = 0  # size of the file after the event
    data: tuple[Data, ...] = ()
    source: int = 0  # COPY: node that the bytes came from
    source_offset: int = 0
    detail: int = 0  # SETFLAGS flags, FALLOCATE mode, EXIT wait status, OUTPUT stream, GAP count; RESYNC_* and the like
    text: bytes = b""  # SETFLAGS "flags" or "xflags", SYMLINK target, xattr name, EXEC exe, GAP channel, MOUNT type
    value: bytes = b""  # xattr value, EXEC argv joined by NUL
