"""Whatever is done to a folder, the tree that observations of it make is the folder."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from typing import Any, get_type_hints

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffkeeper.model import observation as seen
from diffkeeper.model.event import Kind, Meta
from diffkeeper.model.observation import AttributeOp, NameOp
from diffkeeper.model.resolve import Resolver
from diffkeeper.model.tree import Tree
from witness import Blobs, State, Witness, state_of_folder, state_of_tree, walk

QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

small = st.integers(0, 40)
which = st.integers(0, 30)  # one of the entries that are there at that moment
spelling = st.integers(0, 4)
existing = st.tuples(which, spelling)
place = st.tuples(which, st.sampled_from([b"a", b"b", b"c", b"d"]), spelling)  # a name in one of the directories
target = st.sampled_from([b"a", b"../b", b"..", b"a/b", b".", b"/x"])
ATTRIBUTES = [AttributeOp.CHMOD, AttributeOp.UTIME, AttributeOp.SETXATTR, AttributeOp.REMOVEXATTR]
CREATE, EXCL, TRUNC = os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC

operations = st.one_of(
    st.tuples(st.just("open"), place, st.sampled_from([CREATE, EXCL, TRUNC])),
    st.tuples(st.just("open"), existing, st.sampled_from([0, os.O_TRUNC])),
    st.tuples(st.just("tmpfile"), existing),
    st.tuples(st.just("link_handle"), small, place),
    st.tuples(st.just("write"), small, small, st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("truncate"), small, small),
    st.tuples(st.just("fallocate"), small, st.sampled_from([0, 1, 3, 0x10, 0x11]), small, st.integers(1, 40)),
    st.tuples(st.just("copy"), small, small, small, small, st.integers(1, 40)),
    st.tuples(st.just("close"), small),
    st.tuples(st.just("attribute"), st.sampled_from(ATTRIBUTES), existing, small),
    st.tuples(st.just("name"), st.just(NameOp.MKDIR), place),
    st.tuples(st.just("name"), st.just(NameOp.MKNOD), place),
    st.tuples(st.just("name"), st.just(NameOp.SYMLINK), place, target),
    st.tuples(st.just("name"), st.just(NameOp.LINK), existing, place),
    st.tuples(st.just("name"), st.sampled_from([NameOp.UNLINK, NameOp.RMDIR]), existing),
    st.tuples(st.just("name"), st.just(NameOp.RENAME), existing, place, st.sampled_from([0, 0, 1, 4])),
    st.tuples(st.just("name"), st.just(NameOp.RENAME), existing, place),
    st.tuples(st.just("name"), st.just(NameOp.RENAME), existing, existing, st.sampled_from([0, 2, 2])),
    st.tuples(st.just("check")),
)
scripts = st.lists(operations, min_size=12, max_size=40)


@contextlib.contextmanager
def folders() -> Iterator[tuple[bytes, bytes]]:
    """Give a root with a few entries, inside a folder that nothing gets out of."""
    with tempfile.TemporaryDirectory() as place:
        limit = os.path.realpath(os.fsencode(place))
        root = limit + b"/x/root"
        os.makedirs(root + b"/a/b")
        os.makedirs(limit + b"/x/b/c")
        os.symlink(b"a/b", root + b"/l")
        for path in (root + b"/c", root + b"/a/c", limit + b"/x/a", limit + b"/x/b/a"):
            fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
            os.write(fd, path[-8:])
            os.close(fd)
        os.link(root + b"/c", root + b"/a/a")
        os.link(limit + b"/x/b/a", root + b"/a/b/a")
        yield root, limit


def is_plain(path: bytes) -> bool:
    """Say whether a path is a regular file itself."""
    return os.path.isfile(path) and not os.path.islink(path)


class Script:
    """Play generated operations; those that the system refuses are left out."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.fds: list[int] = []

    def play(self, operation: tuple[Any, ...]) -> None:
        """Do one operation if it can be done."""
        with contextlib.suppress(OSError, ValueError):
            getattr(self, "_" + operation[0])(*operation[1:])

    def _path(self, choice: tuple[Any, ...]) -> bytes:
        """Return a path of an entry, or of a name in a directory, spelled in one of several ways."""
        entries = sorted(full for _, full in walk(self.witness.limit + b"/x"))
        if len(choice) == 3:
            folders = [full for full in entries if os.path.isdir(full)]
            full = os.path.join(folders[choice[0] % len(folders)], choice[1])
        else:
            full = entries[choice[0] % len(entries)]
        if not self.witness.is_allowed(full) or full == self.witness.root:
            raise ValueError(full)
        folder, name = os.path.split(full)
        relative = os.path.relpath(full, self.witness.root)
        decorated = os.path.join(
            os.path.relpath(folder, self.witness.root), b".", b"..", os.path.basename(folder), name
        )
        return [relative, relative, full, b".//" + relative, decorated][choice[-1]]

    def _full(self, choice: tuple[Any, ...]) -> bytes:
        full = os.path.join(self.witness.root, self._path(choice))
        if not self.witness.is_allowed(os.path.realpath(full)):
            raise ValueError(full)
        return full

    def _fd(self, index: int) -> int:
        if not self.fds:
            raise ValueError("nothing is open")
        return self.fds[index % len(self.fds)]

    def _open(self, choice: tuple[Any, ...], flags: int) -> None:
        self.fds.append(self.witness.open(self._full(choice), flags))

    def _tmpfile(self, choice: tuple[Any, ...]) -> None:
        self.fds.append(self.witness.open(self._full(choice), os.O_TMPFILE))

    def _link_handle(self, index: int, choice: tuple[Any, ...]) -> None:
        if self.witness.untouched:
            raise ValueError("only touched inodes tell what a descriptor is")
        full = self._full(choice)
        self.witness.name(NameOp.LINK, self.witness.root, b"/proc/self/fd/%d" % self._fd(index), full, follow=True)

    def _write(self, index: int, offset: int, data: bytes) -> None:
        self.witness.write(self._fd(index), offset, data)

    def _truncate(self, index: int, size: int) -> None:
        self.witness.truncate(self._fd(index), size)

    def _fallocate(self, index: int, mode: int, offset: int, length: int) -> None:
        self.witness.fallocate(self._fd(index), mode, offset, length)

    def _copy(self, index: int, offset: int, index2: int, offset2: int, length: int) -> None:
        self.witness.copy(self._fd(index), offset, self._fd(index2), offset2, length)

    def _close(self, index: int) -> None:
        fd = self._fd(index)
        self.fds.remove(fd)
        self.witness.forget(fd)

    def _attribute(self, op: AttributeOp, choice: tuple[Any, ...], value: int) -> None:
        full = self._full(choice)
        if self.witness.untouched and not os.path.isfile(full):
            raise ValueError("mkdir did not tell the inode, so a change of it cannot be placed")
        self.witness.attribute(op, full, value)

    def _name(self, op: NameOp, choice: tuple[Any, ...], choice2: Any = b"", flags: int = 0) -> None:
        path2 = choice2 if isinstance(choice2, bytes) else self._path(choice2)
        if op == NameOp.LINK and self.witness.untouched and not is_plain(self._full(choice)):
            raise ValueError("only of files that are opened the inode is told")
        if flags & 4 and os.path.lexists(os.path.join(self.witness.root, path2)):
            raise ValueError("ext4 changes the directory's mtime where such a rename fails")
        self.witness.name(op, self.witness.root, self._path(choice), path2, flags)

    def _check(self) -> None:
        witness = self.witness
        found, expected = state_of_tree(witness.tree, witness.blobs), state_of_folder(witness.root)
        imported = {event.node for event in witness.events if event.kind == Kind.IMPORT}
        for path, node in witness.tree.walk():
            if node.number in imported and path in expected:
                found[path].xattrs = expected[path].xattrs  # an import does not bring them
        if witness.untouched:
            forget_times_and_modes(found, expected)
        assert found == expected


def forget_times_and_modes(*sides: dict[bytes, State]) -> None:
    """Leave out what calls do not tell where touched inodes are not reported."""
    for states in sides:
        for path, state in states.items():
            if state.mode >> 12 != 0o10 or path == b"":
                state.mode &= ~0o7777
            state.mtime_ns = 0


def play(script: list[tuple[Any, ...]], *, untouched: bool) -> None:
    """Play operations, compare at each check and at the end, and fold the events once more."""
    with folders() as (root, limit), contextlib.closing(Witness(root, limit, untouched=untouched)) as witness:
        player = Script(witness)
        for operation in [*script, ("check",)]:
            player.play(operation)
        assert witness.resolver.counters["unresolved"] == 0, witness.events
        refolded = witness.baseline.copy()
        for event in witness.events:
            refolded.apply(event)
        assert state_of_tree(refolded, witness.blobs) == state_of_tree(witness.tree, witness.blobs)


@QUICK
@given(scripts)
def test_the_tree_is_the_folder_at_every_instant(script: list[tuple[Any, ...]]) -> None:
    play(script, untouched=False)


@QUICK
@given(scripts)
def test_without_touched_inodes_strings_lead_to_the_same_names_and_bytes(script: list[tuple[Any, ...]]) -> None:
    play(script, untouched=True)


def _values(kind: type) -> st.SearchStrategy[Any]:
    tiny = st.integers(-1, 4)
    inodes = st.builds(
        seen.Inode,
        dev=st.just(1),
        ino=st.integers(0, 6),
        generation=st.integers(-2, 1),
        mode=st.sampled_from([0o100644, 0o040755, 0o120777, 0o010644, 0]),
        nlink=st.integers(0, 2),
        uid=tiny,
        gid=tiny,
        size=small,
        mtime_ns=small,
    )
    where = st.builds(seen.Base, dev=st.just(1), ino=st.integers(0, 6), generation=st.integers(-2, 1))
    text = st.sampled_from([b"", b"a", b"b", b"a/b", b"..", b"/", b"/r/a", b"a/../b", b"/r/a/b/"])
    payload = st.lists(st.tuples(tiny, st.binary(max_size=5)), max_size=2).map(tuple)
    fields: dict[str, st.SearchStrategy[Any]] = {
        "t_ns": st.integers(0, 30),
        "flags": st.integers(0, 255).map(seen.Flag),
        "inode": inodes,
        "parent": where if kind is seen.EntryRead else inodes,
        "source": st.none() | inodes,
        "base": where,
        "base2": where,
        "root": where,
        "path": text,
        "path2": text,
        "name": st.sampled_from([b"", b"a", b"b"]),
        "payload": payload,
        "touched": st.lists(inodes, max_size=4).map(tuple),
        "chain": st.lists(st.tuples(st.integers(0, 6), tiny, st.sampled_from([b"a", b"b"])), max_size=3).map(tuple),
        "call_flags": st.sampled_from([0, 1, 2, 4, 0x400, 0x1000]),
        "mode": st.sampled_from([0, 1, 3, 8, 0x10, 0x20, 0x40, 0xFFFF]),
        "data": st.binary(max_size=9),
    }
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: fields.get(name, st.from_type(hint)) for name, hint in hints.items()})


KINDS = [one for one in vars(seen).values() if isinstance(one, type) and issubclass(one, seen.Observation)]
anything = st.one_of([_values(kind) for kind in KINDS if kind is not seen.Observation])
readings = st.lists(st.one_of(_values(seen.LateData), _values(seen.EntryRead)), max_size=2).map(tuple)


@QUICK
@given(st.lists(st.tuples(anything, readings, st.booleans()), max_size=25))
def test_no_sequence_of_observations_stops_the_resolver(sequence: list[tuple[Any, ...]]) -> None:
    tree, blobs = Tree(), Blobs()
    tree.add_root(b"r", (1, 1, 0), Meta(0o040755, 0, 0, 0))
    resolver = Resolver(tree, 10, blobs, {b"r": b"/r"})
    again = None
    events = []
    for observation, late, is_exact in sequence:
        if observation.t_ns >= 10 and again is None:
            again = tree.copy()
        if again is not None and observation.t_ns < 10:
            continue
        events += resolver.feed(observation, late, is_exact)
    resolver.finish()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert all(a.t_ns <= b.t_ns for a, b in itertools.pairwise(events))
    for event in events:
        assert again is not None
        again.apply(event)
    if again is not None:
        assert state_of_tree(again, blobs) == state_of_tree(tree, blobs)
