"""What a loss makes doubtful: a range of a file, a file, or, where nothing is known of what was lost, the whole tree.

A GAP stands where the window of the loss begins, and for a file another one (with count 0) where it ends: what was
written between them may have come before what is missing. The doubt goes with a RESYNC.
"""

from __future__ import annotations

from collections.abc import Iterable

from diffkeeper.model.event import Event
from diffkeeper.model.node import Node
from diffkeeper.model.observation import Lost

FILE_IN_DOUBT = "a change to it was lost"
TREE_IN_DOUBT = "changes were lost, and of what is not known"

WHAT = {
    Lost.UNKNOWN: b"",
    Lost.BYTES: b"bytes",
    Lost.SIZE: b"size",
    Lost.NAME: b"name",
    Lost.OPEN: b"open",
    Lost.METADATA: b"metadata",
    Lost.CLOSE: b"close",
    Lost.OUTPUT: b"output",
    Lost.PROCESS: b"process",
    Lost.HOLE: b"hole",
}
"""What the GAP of a loss has as its value."""

_HARMLESS = frozenset({b"close", b"output", b"process"})  # to the files


def taint(event: Event, node: Node | None, roots: Iterable[Node]) -> None:
    """Make doubtful what a GAP is about: its node, or everything below the roots if it names none."""
    if event.value in _HARMLESS:
        return
    if not event.node and event.value == b"hole":
        return  # of a file that is not below a root: one that came to be below it would have changed a directory there
    if not event.node or (node is not None and node.is_directory and event.value == b"hole"):
        for root in roots:
            root.inexact = TREE_IN_DOUBT
    elif node is not None:
        node.doubt(FILE_IN_DOUBT)
        if node.content is not None and event.value == b"bytes":
            node.content.write_unknown(event.offset, event.length)


def is_tainted(node: Node) -> bool:
    """Say whether a loss has made a node, or all below it if it is a root, doubtful."""
    return FILE_IN_DOUBT in node.inexact or TREE_IN_DOUBT in node.inexact
