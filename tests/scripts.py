"""Made-up recordings: a pretended file system whose operations become observations, and traces made of them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diffkeeper.baseline_format import BaselineEntry, ContentState, encode_content, encode_entry
from diffkeeper.engines.encoder import encode
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    Closed,
    DataOp,
    DataWritten,
    Flag,
    Inode,
    NameChanged,
    NameOp,
    Observation,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
    SizeChanged,
    SizeOp,
)
from diffkeeper.store import deltas
from diffkeeper.store.format import RootFacts, SessionFacts, write_session
from diffkeeper.store.journal import BatchKind, JournalWriter

DEV = 8 << 20 | 1
START_NS = 10_000_000_000
TRACE_ID = 0x1234
COMMAND = 100
SECOND = 1_000_000_000
BATCH_BYTES = 64 << 10


@dataclass
class File:
    """Hold a pretended inode."""

    ino: int
    mode: int
    nlink: int = 1
    data: bytearray = field(default_factory=bytearray)
    mtime_ns: int = 1_700_000_000_000_000_000

    def inode(self) -> Inode:
        size = len(self.data) if stat.S_ISREG(self.mode) else 4096
        return Inode(DEV, self.ino, 1, self.mode, self.nlink, 1000, 1000, size, self.mtime_ns)


class Script:
    """Do operations below a pretended root; ``observations`` are what an engine would have seen of them."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.t_ns = START_NS + 1_000_000
        self.pid = COMMAND
        self.flags = Flag(0)
        self._next_ino = 2
        self.root = self._new(stat.S_IFDIR | 0o755)
        self.files: dict[str, File] = {"": self.root}

    def _new(self, mode: int) -> File:
        self._next_ino += 1
        return File(self._next_ino, mode)

    def _common(self) -> tuple[int, int, int, int, int, int, Flag, int]:
        self.t_ns += 1_000
        sequence = len(self.observations) + 1
        return sequence, self.t_ns, self.t_ns - 400, self.t_ns + 400, self.pid, self.pid, self.flags, 0

    def at(self, seconds: float) -> Script:
        """Go to an instant since the start."""
        self.t_ns = START_NS + round(seconds * SECOND)
        return self

    def by(self, pid: int, *, outsider: bool = False) -> Script:
        """Go on as another process."""
        self.pid, self.flags = pid, Flag.OUTSIDER if outsider else Flag(0)
        return self

    def put(self, path: str, data: bytes = b"", mode: int = stat.S_IFREG | 0o644) -> None:
        """Let a file be there before the recording."""
        self.files[path] = self._new(mode)
        self.files[path].data += data

    def _parent(self, path: str) -> File:
        return self.files[path.rpartition("/")[0]]

    def _touch(self, *files: File) -> tuple[Inode, ...]:
        for file in files:
            file.mtime_ns = self.t_ns
        return tuple(file.inode() for file in files)

    def _base(self) -> Base:
        return Base(*self.root.inode().identity)

    def create(self, path: str) -> None:
        common, file, parent = self._common(), self._new(stat.S_IFREG | 0o644), self._parent(path)
        self.files[path] = file
        touched = self._touch(parent, file)
        name = os.fsencode(path.rpartition("/")[2])
        self.observations.append(Opened(*common, file.inode(), parent.inode(), name, True, False, 0o101, touched))

    def write(self, path: str, data: bytes, offset: int | None = None) -> None:
        common, file = self._common(), self.files[path]
        at = len(file.data) if offset is None else offset
        file.data.extend(b"\0" * (at - len(file.data)))
        file.data[at : at + len(data)] = data
        self._touch(file)
        self.observations.append(DataWritten(*common, DataOp.WRITE, file.inode(), at, len(data), ((0, data),)))

    def truncate(self, path: str, size: int) -> None:
        common, file = self._common(), self.files[path]
        del file.data[size:]
        file.data.extend(b"\0" * (size - len(file.data)))
        self._touch(file)
        self.observations.append(SizeChanged(*common, SizeOp.TRUNCATE, file.inode(), 0, 0, size))

    def close(self, path: str) -> None:
        self.observations.append(Closed(*self._common(), self.files[path].inode()))

    def save(self, path: str, data: bytes) -> None:
        """Create or empty a file, write it and close it."""
        if path in self.files:
            self.truncate(path, 0)
        else:
            self.create(path)
        self.write(path, data)
        self.close(path)

    def _name(self, op: NameOp, path: str, path2: str, touched: tuple[Inode, ...]) -> None:
        paths = (os.fsencode(path), os.fsencode(path2))
        base = self._base()
        self.observations.append(NameChanged(*self._common(), op, base, paths[0], base, paths[1], 0, touched))

    def mkdir(self, path: str) -> None:
        self.files[path] = self._new(stat.S_IFDIR | 0o755)
        self._name(NameOp.MKDIR, path, "", self._touch(self._parent(path), self.files[path]))

    def symlink(self, path: str, target: str) -> None:
        self.files[path] = self._new(stat.S_IFLNK | 0o777)
        self._name(NameOp.SYMLINK, path, target, self._touch(self._parent(path), self.files[path]))

    def link(self, path: str, path2: str) -> None:
        file = self.files[path2] = self.files[path]
        file.nlink += 1
        self._touch(self._parent(path2))
        self._name(NameOp.LINK, path, path2, (self._parent(path2).inode(), file.inode()))

    def unlink(self, path: str) -> None:
        file = self.files.pop(path)
        file.nlink -= 1
        self._touch(self._parent(path))
        self._name(NameOp.UNLINK, path, "", (self._parent(path).inode(), file.inode()))

    def rename(self, path: str, path2: str) -> None:
        file, replaced = self.files[path], self.files.get(path2)
        touched = [*self._touch(self._parent(path), self._parent(path2)), file.inode()]
        if replaced is not None:
            replaced.nlink -= 1
            touched.append(replaced.inode())
        for name in [name for name in self.files if name == path or name.startswith(path + "/")]:
            self.files[path2 + name[len(path) :]] = self.files.pop(name)
        self._name(NameOp.RENAME, path, path2, tuple(dict.fromkeys(touched)))

    def chmod(self, path: str, mode: int) -> None:
        file = self.files[path]
        file.mode = stat.S_IFMT(file.mode) | mode
        self.observations.append(AttributeChanged(*self._common(), AttributeOp.CHMOD, file.inode()))

    def output(self, data: bytes, stream: int = 1) -> None:
        self.observations.append(OutputWritten(*self._common(), stream, len(data), ((0, data),)))

    def starts(self, pid: int, comm: bytes, parent: int = 1) -> None:
        """Let a process be forked and executed, and go on as it."""
        self.pid = pid
        self.observations.append(ProcessSeen(*self._common(), parent, comm, True))
        self.observations.append(ProcessExecuted(*self._common(), comm, b"/bin/" + comm, b"/", (comm,), False))

    def exits(self, status: int = 0) -> None:
        self.observations.append(ProcessExited(*self._common(), status))


def batches(observations: Iterable[Observation], size: int = BATCH_BYTES) -> Iterator[bytes]:
    """Yield the observations as payloads of wire records."""
    pending = b""
    for observation in observations:
        record = encode(observation)
        if pending and len(pending) + len(record) > size:
            yield pending
            pending = b""
        pending += record
    if pending:
        yield pending


def write_baseline(trace: Path, files: dict[str, tuple[Inode, bytes]]) -> None:
    """Write the baseline's stream: the root under the empty name, then the others."""
    writer = JournalWriter(trace, TRACE_ID, "b")
    indexes: dict[str, int] = {}
    for path, (inode, data) in sorted(files.items()):
        chunks: tuple[tuple[bytes, int], ...] = ()
        is_regular = stat.S_ISREG(inode.mode)
        if is_regular and data:
            digest = hashlib.sha256(data).digest()
            writer.append(BatchKind.CONTENT, encode_content([(digest, deltas.encode(data, None))]))
            chunks = ((digest, len(data)),)
        parent, _, name = path.rpartition("/")
        state = ContentState.KEPT if is_regular else ContentState.NOT_KEPT
        entry = BaselineEntry(
            len(indexes), indexes[parent] if path else -1, os.fsencode(name), inode, content=state, chunks=chunks
        )
        indexes[path] = entry.index
        writer.append(BatchKind.ENTRIES, encode_entry(entry))
    writer.append(BatchKind.END, b"{}")
    writer.close()


def make_facts(**fields: object) -> SessionFacts:
    facts = SessionFacts(
        TRACE_ID,
        argv=["sh", "-c", "work"],
        cwd="/w",
        user="someone",
        uid=1000,
        roots=[RootFacts("", "/w", DEV, 3, 1)],
        engine="scripted",
        start_monotonic_ns=START_NS,
        start_realtime_ns=1_700_000_000 * SECOND,
        end_monotonic_ns=START_NS + 10 * SECOND,
        exit_code=1,
        wait_status=256,
        command_pid=COMMAND,
    )
    for name, value in fields.items():
        setattr(facts, name, value)
    return facts


def begin_trace(trace: Path, script: Script, **fields: object) -> SessionFacts:
    """Make the directory of a trace with its baseline: what ``script`` put before its first operation."""
    trace.mkdir(mode=0o700)
    facts = make_facts(**fields)
    write_session(trace, facts)
    write_baseline(trace, {path: (file.inode(), bytes(file.data)) for path, file in script.files.items()})
    return facts


def write_ring(trace: Path, observations: Iterable[Observation], *, end: bool = True, size: int = BATCH_BYTES) -> None:
    """Write the ring's stream."""
    writer = JournalWriter(trace, TRACE_ID, "r")
    for payload in batches(observations, size):
        writer.append(BatchKind.RECORDS, payload)
    if end:
        writer.append(BatchKind.END, b"{}")
    writer.close()


def seal(trace: Path, facts: SessionFacts, *, processed: bool = True) -> None:
    facts.state, facts.processed, facts.complete = "sealed", processed, True
    write_session(trace, facts)
