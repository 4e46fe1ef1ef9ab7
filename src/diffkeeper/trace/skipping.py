"""Which blocks of events a question need not read, by what the index and the summaries say of them."""

from __future__ import annotations

from collections.abc import Callable, Collection

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.event import Kind, Mark
from diffkeeper.model.timeline import ALWAYS_KINDS, LOSSES, NAMELESS_KINDS, EventFilter
from diffkeeper.store.eventlog import BlockFacts, EventReader
from diffkeeper.store.touched import Touched

MayHold = Callable[[BlockFacts], bool]
"""Say whether a block may hold what is asked for; no block that does is ever denied."""


def mask(kinds: Collection[Kind]) -> int:
    """Return kinds as the bits that the index has."""
    return sum(1 << kind for kind in kinds)


def may_admit(reader: EventReader, wanted: EventFilter) -> MayHold:
    """Return what says whether a block may hold an event that a filter admits."""
    kinds = mask(wanted.kinds | ALWAYS_KINDS)
    if wanted.paths.is_everything and not wanted.pids:
        return lambda facts: bool(facts.kinds & kinds)
    # What the paths that were asked for do not matter to.
    always = mask(LOSSES if wanted.pids else LOSSES | (wanted.kinds & NAMELESS_KINDS))
    return lambda facts: bool(
        facts.kinds & kinds and (facts.kinds & always or _touches(reader, facts, lambda it: _admits(wanted, it)))
    )


def _admits(wanted: EventFilter, touched: Touched) -> bool:
    if wanted.pids and wanted.pids.isdisjoint(touched.pids()):
        return False
    if wanted.paths.is_everything or touched.marks() & Mark.UNRESOLVED:
        return True
    return bool(wanted.pids and wanted.kinds & NAMELESS_KINDS) or any(map(wanted.paths.matches, touched.paths()))


def may_name(reader: EventReader, path: bytes) -> MayHold:
    """Return what says whether a block may hold an event with that path."""
    return lambda facts: _touches(reader, facts, lambda it: path in it.paths())


def may_touch(reader: EventReader, nodes: Collection[int]) -> MayHold:
    """Return what says whether a block may hold an event of one of some nodes."""
    wanted = frozenset(nodes)
    return lambda facts: _touches(reader, facts, lambda it: not wanted.isdisjoint(it.nodes()))


def _touches(reader: EventReader, facts: BlockFacts, does: Callable[[Touched], bool]) -> bool:
    try:
        touched = reader.touched(facts)
        return touched is None or does(touched)
    except DamagedTraceError:
        return True  # the block itself tells
