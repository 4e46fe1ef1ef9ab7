"""Make a trace of any length without a kernel, by the store's own writers: python -m benchmarks.traces EVENTS PLACE.

What happens in it is a build that goes on and on, with a fixed number of files: compilers that write objects and rename
them into place, a log that grows, a database that is written in place, files that come and go. So the state at the end
of a long trace is as large as at the end of a short one, and what queries of the two take can be compared.
"""

from __future__ import annotations

import random
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffkeeper.model.event import Data, Event, Kind, Mark, Meta
from diffkeeper.model.process import Process
from diffkeeper.model.tree import Tree
from diffkeeper.processing.output import Output
from diffkeeper.processing.processor import EVENTS_PER_CHECKPOINT
from diffkeeper.processing.totals import Totals
from diffkeeper.store.format import JOURNAL_NAME, STORE_NAME, RootFacts, SessionFacts, write_session

FILES = 3_000
FOLDERS = 100
START_NS = 1_763_800_000_000_000_000
COMMAND = 4_000
AT_ONCE = 2_000  # events are handed on in lots of about so many
_PAGE = 4_096
_PAGES = 64  # of the database
_LARGEST = 1 << 20  # of one write
_WORDS = [b"%06x" % (number * 7_919 % (1 << 24)) for number in range(500)]


@dataclass
class _File:
    """Hold what the made-up build knows of one file."""

    node: int
    folder: int
    name: bytes
    path: bytes
    size: int = 0


@dataclass
class Build:
    """Do the operations of a build, as events; ``tree`` is the state that they lead to."""

    output: Output
    tree: Tree = field(default_factory=Tree)
    events: list[Event] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = random.Random(1)
        self._t_ns = 0
        self._number = 0
        self._told = 0
        self._process = Process(1, COMMAND, comm=b"make", exe=b"/usr/bin/make", argv=(b"make",))
        self.processes[1] = self._process
        root = self.tree.add_root(b"", (5, 2, 0), self._meta(stat.S_IFDIR | 0o755)).number
        self._folders = [self._folder(root, number) for number in range(FOLDERS)]
        self._files = [self._baseline_file(number) for number in range(FILES)]
        self._log = self._baseline_file(FILES, b"build.log")
        self._database = self._baseline_file(FILES + 1, b"state.db")

    def _meta(self, mode: int = stat.S_IFREG | 0o644, nlink: int = 1) -> Meta:
        return Meta(mode, 1000, 1000, START_NS + self._t_ns // 4_000_000 * 4_000_000, nlink)

    def _folder(self, root: int, number: int) -> tuple[int, bytes]:
        name = b"module_%d" % number
        identity = (5, 1_000 + number, 7)
        return self.tree.add(root, name, identity, self._meta(stat.S_IFDIR | 0o755)).number, name

    def _baseline_file(self, number: int, name: bytes = b"") -> _File:
        folder, folder_name = self._folders[number % FOLDERS]
        name = name or b"unit_%d.o" % number
        node = self.tree.add(folder, name, (5, 10_000 + number, 7), self._meta())
        return _File(node.number, folder, name, folder_name + b"/" + name)

    def run(self, count: int) -> Iterator[Sequence[Event]]:
        """Yield ``count`` events and a few in lots."""
        self._command_starts()
        while self._number < count:
            self._compile(self._chance.choice(self._files))
            if len(self.events) >= AT_ONCE:
                yield self._taken()
        self._process = self.processes[1]
        self._event(Kind.EXIT, detail=0)
        yield self._taken()

    def _taken(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    def _command_starts(self) -> None:
        self._event(Kind.EXEC, text=b"/usr/bin/make", value=b"make\0-j2")

    def _compile(self, file: _File) -> None:
        """Let one compiler replace one object, with what goes on beside it."""
        chance = self._chance
        self._begins(b"cc1")
        temporary = self._create(file.folder, file.path.rpartition(b"/")[0], file.name + b".tmp")
        for _ in range(chance.randint(2, 12)):
            self._write(temporary, temporary.size, chance.randint(16, 200))
        self._change(Kind.CLOSE, temporary, size=temporary.size)
        self._rename(temporary, file)
        if chance.random() < 0.3:
            self._change(Kind.CHMOD, file, meta=self._meta(stat.S_IFREG | 0o755), size=file.size)
        if chance.random() < 0.1:
            self._comes_and_goes(file)
        self._write(self._log, self._log.size, chance.randint(20, 60))
        for _ in range(chance.randint(0, 3)):
            self._write(self._database, chance.randrange(_PAGES) * _PAGE, 100)
        self._event(Kind.EXIT, detail=256 * (chance.random() < 0.01))

    def _begins(self, comm: bytes) -> None:
        key = len(self.processes) + 1
        pid = COMMAND + key % 28_000
        self._process = self.processes[1]
        self._event(Kind.FORK, detail=pid)
        is_outsider = key % 50 == 0
        self._process = Process(key, pid, 1, COMMAND, comm, b"/usr/libexec/" + comm, is_outsider=is_outsider)
        self.processes[key] = self._process
        self._event(Kind.EXEC, text=self._process.exe, value=comm + b"\0-c\0unit.c")

    def _comes_and_goes(self, beside: _File) -> None:
        """Make a folder with a file in it, and remove both."""
        above = beside.path.rpartition(b"/")[0]
        name = b"scratch_%d" % self._process.key
        path = above + b"/" + name
        number = self._next_node()
        folder = {"node": number, "parent": beside.folder, "name": name, "path": path}
        self._event(Kind.MKDIR, **folder, meta=self._meta(stat.S_IFDIR | 0o755, 2))
        made = self._create(number, path, b"conftest")
        self._write(made, 0, 64)
        self._change(Kind.UNLINK, made, meta=self._meta(nlink=0))
        self._event(Kind.RMDIR, **folder, meta=self._meta(stat.S_IFDIR | 0o755, 0))

    def _create(self, folder: int, above: bytes, name: bytes) -> _File:
        file = _File(self._next_node(), folder, name, above + b"/" + name)
        self._change(Kind.CREATE, file, meta=self._meta())
        return file

    def _next_node(self) -> int:
        number = self.tree.next_number
        self.tree.next_number += 1
        return number

    def _write(self, file: _File, offset: int, length: int) -> None:
        blob, start = self.output.content.append(file.node, (self._chance.randbytes(8) * 25)[:length])
        file.size = max(file.size, offset + length)
        data = (Data(offset, length, blob, start),)
        self._change(Kind.WRITE, file, offset=offset, length=length, size=file.size, data=data, meta=self._meta())

    def _rename(self, source: _File, target: _File) -> None:
        self.output.content.end(source.node)
        self._event(
            Kind.RENAME,
            node=source.node,
            parent=source.folder,
            name=source.name,
            path=source.path,
            parent2=target.folder,
            name2=target.name,
            path2=target.path,
            replaced=target.node,
            size=source.size,
            meta=self._meta(),
        )
        target.node, target.size = source.node, source.size

    def _change(self, kind: Kind, file: _File, **fields: Any) -> None:
        self._event(kind, node=file.node, parent=file.folder, name=file.name, path=file.path, **fields)

    def _event(self, kind: Kind, **fields: Any) -> None:
        chance = self._chance
        self._number += 1
        self._t_ns += chance.randint(2_000, 60_000)
        marks = Mark.OUTSIDER if self._process.is_outsider else Mark(0)
        fields["enter_ns"] = self._t_ns - chance.randint(300, 9_000)
        fields["exit_ns"] = self._t_ns + chance.randint(300, 4_000)
        pid, key = self._process.pid, self._process.key
        event = Event(self._number, self._t_ns, kind, pid, pid, key, marks, **fields)
        self.tree.apply(event)
        self.events.append(event)

    def new_processes(self) -> list[Process]:
        """Return the processes that began since the last call."""
        new = [self.processes[key] for key in range(self._told + 1, len(self.processes) + 1)]
        self._told = len(self.processes)
        return new

    @property
    def end_ns(self) -> int:
        """Return when the last event was, ns since the start."""
        return self._t_ns


class Writing:
    """Write files into folders of a hundred; ``tree`` is the state that this leads to."""

    def __init__(self, output: Output) -> None:
        """Put bytes into ``output``."""
        self.output = output
        self.tree = Tree()
        self._chance = random.Random(2)
        self._root = self.tree.add_root(b"", (5, 2, 0), Meta(stat.S_IFDIR | 0o755, 0, 0, START_NS)).number
        self._folder = 0
        self._number = 0

    def file(self, number: int, size: int) -> list[Event]:
        """Write one file, in a new folder if it is time for one; return the events."""
        lot: list[Event] = []
        folder = b"d%d" % (number // 100)
        if number % 100 == 0:
            self._folder = self.tree.next_number
            lot.append(self._event(Kind.MKDIR, self._folder, self._root, folder, stat.S_IFDIR | 0o755))
        node, name = self.tree.next_number, b"f%d" % number
        path = folder + b"/" + name
        lot.append(self._event(Kind.CREATE, node, self._folder, name, stat.S_IFREG | 0o644, path=path))
        for offset in range(0, size, _LARGEST):
            length = min(_LARGEST, size - offset)
            blob, start = self.output.content.append(node, self._bytes(number, length))
            data = (Data(offset, length, blob, start),)
            more: dict[str, Any] = {"path": path, "offset": offset, "length": length, "size": offset + length}
            lot.append(self._event(Kind.WRITE, node, self._folder, name, stat.S_IFREG | 0o644, data=data, **more))
        self.output.content.end(node)
        return lot

    def _bytes(self, number: int, length: int) -> bytes:
        if number % 3 == 0:
            return self._chance.randbytes(length)
        words = self._chance.choices(_WORDS, k=length // 6 + 1)
        return b"".join(words)[:length]

    def _event(self, kind: Kind, node: int, parent: int, name: bytes, mode: int, **fields: Any) -> Event:
        self._number += 1
        t_ns = self._number * 1_000
        meta = Meta(mode, 0, 0, START_NS + t_ns)
        fields = {"path": name, **fields}
        event = Event(
            self._number, t_ns, kind, COMMAND, COMMAND, 1, node=node, parent=parent, name=name, meta=meta, **fields
        )
        self.tree.apply(event)
        return event

    def new_processes(self) -> list[Process]:
        """Return the only one."""
        return [Process(1, COMMAND, comm=b"writer")]

    @property
    def end_ns(self) -> int:
        """Return when the last event was, ns since the start."""
        return self._number * 1_000


def make_tree_trace(place: Path, sizes: Iterable[int]) -> None:
    """Make a sealed trace in which files of these sizes are written: text that compresses, and every third noise."""
    place.mkdir(mode=0o700)
    output = Output(place / STORE_NAME)
    writing, totals = Writing(output), Totals()
    output.checkpoint(writing.tree)
    for number, size in enumerate(sizes):
        lot = writing.file(number, size)
        totals.add(lot)
        output.append(lot)
    _finish(place, output, writing, totals)


def make_trace(place: Path, events: int) -> None:
    """Make a sealed trace of about so many events in a new folder."""
    place.mkdir(mode=0o700)
    output = Output(place / STORE_NAME)
    build, totals, checkpoint_at = Build(output), Totals(), 0
    output.checkpoint(build.tree)
    for lot in build.run(events):
        totals.add(lot)
        output.append(lot)
        if output.count - checkpoint_at >= max(
            EVENTS_PER_CHECKPOINT, 2 * (len(build.tree.nodes) - len(build.tree.nameless))
        ):
            checkpoint_at = output.count
            _commit(output, build, totals)
    _finish(place, output, build, totals)


def _finish(place: Path, output: Output, build: Build | Writing, totals: Totals) -> None:
    output.progress.is_finished = output.progress.has_end = True
    _commit(output, build, totals)
    output.close()
    _seal(place, build, totals)


def _commit(output: Output, build: Build | Writing, totals: Totals) -> None:
    """Put what was made into the store; what was counted comes last, as it is of use to readers alone."""
    output.checkpoint(build.tree)
    progress = output.progress
    progress.baseline_is_whole, progress.number = True, output.count
    if progress.is_finished:
        progress.totals = totals.to_json()
    output.commit(build.new_processes())


def _seal(place: Path, build: Build | Writing, totals: Totals) -> None:
    facts = SessionFacts(
        trace_id=1,
        state="sealed",
        argv=["make", "-j2"],
        cwd="/w",
        roots=[RootFacts("", "/w")],
        engine="made up",
        start_monotonic_ns=1,
        start_realtime_ns=START_NS,
        end_monotonic_ns=1 + build.end_ns,
        exit_code=0,
        wait_status=0,
        command_pid=COMMAND,
        counters=totals.summary(),
        complete=True,
        processed=True,
        verification="done",
    )
    (place / JOURNAL_NAME).mkdir()
    write_session(place, facts)


if __name__ == "__main__":
    make_trace(Path(sys.argv[2]), int(sys.argv[1]))
