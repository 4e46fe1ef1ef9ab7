"""What the resolver makes of single observations."""

from __future__ import annotations

import stat
import struct
from typing import Any

import pytest

from diffkeeper.model.event import Event, Kind, Mark, Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.observation import (
    AttributeChanged,
    AttributeOp,
    Base,
    Closed,
    DataOp,
    DataWritten,
    DirectorySeen,
    EntryRead,
    EventsLost,
    Flag,
    Inode,
    LateData,
    NameChanged,
    NameOp,
    Opened,
    OutputWritten,
    ProcessExecuted,
    ProcessExited,
    ProcessSeen,
)
from diffkeeper.model.resolve import Resolver
from diffkeeper.model.tree import Tree
from witness import Blobs

START = 1000
ROOT, SUB = Base(1, 1, 0), Base(1, 2, 0)


def inode(ino: int, mode: int = stat.S_IFREG | 0o644, nlink: int = 1, size: int = 0, generation: int = 0) -> Inode:
    """Return an inode."""
    return Inode(1, ino, generation, mode, nlink, 0, 0, size, 50 + ino)


def folder(ino: int) -> Inode:
    """Return a directory's inode."""
    return inode(ino, stat.S_IFDIR | 0o755, 2)


class Scene:
    """Hold a resolver over the tree: sub/ (inode 2), f (inode 3, "old data", two bytes unknown in the middle)."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.tree = Tree()
        meta = Meta(stat.S_IFDIR | 0o755, 0, 0, 0, 2)
        root = self.tree.add_root(b"r", (1, 1, 0), meta)
        self.tree.add(root.number, b"sub", (1, 2, 0), meta)
        blob, _ = self.blobs.append(-9, b"old data")
        content = ExtentMap(8, [(0, 8, blob, 0)])
        self.tree.add(root.number, b"f", (1, 3, -1), Meta(stat.S_IFREG | 0o644, 0, 0, 0), content=content)
        self.resolver = Resolver(self.tree, START, self.blobs, {b"r": b"/w/r"})
        self.sequence = 0

    def feed(
        self, make: Any, late: Any = (), is_exact: bool = True, t_ns: int = 0, flags: int = 0, **fields: Any
    ) -> list[Event]:
        """Feed an observation."""
        self.sequence += 1
        t_ns = t_ns or START + 10 * self.sequence
        observation = make(self.sequence, t_ns, t_ns - 5, t_ns + 5, 7, 7, Flag(flags), 0, **fields)
        return self.resolver.feed(observation, late, is_exact)

    def name(self, op: NameOp, path: bytes, *touched: Inode, path2: bytes = b"", **more: Any) -> list[Event]:
        """Feed a change of names relative to the root."""
        fields = {
            "op": op,
            "path": path,
            "path2": path2,
            "touched": touched,
            "base": ROOT,
            "base2": ROOT,
            "call_flags": 0,
        }
        return self.feed(NameChanged, **(fields | more))

    def open(self, of: Inode, parent: Inode, name: bytes, **more: Any) -> list[Event]:
        """Feed an open that creates."""
        fields = {"inode": of, "parent": parent, "name": name, "created": True, "truncated": False}
        return self.feed(Opened, **(fields | {"open_flags": 0o100, "touched": (parent, of)} | more))

    def write(self, of: Inode, offset: int, data: bytes, **more: Any) -> list[Event]:
        """Feed a write."""
        fields = {"op": DataOp.WRITE, "inode": of, "offset": offset, "length": len(data), "payload": ((0, data),)}
        return self.feed(DataWritten, **(fields | more))

    def read(self, path: bytes) -> bytes | None:
        """Return the bytes of a file in the tree."""
        node = self.tree.lookup(path)
        assert node is not None
        assert node.content is not None
        return self.blobs.read(node.content)

    def paths(self) -> set[bytes]:
        """Return all paths."""
        return {path for path, _ in self.tree.walk() if path}


@pytest.fixture
def scene() -> Scene:
    """Return a fresh scene."""
    return Scene()


def late(of: int, ino: Inode, offset: int, data: bytes) -> LateData:
    """Return a late reading."""
    return LateData(900 + of, 0, 0, 0, 0, 0, Flag(0), 0, of, ino, offset, data, 0, 0, False)


def entry(of: int, parent: Base, name: bytes, ino: Inode, target: bytes = b"") -> EntryRead:
    """Return a late reading of an entry."""
    return EntryRead(800 + of, 0, 0, 0, 0, 0, Flag(0), 0, of, parent, name, ino, target, 0, 0)


def test_a_write_lands_in_its_file_and_learns_its_generation(scene: Scene) -> None:
    (event,) = scene.write(inode(3, generation=5), 4, b"NEW!!", flags=Flag.OUTSIDER)
    assert (event.number, event.kind, event.path, event.size, event.t_ns) == (1, Kind.WRITE, b"f", 9, 10)
    assert event.marks == Mark.OUTSIDER
    assert scene.read(b"f") == b"old NEW!!"
    assert scene.tree.by_identity(1, 3, 5) is scene.tree.lookup(b"f")


def test_what_a_payload_leaves_out_is_read_late_or_unknown(scene: Scene) -> None:
    payload = ((0, b"ab"), (6, b"gh"))
    (event,) = scene.write(
        inode(3), 0, b"........", payload=payload, late=(late(1, inode(3), 1, b"BCD"),), is_exact=False
    )
    assert [(one.offset, one.length, one.blob > 0) for one in event.data] == [
        (0, 2, True), (2, 2, True), (4, 2, False), (6, 2, True)
    ]  # fmt: skip
    assert event.marks == Mark.INEXACT | Mark.UNKNOWN_DATA
    assert (scene.resolver.counters["inexact"], scene.resolver.counters["unknown_data"]) == (1, 1)


def test_a_copy_within_the_tree_is_kept_as_a_copy(scene: Scene) -> None:
    scene.open(inode(9), folder(2), b"copy")
    more = {"op": DataOp.COPY_RANGE, "payload": (), "source": inode(3), "source_offset": 4}
    (event,) = scene.write(inode(9), 0, b"....", **more)
    assert (event.kind, event.data) == (Kind.COPY, ())
    assert scene.read(b"sub/copy") == b"data"


def test_a_copy_of_what_went_on_changing_is_marked(scene: Scene) -> None:
    scene.open(inode(9), folder(2), b"copy")
    more = {"op": DataOp.SENDFILE, "payload": (), "source": inode(3), "is_exact": False}
    (event,) = scene.write(inode(9), 0, b"....", **more)
    assert (event.kind, event.marks) == (Kind.COPY, Mark.INEXACT)


def test_a_copy_that_may_have_read_what_it_wrote_needs_its_bytes(scene: Scene) -> None:
    more = {"op": DataOp.SENDFILE, "payload": (), "source": inode(3), "source_offset": 0}
    (event,) = scene.write(inode(3), 2, b"....", late=(late(1, inode(3), 2, b"olol"),), **more)
    assert (event.kind, scene.read(b"f")) == (Kind.WRITE, b"olololta")
    (event,) = scene.write(inode(3), 8, b"....", **more)
    assert (event.kind, scene.read(b"f")) == (Kind.COPY, b"olololtaolol")


def test_a_copy_from_outside_needs_its_bytes(scene: Scene) -> None:
    more = {"op": DataOp.COPY_RANGE, "payload": (), "source": inode(77)}
    (event,) = scene.write(inode(3), 0, b"1234", late=(late(1, inode(3), 0, b"1234"),), **more)
    assert (event.kind, event.marks, scene.read(b"f")) == (Kind.WRITE, Mark(0), b"1234data")


def test_a_created_file_has_no_other_event(scene: Scene) -> None:
    events = scene.open(inode(9), folder(2), b"new", truncated=True)
    assert [(one.kind, one.path, one.parent_mtime_ns) for one in events] == [(Kind.CREATE, b"sub/new", 52)]


def test_a_truncating_open_empties_the_file(scene: Scene) -> None:
    (event,) = scene.open(inode(3), folder(1), b"f", created=False, truncated=True)
    assert (event.kind, event.size, scene.read(b"f")) == (Kind.TRUNCATE, 0, b"")


def test_an_inode_number_used_again_is_another_file(scene: Scene) -> None:
    scene.write(inode(3, generation=1), 0, b"x")
    scene.name(NameOp.UNLINK, b"f", folder(1), Inode(1, 3, 1, 0, 0, 0, 0, 0, 0))
    scene.open(inode(3, generation=2), folder(1), b"g")
    assert scene.read(b"g") == b""
    assert scene.resolver.counters["identity_conflicts"] == 0


def test_touched_inodes_place_a_name_whatever_the_string_says(scene: Scene) -> None:
    (event,) = scene.name(NameOp.MKDIR, b"nowhere/../../d", folder(2), folder(9), base=Base(5, 5, 5))
    assert (event.kind, event.path, event.marks) == (Kind.MKDIR, b"sub/d", Mark(0))


def test_a_file_renamed_over_one_of_the_same_name_comes_from_the_other_directory(scene: Scene) -> None:
    scene.open(inode(9), folder(2), b"f")
    (event,) = scene.name(NameOp.RENAME, b"?/f", folder(1), folder(2), inode(9), inode(3, nlink=0), path2=b"?/f")
    assert (event.kind, event.path, event.path2) == (Kind.RENAME, b"sub/f", b"f")


def test_renaming_one_hard_link_onto_another_changes_nothing(scene: Scene) -> None:
    scene.name(NameOp.LINK, b"f", folder(1), inode(3, nlink=2), path2=b"g")
    assert scene.name(NameOp.RENAME, b"f", path2=b"g") == []
    assert scene.paths() == {b"f", b"g", b"sub"}


def test_a_tree_that_comes_in_is_imported_with_its_bytes(scene: Scene) -> None:
    top, file = folder(20), inode(21, size=3)
    readings = (
        entry(1, SUB, b"d", top),
        entry(1, Base(1, 20, 0), b"x", file),
        late(1, file, 0, b"abc"),
        entry(1, Base(1, 20, 0), b"l", inode(22, stat.S_IFLNK | 0o777), b"x"),
    )
    events = scene.name(NameOp.RENAME, b"/out/d", folder(50), folder(2), top, path2=b"sub/d", late=readings)
    assert [(one.kind, one.path) for one in events] == [
        (Kind.IMPORT, b"sub/d"), (Kind.IMPORT, b"sub/d/x"), (Kind.IMPORT, b"sub/d/l")
    ]  # fmt: skip
    assert scene.read(b"sub/d/x") == b"abc"
    assert not any(one.marks for one in events)


def test_a_folder_from_outside_is_never_taken_for_the_one_that_it_came_from(scene: Scene) -> None:
    scratch, top = folder(50), folder(20)
    touched = (folder(2), top, scratch)
    (event,) = scene.name(NameOp.RENAME, b"/out/d", *touched, path2=b"sub/d", outside=4)
    assert (event.kind, event.path) == (Kind.IMPORT, b"sub/d")
    assert scene.tree.by_identity(1, 50, 0) is None
    again = scene.name(NameOp.RENAME, b"/out/o", *touched, path2=b"sub/d", outside=4)
    assert again == []  # it had been read ahead of time
    assert scene.paths() == {b"f", b"sub", b"sub/d"}
    (event,) = scene.name(NameOp.RENAME, b"/out/e", folder(2), scratch, path2=b"sub/e", outside=2)
    assert event.marks == Mark.UNRESOLVED


def test_a_file_that_lived_on_outside_comes_back_with_the_bytes_it_has_by_then(scene: Scene) -> None:
    scene.name(NameOp.LINK, b"f", folder(50), inode(3, nlink=2), path2=b"/out/f")
    scene.name(NameOp.UNLINK, b"f", folder(1), inode(3, nlink=1))
    back = inode(3, nlink=2, size=3)
    touched = (back, folder(2))
    (event,) = scene.name(NameOp.LINK, b"/out/f", *touched, path2=b"sub/f", late=(late(3, back, 0, b"new"),))
    assert (event.kind, event.path) == (Kind.IMPORT, b"sub/f")
    assert scene.read(b"sub/f") == b"new"


def test_the_readings_of_an_import_may_come_later(scene: Scene) -> None:
    file = inode(21, size=3)
    (event,) = scene.name(NameOp.RENAME, b"/out/x", folder(50), folder(2), file, path2=b"sub/x")
    assert (event.kind, event.marks) == (Kind.IMPORT, Mark.UNKNOWN_DATA)
    scene.resolver.feed(late(1, file, 0, b"abc"))
    assert scene.read(b"sub/x") == b"abc"


def test_what_moves_out_leaves_the_tree(scene: Scene) -> None:
    (event,) = scene.name(NameOp.RENAME, b"sub", folder(1), folder(50), folder(2), path2=b"/out/sub")
    assert (event.kind, event.path, event.path2) == (Kind.EXPORT, b"sub", b"/out/sub")
    assert scene.paths() == {b"f"}


def test_a_name_that_cannot_be_placed_stays_on_the_timeline(scene: Scene) -> None:
    (event,) = scene.name(NameOp.UNLINK, b"sub/gone", folder(2), inode(40, nlink=0))
    assert (event.kind, event.node, event.path, event.marks) == (Kind.UNLINK, 0, b"sub/gone", Mark.UNRESOLVED)
    assert scene.resolver.counters["unresolved"] == 1


def test_without_touched_inodes_a_directory_is_bound_when_it_is_seen(scene: Scene) -> None:
    (event,) = scene.name(NameOp.MKDIR, b"/w/r/sub/d", base=Base(9, 9, 9), flags=Flag.UNTOUCHED)
    assert (event.path, event.marks) == (b"sub/d", Mark.INEXACT)
    scene.feed(DirectorySeen, dev=1, chain=((30, 4, b"d"), (2, 0, b"sub")), root=ROOT)
    (event,) = scene.open(inode(31), Inode(1, 30, 4, stat.S_IFDIR, 2, 0, 0, 0, 0), b"x", touched=())
    assert event.path == b"sub/d/x"


def test_an_unknown_directory_is_brought_in_by_its_chain(scene: Scene) -> None:
    (event,) = scene.feed(DirectorySeen, dev=1, chain=((30, 4, b"d"), (2, 0, b"sub")), root=ROOT)
    assert (event.kind, event.path, event.marks) == (Kind.IMPORT, b"sub/d", Mark.INEXACT)


def test_what_came_before_the_start_is_folded_without_an_event(scene: Scene) -> None:
    assert scene.name(NameOp.MKDIR, b"sub", folder(1), folder(2), t_ns=10) == []
    assert scene.name(NameOp.UNLINK, b"gone", folder(1), inode(40, nlink=0), t_ns=11) == []
    assert scene.name(NameOp.RENAME, b"e", folder(1), inode(3), path2=b"f", t_ns=12) == []
    assert scene.open(inode(3), folder(1), b"f", t_ns=13) == []
    assert scene.open(inode(60), folder(1), b"early", t_ns=14) == []
    assert scene.paths() == {b"sub", b"f", b"early"}
    assert scene.read(b"f") == b"old data"
    assert not +scene.resolver.counters


def test_times_never_go_back_and_late_ones_say_so(scene: Scene) -> None:
    scene.write(inode(3), 0, b"a", t_ns=START + 100)
    (event,) = scene.write(inode(3), 0, b"b", t_ns=START + 50)
    assert (event.t_ns, event.marks, event.exit_ns) == (100, Mark.LATE, 55)


def test_attributes_change_the_node(scene: Scene) -> None:
    mode = inode(3, stat.S_IFREG | 0o600)
    (event,) = scene.feed(AttributeChanged, op=AttributeOp.CHMOD, inode=mode)
    assert (event.kind, event.path) == (Kind.CHMOD, b"f")
    more = {"xattr_name": b"user.a", "xattr_value": b"1"}
    scene.feed(AttributeChanged, op=AttributeOp.SETXATTR, inode=mode, **more)
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert (node.meta.mode & 0o777, node.xattrs) == (0o600, {b"user.a": b"1"})


def test_flags_are_on_the_timeline_and_not_in_the_tree(scene: Scene) -> None:
    flags = struct.pack("<IIII", 0, 0x40, 0, 0)
    (event,) = scene.feed(AttributeChanged, op=AttributeOp.SETFLAGS, inode=inode(3), xattr_value=flags)
    assert (event.kind, event.path, event.text, event.detail) == (Kind.SETFLAGS, b"f", b"flags", 0x40)
    extended = struct.pack("<IIII", 1, 0x80, 7, 0)
    (event,) = scene.feed(AttributeChanged, op=AttributeOp.SETFLAGS, inode=inode(3), xattr_value=extended)
    assert (event.text, event.detail) == (b"xflags, project 7", 0x80)
    (event,) = scene.feed(AttributeChanged, op=AttributeOp.SETFLAGS, inode=inode(3), xattr_value=b"short")
    assert (event.text, event.detail) == (b"", 0)
    node = scene.tree.lookup(b"f")
    assert node is not None
    assert node.xattrs == {}


def test_only_a_close_after_a_write_is_an_event(scene: Scene) -> None:
    assert scene.feed(Closed, inode=inode(3, size=8)) == []
    scene.write(inode(3), 0, b"x")
    (event,) = scene.feed(Closed, inode=inode(3, size=8))
    assert (event.kind, event.size) == (Kind.CLOSE, 8)


def test_output_is_numbered_by_its_place_in_the_stream(scene: Scene) -> None:
    scene.feed(OutputWritten, stream=1, length=3, payload=((0, b"abc"),))
    (event,) = scene.feed(OutputWritten, stream=1, length=4, payload=((0, b"de"),))
    assert (event.kind, event.detail, event.offset, event.length) == (Kind.OUTPUT, 1, 3, 4)
    assert event.marks == Mark.UNKNOWN_DATA


def test_processes_are_kept_by_life(scene: Scene) -> None:
    (fork,) = scene.feed(ProcessSeen, parent_pid=1, comm=b"sh", is_fork=True)
    fields = {"comm": b"py", "exe": b"/bin/py", "cwd": b"/w", "argv": (b"py", b"-V"), "argv_is_cut": False}
    (execed,) = scene.feed(ProcessExecuted, **fields)
    (exited,) = scene.feed(ProcessExited, status=256)
    (again,) = scene.feed(ProcessSeen, parent_pid=1, comm=b"sh", is_fork=True)
    assert [one.kind for one in (fork, execed, exited)] == [Kind.FORK, Kind.EXEC, Kind.EXIT]
    assert (execed.text, execed.value, exited.detail) == (b"/bin/py", b"py\0-V", 256)
    process = scene.resolver.processes[fork.process]
    assert (process.exe, process.status, process.end_ns) == (b"/bin/py", 256, 30)
    assert again.process != fork.process


def test_a_loss_is_on_the_timeline_and_counted(scene: Scene) -> None:
    (event,) = scene.feed(EventsLost, channel="ring", count=3, from_ns=1)
    assert (event.kind, event.detail, event.text) == (Kind.GAP, 3, b"ring")
    assert scene.resolver.counters["lost_ring"] == 3


def test_a_file_replaced_by_a_rename_is_what_the_new_bytes_are_based_on(scene: Scene) -> None:
    scene.open(inode(9), folder(1), b"f.tmp")
    scene.write(inode(9), 0, b"new data")
    scene.feed(Closed, inode=inode(9, size=8))
    scene.name(NameOp.RENAME, b"f.tmp", folder(1), inode(9), inode(3, nlink=0), path2=b"f")
    (ended,) = scene.blobs.ended
    assert ended[2] == 1, "the blob of the baseline"
    scene.resolver.finish()


def test_a_rename_that_touched_a_directory_inside_is_told_whatever_its_strings_say(scene: Scene) -> None:
    assert scene.name(NameOp.RENAME, b"../trace/new", folder(50), inode(51), folder(2), path2=b"../trace/CURRENT")
