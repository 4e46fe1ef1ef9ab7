import random
import struct
from pathlib import Path

import pytest

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Event, Kind, Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.tree import Tree
from diffkeeper.store import checkpoint
from diffkeeper.store.checkpoint import Checkpoints, decode_tree, encode_tree
from diffkeeper.store.columns import ColumnWriter
from diffkeeper.store.format import MAX_VALUE_BYTES, Key
from diffkeeper.store.rocks import RocksStore

NAMELESS = 5  # the node of tree() that lost its name
DIRECTORY, FILE, LINK = (Meta(mode, 1, 2, 3) for mode in (0o40755, 0o100644, 0o120777))


def tree() -> Tree:
    made = Tree()
    root = made.add_root(b"", (5, 2, 0), DIRECTORY)
    below = made.add(
        root.number,
        b"below \xff",
        (5, 2**63, 2**32 - 1),
        Meta(0o40755, 0, 0, 2**64),
        xattrs={b"user.a": b"", b"user.b": b"\0" * 9},
    )
    content = ExtentMap(1 << 40, [(0, 10, 3, 7), (10, 10, 0, 0), (1 << 30, 5, 4, 0)])
    file = made.add(below.number, b"file", (5, 11, 1), Meta(0o104755, 1, 2, -5, 2, 9), content=content)
    made.add(root.number, b"hard", (5, 11, 1), FILE)
    made.add(root.number, b"soft", (5, 12, -1), LINK, target=b"../\xfe")
    made.add(root.number, b"empty", (5, 13, 0), FILE)
    file.inexact = "read later; \udcff"
    made.apply(Event(1, 1, Kind.UNLINK, 1, 1, 1, node=6, parent=1, name=b"empty"))
    return made


def named() -> Tree:
    """Return the same without what has no name."""
    made = tree()
    made.drop(made.nodes[NAMELESS])
    return made


def facts(made: Tree) -> object:
    nodes = {
        number: (
            node.identity,
            node.meta,
            node.names,
            node.children,
            node.content,
            node.target,
            node.xattrs,
            node.inexact,
        )
        for number, node in made.nodes.items()
    }
    return (
        nodes,
        made.roots,
        made.next_number,
        list(made.nodes),
        {key: node.number for key, node in made.identities.items()},
    )


def test_a_tree_comes_back_with_everything_in_it() -> None:
    assert facts(decode_tree(encode_tree(tree()))) == facts(tree())


def test_a_tree_of_several_roots_comes_back() -> None:
    made = Tree()
    made.add_root(b"one", (5, 2, 0), DIRECTORY)
    made.add_root(b"two", (6, 2, 0), DIRECTORY)
    assert facts(decode_tree(encode_tree(made))) == facts(made)


def test_an_empty_tree_comes_back() -> None:
    assert facts(decode_tree(encode_tree(Tree()))) == facts(Tree())


def test_large_trees_are_cut_into_small_values() -> None:
    made = Tree()
    root = made.add_root(b"", (5, 2, 0), DIRECTORY)
    chance = random.Random(1)
    for number in range(20_000):
        content = ExtentMap(300, [(0, 100, chance.randrange(10**9), 0), (200, 100, 7, chance.randrange(10**9))])
        made.add(
            root.number,
            chance.randbytes(40).replace(b"/", b"").replace(b"\0", b""),
            (5, 10 + number, 0),
            FILE,
            content=content,
        )
    made.add(root.number, b"big", (5, 1, 0), FILE, xattrs={b"user.%d" % n: chance.randbytes(60_000) for n in range(40)})
    parts = encode_tree(made)
    assert max(map(len, parts)) < MAX_VALUE_BYTES
    assert facts(decode_tree(parts)) == facts(made)


def test_the_nearest_checkpoint_is_found(tmp_path: Path) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    saved = Checkpoints(rocks)
    assert saved.nearest(9) is None
    with pytest.raises(DamagedTraceError):
        saved.load(9)
    for number in (0, 100, 2**40):
        saved.put(number, tree())
    assert [saved.nearest(number) for number in (0, 99, 100, 101, 2**40 - 1, 2**50)] == [0, 0, 100, 100, 100, 2**40]
    assert facts(saved.get(100)) == facts(tree())
    number, found = saved.load(150)
    assert (number, facts(found)) == (100, facts(named()))


def _unlinked(made: Tree, name: bytes, number: int = 0) -> int:
    """Add a file, remove its name, and return its node."""
    node = made.add(1, name, (5, 1_000 + made.next_number, 0), FILE, content=ExtentMap(3, [(0, 3, 9, number)])).number
    made.apply(Event(1, 1, Kind.UNLINK, 1, 1, 1, node=node, parent=1, name=name, meta=Meta(0o100644, 1, 2, 3, 0)))
    return node


def test_what_has_no_name_is_saved_once_and_found_from_later_trees(tmp_path: Path) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    saved, made = Checkpoints(rocks), tree()
    gone = [_unlinked(made, b"a%d" % number) for number in range(50)]
    saved.put(10, made)
    size = sum(len(value) for _, value in rocks.scan(Key.NAMELESS))
    saved.put(20, made)
    assert sum(len(value) for _, value in rocks.scan(Key.NAMELESS)) == size
    assert facts(Checkpoints(rocks).get(20)) == facts(made)
    nameless = saved.nameless(20)
    assert [nameless.find(number).content for number in gone] == [made.nodes[number].content for number in gone]  # type: ignore[union-attr]
    assert nameless.find(1) is None
    assert saved.nameless(9).find(gone[0]) is None


def test_the_latest_of_what_changed_without_a_name_is_found(tmp_path: Path) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    saved, made = Checkpoints(rocks), tree()
    changed, dropped, linked = (_unlinked(made, name) for name in (b"a", b"b", b"c"))
    saved.put(10, made)
    made.apply(Event(2, 2, Kind.TRUNCATE, 1, 1, 1, node=changed, size=1))
    made.drop(made.nodes[dropped])
    made.apply(Event(3, 3, Kind.LINK, 1, 1, 1, node=linked, parent2=1, name2=b"back"))
    saved.put(20, made)
    assert facts(Checkpoints(rocks).get(20)) == facts(made)
    assert saved.nameless(20).find(changed).content.size == 1  # type: ignore[union-attr]
    assert saved.nameless(19).find(changed).content.size == 3  # type: ignore[union-attr]
    assert saved.nameless(20).find(dropped) is None
    assert saved.nameless(10).find(dropped) is not None
    made.apply(Event(4, 4, Kind.UNLINK, 1, 1, 1, node=linked, parent=1, name=b"back"))
    saved.put(20, made)  # once more after the same event
    assert facts(Checkpoints(rocks).get(20)) == facts(made)


def test_files_without_a_name_of_an_older_store_are_saved_with_the_next_tree(tmp_path: Path) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    made = tree()
    rocks.put_many(
        (Key.CHECKPOINT + struct.pack(">QI", 5, part), value) for part, value in enumerate(encode_tree(made))
    )
    resumed = Checkpoints(rocks).get(5)
    assert facts(resumed) == facts(made)
    Checkpoints(rocks).put(9, resumed)
    assert facts(Checkpoints(rocks).get(9)) == facts(made)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(tmp_path: Path) -> None:
    rocks = RocksStore.create(tmp_path / "store")
    saved = Checkpoints(rocks)
    for number in (0, 100, 200):
        saved.put(number, tree())
    keys = [key for key, _ in rocks.scan(b"m:k")]
    rocks.delete_many([keys[-1]])
    rocks.put_many([(keys[len(keys) // 3], b"nonsense")])
    number, found = saved.load(1000)
    assert (number, facts(found)) == (0, facts(named()))
    assert [words[:28] for words in saved.damage] == ["The checkpoint at event 200 ", "The checkpoint at event 100 "]


def part(table: int, **columns: list[int] | tuple[bytes, ...]) -> bytes:
    writer = ColumnWriter()
    writer.numbers(checkpoint.TABLE, [table])
    for name, values in columns.items():
        if isinstance(values, tuple):
            writer.strings(getattr(checkpoint, name + "_LENGTHS"), getattr(checkpoint, name + "_BYTES"), values)
        else:
            writer.numbers(getattr(checkpoint, name), values)
    return writer.to_bytes()


def header(parts: int, roots: list[int]) -> bytes:
    writer = ColumnWriter()
    writer.numbers(checkpoint.PARTS, [parts + 1])
    writer.numbers(checkpoint.ROOT_NODE, roots)
    writer.strings(checkpoint.ROOT_LABEL_LENGTHS, checkpoint.ROOT_LABELS, [b""] * len(roots))
    return writer.to_bytes()


NODES = part(checkpoint.NODES, NUMBER=[1, 2, 3, 4], MODE=[0o40755] * 3 + [0o100644], SIZE=[-1, -1, -1, 10])


@pytest.mark.parametrize(
    "parts",
    [
        [part(checkpoint.NAMES, NAME_NODE=[2], NAME_PARENT=[9], NAME=(b"a",))],
        [part(checkpoint.NAMES, NAME_NODE=[9], NAME_PARENT=[1], NAME=(b"a",))],
        [part(checkpoint.NAMES, NAME_NODE=[2], NAME_PARENT=[4], NAME=(b"a",))],
        [part(checkpoint.NAMES, NAME_NODE=[1], NAME_PARENT=[2], NAME=(b"a",))],
        [part(checkpoint.NAMES, NAME_NODE=[2, 3], NAME_PARENT=[3, 2], NAME=(b"a", b"b"))],
        [part(checkpoint.NAMES, NAME_NODE=[2], NAME_PARENT=[2], NAME=(b"a",))],
        [part(checkpoint.NAMES, NAME_NODE=[2, 2], NAME_PARENT=[1, 1], NAME=(b"a", b"b"))],
        [part(checkpoint.NAMES, NAME_NODE=[2, 3], NAME_PARENT=[1, 1], NAME=(b"a", b"a"))],
        *(
            [part(checkpoint.NAMES, NAME_NODE=[4], NAME_PARENT=[1], NAME=(name,))]
            for name in (b"", b"..", b".", b"a/b", b"\0")
        ),
        [part(checkpoint.NODES, NUMBER=[0], MODE=[0o100644])],
        [part(checkpoint.NODES, NUMBER=[5], MODE=[-1])],
        [part(checkpoint.NODES, NUMBER=[5], MODE=[2**40])],
    ],
)
def test_names_that_are_no_tree_are_refused(parts: list[bytes]) -> None:
    assert decode_tree([header(1, [1]), NODES]).path_of
    with pytest.raises(DamagedTraceError):
        decode_tree([header(1 + len(parts), [1]), NODES, *parts])


@pytest.mark.parametrize("extent", [(5, 9, 1, 0), (-1, 2, 1, 0), (0, 0, 1, 0), (0, 1, -1, 0), (0, 1, 1, -1)])
def test_extents_that_make_no_sense_are_refused(extent: tuple[int, int, int, int]) -> None:
    offset, length, blob, start = extent
    extents = part(
        checkpoint.EXTENTS,
        EXTENT_NODE=[4],
        EXTENT_OFFSET=[offset],
        EXTENT_LENGTH=[length],
        EXTENT_BLOB=[blob],
        EXTENT_START=[start],
    )
    with pytest.raises(DamagedTraceError):
        decode_tree([header(2, [1]), NODES, extents])
