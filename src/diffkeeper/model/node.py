"""One entry of the tree: what a file, directory, link or device is, apart from the names that lead to it."""

from __future__ import annotations

import stat

from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap

Identity = tuple[int, int, int]  # dev, ino, generation
NO_IDENTITY: Identity = (0, 0, 0)
GENERATION_UNKNOWN = -1
PENDING = "a request may be writing to it"
"""A reason to doubt that goes when the request has ended."""


class Node:
    """Hold one node; ``children`` is None unless it is a directory, ``content`` is None unless it is a regular file.

    ``names`` are (number of the directory, name). ``inexact`` says why the bytes may not be trusted, empty if they may.
    Identity belongs to the live tree of the resolver and to the baseline; events do not carry it.
    """

    __slots__ = ("children", "content", "identity", "inexact", "meta", "names", "number", "target", "xattrs")

    def __init__(
        self,
        number: int,
        identity: Identity,
        meta: Meta,
        *,
        content: ExtentMap | None = None,
        target: bytes = b"",
        xattrs: dict[bytes, bytes] | None = None,
        inexact: str = "",
    ) -> None:
        self.number = number
        self.identity = identity
        self.meta = meta
        self.names: set[tuple[int, bytes]] = set()
        self.children: dict[bytes, int] | None = {} if stat.S_ISDIR(meta.mode) else None
        self.content = (content or ExtentMap()) if stat.S_ISREG(meta.mode) else None
        self.target = target
        self.xattrs: dict[bytes, bytes] = {} if xattrs is None else xattrs
        self.inexact = inexact

    def copy(self) -> Node:
        """Return a node that changes on its own."""
        twin = Node.__new__(Node)
        twin.number, twin.identity, twin.meta = self.number, self.identity, self.meta
        twin.names = set(self.names)
        twin.children = None if self.children is None else dict(self.children)
        twin.content = None if self.content is None else self.content.copy()
        twin.target, twin.xattrs, twin.inexact = self.target, dict(self.xattrs), self.inexact
        return twin

    def doubt(self, reason: str) -> None:
        """Add a reason why the bytes may not be trusted, unless it is one already."""
        if reason not in self.inexact:
            self.inexact = f"{self.inexact}; {reason}" if self.inexact else reason

    def trust(self, *reasons: str) -> None:
        """Take away reasons to doubt; without any, all but that requests may be writing."""
        kept = [each for each in self.inexact.split("; ") if (each not in reasons if reasons else each == PENDING)]
        self.inexact = "; ".join(kept)

    @property
    def doubts_for_good(self) -> bool:
        """Say whether there is a reason to doubt that does not end by itself."""
        return self.inexact not in ("", PENDING)

    @property
    def is_directory(self) -> bool:
        """Say whether it is a directory."""
        return self.children is not None

    @property
    def is_regular(self) -> bool:
        """Say whether it is a regular file."""
        return self.content is not None

    @property
    def is_symlink(self) -> bool:
        """Say whether it is a symbolic link."""
        return stat.S_ISLNK(self.meta.mode)

    @property
    def size(self) -> int:
        """Return the size in bytes of a regular file, 0 of anything else."""
        return self.content.size if self.content is not None else 0

    @property
    def is_provisional(self) -> bool:
        """Say whether it came to be by a call that did not tell its inode."""
        return self.identity[1] == 0 and self.identity[2] < 0

    def __repr__(self) -> str:
        return f"Node({self.number}, {self.identity}, {self.meta.mode:o}, {sorted(self.names)})"
