"""What an engine saw, before it is known what it means: the values that replay resolves into events.

All times are nanoseconds of CLOCK_MONOTONIC. ``t_ns`` is the decisive instant (``FLAG_IN_LOCK``: taken while the file
system held the inode's lock); ``enter_ns <= t_ns <= exit_ns`` is the interval of the call. ``enter_ns`` is 0 where the
entry was not observed. All paths and names are bytes as the process gave them.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from diffkeeper.model.values import dataclass


class Flag(IntFlag):
    """Say how much an observation may be relied upon, and by whom it was made."""

    OUTSIDER = 1  # the writer is not of the recorded command's tree
    IN_LOCK = 2  # t_ns (and for data: inode, offset) come from inside the file system's lock
    AMBIGUOUS = 4  # the file looked up at entry and at exit differed
    BY_REFERENCE = 8  # payload left out: a LateData observation follows
    FAULT = 16  # part of the payload could not be read
    APPEND = 32  # the open file had O_APPEND
    DIRECT = 64  # the open file had O_DIRECT
    UNCERTAIN = 1024  # the inode may stand outside of the roots: ignore it when it is not known
    MAPPED = 8192  # the bytes were found in a shared writable mapping
    FROM_DESCRIPTOR = 2048  # the offset is what the descriptor, or the file's size, said at exit
    HOLE = 16384  # no recorded call explains it; of a re-reading: the inode changed while it was read
    ASYNC = 32768  # made by a request of io_uring or AIO: pid and tid are its submitter's
    CROSSED = 65536  # found in replay: the file was cut, or the like, before that write or after it
    UNTOUCHED = 128  # the kernel offers no hook for touched inodes: resolve by strings


@dataclass(frozen=True, slots=True)
class Inode:
    """Hold identity and metadata of an inode as read at one instant (sizes in bytes, mtime in ns since the epoch)."""

    dev: int  # the kernel's s_dev: major << 20 | minor
    ino: int
    generation: int
    mode: int  # type and permission bits, as st_mode
    nlink: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    rdev: int = 0  # as dev, for device nodes

    @property
    def identity(self) -> tuple[int, int, int]:
        """Return (dev, ino, generation)."""
        return self.dev, self.ino, self.generation


@dataclass(frozen=True, slots=True)
class Observation:
    """Hold what every observation has."""

    sequence: int  # unique within the recording; breaks ties of t_ns
    t_ns: int
    enter_ns: int
    exit_ns: int
    pid: int
    tid: int
    flags: Flag
    result: int  # what the call returned (never negative: failed calls are not observed)


class DataOp(IntEnum):
    """Name the call by which bytes reached a file."""

    WRITE = 1
    SENDFILE = 2
    SPLICE = 3
    COPY_RANGE = 4  # copy_file_range
    CLONE = 5  # FICLONE, FICLONERANGE


@dataclass(frozen=True, slots=True)
class DataWritten(Observation):
    """Report ``length`` bytes written at ``offset``.

    ``payload`` holds (offset relative to ``offset``, bytes) pieces, ascending, not overlapping; what they do not cover
    is unknown unless a LateData observation supplies it. For COPY_RANGE and CLONE between regular files ``source`` and
    ``source_offset`` say where the bytes came from.
    """

    op: DataOp
    inode: Inode
    offset: int
    length: int
    payload: tuple[tuple[int, bytes], ...]
    source: Inode | None = None
    source_offset: int = 0
    slack: int = 0  # the place is known up to this: the bytes may stand so much before ``offset``


class SizeOp(IntEnum):
    """Name the call that changed a size or an extent without bytes."""

    TRUNCATE = 1  # truncate, ftruncate: length is the new size
    FALLOCATE = 2  # mode holds the FALLOC_FL_* bits, offset and length the range


@dataclass(frozen=True, slots=True)
class SizeChanged(Observation):
    """Report a truncate or fallocate; ``touched`` holds the inode when the call named a path."""

    op: SizeOp
    inode: Inode
    mode: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Base:
    """Hold the identity of the directory that a path string starts from (cwd, dirfd, or the task's root for "/...")."""

    dev: int
    ino: int
    generation: int


class NameOp(IntEnum):
    """Name the call that changed a name."""

    MKDIR = 1
    MKNOD = 2
    SYMLINK = 3
    LINK = 4
    UNLINK = 5
    RMDIR = 6
    RENAME = 7


@dataclass(frozen=True, slots=True)
class NameChanged(Observation):
    """Report a change of names.

    ``path`` is the name that the call is about: for RENAME and LINK the old one, for SYMLINK the new link; ``path2`` is
    the new name of RENAME and LINK, and the target text of SYMLINK. ``touched`` are the inodes whose ctime the task
    changed during the call, as read at exit, in order of first touch: parents, the entry, what it replaced. Empty with
    ``Flag.UNTOUCHED``. An inode that was freed before the call returned has nlink 0 and only its identity is valid.
    ``call_flags`` are renameat2's or linkat's flags; ``outside`` has bit i set where touched inode i of an import is a
    directory outside of the roots.
    """

    op: NameOp
    base: Base
    path: bytes
    base2: Base
    path2: bytes
    call_flags: int
    touched: tuple[Inode, ...]
    outside: int = 0


@dataclass(frozen=True, slots=True)
class Opened(Observation):
    """Report an open that created or truncated a file.

    ``parent`` and ``name`` are the open file's own dentry's, read at exit: another process may have renamed the file by
    then. ``path``, which starts at ``base``, is what the caller asked for.
    """

    inode: Inode
    parent: Inode
    name: bytes
    created: bool
    truncated: bool
    open_flags: int
    touched: tuple[Inode, ...]
    base: Base = Base(0, 0, 0)
    path: bytes = b""


class AttributeOp(IntEnum):
    """Name the call that changed metadata."""

    CHMOD = 1
    CHOWN = 2
    UTIME = 3
    SETXATTR = 4
    REMOVEXATTR = 5
    SETFLAGS = 6  # FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR, file_setattr: no part of the restored tree


@dataclass(frozen=True, slots=True)
class AttributeChanged(Observation):
    """Report changed metadata of ``inode``; xattr fields are empty for the other kinds.

    For SETFLAGS ``xattr_value`` is ``dk_inode_flags`` of native/events.h: what was asked for.
    """

    op: AttributeOp
    inode: Inode
    xattr_name: bytes = b""
    xattr_value: bytes = b""
    value_is_known: bool = True


@dataclass(frozen=True, slots=True)
class Closed(Observation):
    """Report the close of a descriptor that was open for writing."""

    inode: Inode


@dataclass(frozen=True, slots=True)
class OutputWritten(Observation):
    """Report bytes that reached what was the command's stdout (1) or stderr (2) at its start."""

    stream: int
    length: int
    payload: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class ProcessSeen(Observation):
    """Report a process that was forked or that was first seen writing under a root (then ``is_fork`` is false)."""

    parent_pid: int
    comm: bytes
    is_fork: bool


@dataclass(frozen=True, slots=True)
class ProcessExecuted(Observation):
    """Report an exec; argv may be cut at 4,096 bytes, then ``argv_is_cut``."""

    comm: bytes
    exe: bytes
    cwd: bytes
    argv: tuple[bytes, ...]
    argv_is_cut: bool


@dataclass(frozen=True, slots=True)
class ProcessExited(Observation):
    """Report the exit of a process; ``status`` is a wait status (exit code << 8 | signal)."""

    status: int


@dataclass(frozen=True, slots=True)
class DirectorySeen(Observation):
    """Report where a directory stood when it was first a parent: (ino, generation, name) from it up to below the root.

    ``root`` is the identity of the watch root at which the walk ended.
    """

    dev: int
    chain: tuple[tuple[int, int, bytes], ...]
    root: Base


@dataclass(frozen=True, slots=True)
class MountChanged(Observation):
    """Report that another tree is seen at a directory from now on, or no more.

    ``point`` is the directory that is hidden and ``shown`` the one that is seen there, None where the kernel did not
    tell; then ``path``, which starts at ``base``, says where. ``is_recorded``: what is seen lies below a root as well.
    ``is_elsewhere``: it is seen in another mount namespace than the recorder's.
    """

    is_mounted: bool
    point: Inode | None
    shown: Inode | None
    kind: bytes  # of file system
    is_recorded: bool
    is_elsewhere: bool
    base: Base
    path: bytes


@dataclass(frozen=True, slots=True)
class LateData(Observation):
    """Supply bytes of observation ``of`` that were read back from the file during [read_from_ns, read_to_ns]."""

    of: int  # sequence of the DataWritten, or of the NameChanged that brought a file in
    inode: Inode
    offset: int
    data: bytes
    read_from_ns: int
    read_to_ns: int
    failed: bool  # the file could not be opened or read any more


@dataclass(frozen=True, slots=True)
class EntryRead(Observation):
    """Report one entry of a subtree that came in from outside, as read during [read_from_ns, read_to_ns].

    ``parent`` is the directory that holds it; its content follows as LateData of the same ``of``.
    """

    of: int
    parent: Base
    name: bytes
    inode: Inode
    target: bytes  # of a symlink
    read_from_ns: int
    read_to_ns: int


@dataclass(frozen=True, slots=True)
class Held(Observation):
    """Report that the recorded processes were held from ``enter_ns`` to ``t_ns``: more came than could be taken."""


@dataclass(frozen=True, slots=True)
class RequestSeen(Observation):
    """Announce a request that may write to a file, from ``t_ns`` until the one comes that says it is ``over``.

    ``of`` is the sequence of the write's own record; with ``length`` 0 it is not known where it may write.
    """

    inode: Inode
    offset: int
    length: int
    of: int
    is_over: bool


class Lost(IntEnum):
    """Name what a lost observation would have told. Numbers as in the wire format's types."""

    UNKNOWN = 0
    BYTES = 1
    SIZE = 4
    NAME = 5
    OPEN = 6
    METADATA = 7
    CLOSE = 8
    OUTPUT = 9
    PROCESS = 10
    HOLE = 18  # of any file on the device of a root


@dataclass(frozen=True, slots=True)
class MappingChanged(Observation):
    """Report that a file is mapped shared and writable from now on, or by nobody any more.

    Meanwhile its bytes change without a call: they come as DataWritten with ``Flag.MAPPED``, whose ``t_ns`` is the
    instant before they were read, ``enter_ns`` that of the look before, ``exit_ns`` the one after the reading.
    """

    inode: Inode
    is_mapped: bool


@dataclass(frozen=True, slots=True)
class Sampled(Observation):
    """Report at the end how files that were mapped were looked at (times in ns)."""

    interval_ns: int
    files: int
    rounds: int
    late_rounds: int  # that came later than the interval says
    longest_ns: int  # between two rounds
    missed: int  # files that could not be opened
    pages: int
    spent_ns: int


class LookOp(IntEnum):
    """Say what a look at the files told."""

    BYTES = 1  # part of a file's bytes; FOUND of the same inode follows at once
    FOUND = 2  # the entry is there
    GONE = 3  # it is not
    ROUND = 4  # all was looked at that is below the roots
    FAILED = 5  # it could not be looked at


class Read(IntEnum):
    """Say what a look told of the bytes of a regular file."""

    AS_KNOWN = 0  # nothing is new
    EXTENTS = 1  # those that came replace what was there, the rest is as it was
    WHOLE = 2  # those that came are all; where none came there are zeros
    UNREADABLE = 3


@dataclass(frozen=True, slots=True)
class Looked(Observation):
    """Report what a look at an entry told: what it was at ``t_ns``, and not who or what made it so.

    Whatever is new of it came to be after ``enter_ns``. ``name`` is empty for a root. ``parent2`` and ``name2`` are
    where the entry was found before; mtimes are those of the two directories, 0 where they were not looked at.
    """

    op: LookOp
    inode: Inode
    parent: Base
    name: bytes
    parent_mtime_ns: int = 0
    parent2: Base = Base(0, 0, 0)
    name2: bytes = b""
    parent2_mtime_ns: int = 0
    read: Read = Read.AS_KNOWN
    offset: int = 0
    data: bytes = b""  # of BYTES; of FOUND the target of a symlink
    xattrs: tuple[tuple[bytes, bytes], ...] | None = None  # None: not looked at


@dataclass(frozen=True, slots=True)
class HoleFound(Observation):
    """Report ``count`` changes, from ``enter_ns`` to ``exit_ns``, that no recorded call explains.

    ``inode`` is as it was a moment later. With ``length`` 0 only its ctime moved: anything of it may have changed.
    ``parent`` and ``name`` are a name it had then; ``parent.ino`` is 0 where none was at hand.
    """

    inode: Inode
    parent: Base
    name: bytes
    offset: int
    length: int
    count: int


@dataclass(frozen=True, slots=True)
class HoleReread(Observation):
    """Report that what a hole left in doubt was read during [enter_ns, exit_ns]; the readings bear its sequence.

    Of a file, [offset, offset + length); of a directory all entries. ``result`` is negative where it could not be read.
    ``Flag.HOLE`` says that the inode changed meanwhile. ``xattr_names`` is None where they were not looked at.
    ``is_settling``: no hole, but recorded changes whose outcome their records do not tell.
    """

    inode: Inode
    parent: Base
    name: bytes
    offset: int
    length: int
    xattr_names: frozenset[bytes] | None
    is_settling: bool = False


@dataclass(frozen=True, slots=True)
class EventsLost(Observation):
    """Report a loss: how many observations of a channel are missing between ``from_ns`` and ``exit_ns``.

    Where it is known, ``file`` says of which file, and ``what`` what they would have been; of bytes also which.
    """

    channel: str  # ring, probe, table, recursion, queue, decode
    count: int
    from_ns: int
    what: Lost = Lost.UNKNOWN
    file: Base | None = None
    offset: int = 0
    length: int = 0
