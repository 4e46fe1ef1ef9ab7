"""What an engine must see rightly: short programs of file operations, the same for real files and for made-up ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Actor(Protocol):
    """Do operations below a root; paths are relative to it."""

    def create(self, path: str) -> None: ...
    def write(self, path: str, data: bytes, offset: int | None = None) -> None: ...
    def truncate(self, path: str, size: int) -> None: ...
    def close(self, path: str) -> None: ...
    def save(self, path: str, data: bytes) -> None: ...
    def mkdir(self, path: str) -> None: ...
    def symlink(self, path: str, target: str) -> None: ...
    def link(self, path: str, path2: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, path: str, path2: str) -> None: ...
    def chmod(self, path: str, mode: int) -> None: ...


BASELINE = {"kept": b"kept as it is", "changed": b"before the recording", "linked": b"two names"}
"""Files that are there before each scenario."""


def overwriting(actor: Actor) -> None:
    """Bytes, sizes and holes of one file."""
    actor.create("a")
    actor.write("a", b"hello world")
    actor.write("a", b"WORLD", 6)
    actor.write("a", b"far", 9000)
    actor.truncate("a", 8)
    actor.truncate("a", 20)
    actor.close("a")
    actor.save("changed", b"after")


def replacing_atomically(actor: Actor) -> None:
    """A file written under a temporary name and renamed over the old one, twice."""
    for version in (b"first", b"second and longer"):
        actor.save("changed.tmp", version)
        actor.rename("changed.tmp", "changed")


def moving_trees(actor: Actor) -> None:
    """Directories renamed with what is in them, and used under their new names."""
    actor.mkdir("a")
    actor.mkdir("a/b")
    actor.save("a/b/file", b"deep")
    actor.rename("a", "z")
    actor.save("z/b/other", b"below the new name")
    actor.rename("z/b", "b")
    actor.save("b/file", b"changed")


def hard_links(actor: Actor) -> None:
    """Names of one file come, go and move."""
    actor.link("linked", "second")
    actor.write("second", b" and bytes", 9)
    actor.close("second")
    actor.unlink("linked")
    actor.link("second", "third")
    actor.rename("third", "linked")


def reusing_names(actor: Actor) -> None:
    """One name for many files, one after the other."""
    for number in range(5):
        actor.save("name", b"%d" % number)
        actor.unlink("name")
    actor.symlink("name", "kept")
    actor.unlink("name")
    actor.mkdir("name")


def odd_names(actor: Actor) -> None:
    """Names with newlines, bytes that are no UTF-8, and as long as can be."""
    for name in ("new\nline", "caf\udce9", "n" * 255, " ", "-rf", "\u202e"):
        actor.save(name, name.encode("utf-8", "surrogateescape"))
    actor.chmod("caf\udce9", 0o600)


SCENARIOS: dict[str, Callable[[Actor], None]] = {
    scenario.__name__: scenario
    for scenario in (overwriting, replacing_atomically, moving_trees, hard_links, reusing_names, odd_names)
}
