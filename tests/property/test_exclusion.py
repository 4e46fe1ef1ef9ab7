"""Whatever is done to a folder, the shown tree is the folder without what is excluded, and holds no bytes of that."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffkeeper.model.event import Kind, Mark, Meta
from diffkeeper.model.exclusion import Exclusion, WholeTree, shown_part
from diffkeeper.model.resolve import Resolver
from diffkeeper.rules import Rules
from property.test_replay import QUICK, Script, anything, folders, forget_times_and_modes, operations, readings
from witness import START_NS, Blobs, State, Witness, state_of_folder, state_of_tree

pytest.importorskip("pathspec")

RULES = st.sampled_from([["b"], ["b/"], ["/a/b"], ["*", "!/a", "!d"], ["/a/c", "d/"], ["a/", "!/a"], ["c", "d"]])
scripts = st.lists(operations, min_size=1, max_size=40)


class Shown(Witness):
    """A witness whose resolver has a filter behind it."""

    def __init__(self, root: bytes, limit: bytes, rules: Rules, *, untouched: bool) -> None:
        super().__init__(root, limit, untouched=untouched)
        self.rules = rules
        whole = WholeTree.of(self.tree)
        self.exclusion = Exclusion(whole, shown_part(whole, rules.is_excluded), rules.is_excluded, self.blobs)
        self.tree = whole
        self.resolver = Resolver(whole, START_NS, self.exclusion.sink, {b"root": root})
        self.shown_baseline = self.exclusion.shown.copy()

    def expected(self) -> dict[bytes, State]:
        """Return the folder without what is excluded."""
        found = state_of_folder(self.root)
        left = {path: state for path, state in found.items() if not self.rules.is_excluded(path, _is_directory(state))}
        for state in left.values():
            state.links = tuple(path for path in state.links if path in left)
        return left


def _is_directory(state: State) -> bool:
    return state.mode >> 12 == 0o4


class ShownScript(Script):
    """Compare the shown tree with the folder at each check."""

    witness: Shown

    def _check(self) -> None:
        witness, shown = self.witness, self.witness.exclusion.shown
        found, expected = state_of_tree(shown, witness.blobs), witness.expected()
        imported = {event.node for event in witness.events if event.kind == Kind.IMPORT}
        for path, node in shown.walk():
            if node.number in imported and path in expected:
                found[path].xattrs = expected[path].xattrs  # an import does not bring them
        if witness.untouched:
            forget_times_and_modes(found, expected)
        assert found == expected


def play(script: list[tuple[Any, ...]], patterns: list[str], *, untouched: bool) -> None:
    """Play operations, compare at each check, and fold the shown events once more."""
    rules = Rules.from_patterns(patterns)
    with folders() as (root, limit), contextlib.closing(Shown(root, limit, rules, untouched=untouched)) as witness:
        player = ShownScript(witness)
        for operation in script:
            player.play(operation)
            player.play(("check",))
        events = witness.exclusion.take()
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        refolded = witness.shown_baseline.copy()
        for event in events:
            refolded.apply(event)
            is_outside = event.kind in (Kind.LINK, Kind.UNLINK, Kind.RENAME) and not event.parent + event.parent2
            for path in () if is_outside else (event.path, event.path2 if event.parent2 else b""):
                assert not path or not rules.is_excluded(path.removesuffix(b" (deleted)"), _is_made_directory(event))
            assert not event.marks & Mark.UNKNOWN_DATA
        assert state_of_tree(refolded, witness.blobs) == state_of_tree(witness.exclusion.shown, witness.blobs)


def _is_made_directory(event: Any) -> bool:
    return event.kind in (Kind.MKDIR, Kind.RMDIR) or (event.meta is not None and event.meta.mode >> 12 == 0o4)


@QUICK
@given(scripts, RULES)
def test_the_shown_tree_is_the_folder_without_what_is_excluded(script: list[Any], patterns: list[str]) -> None:
    play(script, patterns, untouched=False)


@QUICK
@given(scripts, RULES)
def test_it_is_where_names_are_known_by_their_strings(script: list[Any], patterns: list[str]) -> None:
    play(script, patterns, untouched=True)


@QUICK
@given(st.lists(st.tuples(anything, readings, st.booleans()), max_size=25), RULES)
def test_no_sequence_of_observations_stops_the_filter(sequence: list[Any], patterns: list[str]) -> None:
    rules, whole, blobs = Rules.from_patterns(patterns), WholeTree(), Blobs()
    whole.add_root(b"r", (1, 1, 0), Meta(0o040755, 0, 0, 0))
    exclusion = Exclusion(whole, shown_part(whole, rules.is_excluded), rules.is_excluded, blobs)
    resolver = Resolver(whole, 10, exclusion.sink, {b"r": b"/r"})
    again = None
    for observation, late, is_exact in sequence:
        if observation.t_ns >= 10 and again is None:
            again = exclusion.shown.copy()
        if again is None or observation.t_ns >= 10:
            resolver.feed(observation, late, is_exact)
    resolver.finish()
    events = exclusion.take()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    for event in events:
        assert again is not None
        again.apply(event)
    if again is not None:
        assert state_of_tree(again, blobs) == state_of_tree(exclusion.shown, blobs)
    assert all(not rules.is_excluded(path, node.is_directory) for path, node in exclusion.shown.walk() if path)
