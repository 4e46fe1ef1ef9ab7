"""Where the resolver puts bytes, and when a file's stream of bytes ends and on what it is based.

A file written anew under a temporary name and then renamed over the old one is based on the old one; that is known only
at the rename, so a stream without a base stays open for a while after the file was closed.
"""

from __future__ import annotations

from typing import Protocol

from diffkeeper.model.node import Node

_MOST_WAITING = 32


class BlobSink(Protocol):
    """Take the bytes of nodes; the store's ContentWriter is one. A blob is an append-only stream of one node."""

    def append(self, node: int, data: bytes) -> tuple[int, int]:
        """Append bytes to the node's current blob and return (blob, start in it)."""

    def peek(self, blob: int, start: int, length: int) -> bytes | None:
        """Return bytes of a blob, None where they cannot be had."""

    def end(self, node: int, base_blob: int, is_executable: bool) -> None:
        """End the node's current blob, to be kept relative to ``base_blob`` (0: to nothing)."""


class ContentLog:
    """Append bytes of nodes to blobs and end those streams at the right time."""

    def __init__(self, sink: BlobSink) -> None:
        self.append = sink.append
        self.peek = sink.peek
        self._end = sink.end
        self.written: set[int] = set()  # nodes with bytes since their last close
        self._bases: dict[int, int] = {}
        self._waiting: dict[int, bool] = {}  # closed, but not yet ended

    def emptied(self, node: Node) -> None:
        """Note that a file is about to be cut to nothing: what follows is a new version, based on the old one."""
        assert node.content is not None, "only regular files are emptied"
        base = node.content.first_blob
        if not base:
            return
        if node.number in self.written or self._waiting.pop(node.number, None) is not None:
            self._end(node.number, self._bases.pop(node.number, 0), _is_executable(node))
        self._bases[node.number] = base

    def replaced(self, node: Node, old: Node) -> None:
        """Note that a file takes the place of another."""
        base = old.content.first_blob if old.content is not None else 0
        if not base or node.content is None or node.content.first_blob == base:
            return
        if self._waiting.pop(node.number, None) is not None:
            self._end(node.number, base, _is_executable(node))
        elif node.number in self.written:
            self._bases[node.number] = base

    def closed(self, node: Node) -> bool:
        """Note that a file was closed; return whether it had been written since the last time."""
        number = node.number
        if number not in self.written:
            return False
        self.written.discard(number)
        base = self._bases.pop(number, 0)
        if base:
            self._end(number, base, _is_executable(node))
        else:
            self._wait(number, _is_executable(node))
        return True

    def read_back(self, number: int, is_executable: bool) -> None:
        """Note bytes that no process wrote under the recording's eyes; nothing will close them."""
        if number not in self.written:
            self._wait(number, is_executable)

    def _wait(self, number: int, is_executable: bool) -> None:
        self._waiting[number] = is_executable
        if len(self._waiting) > _MOST_WAITING:
            oldest = next(iter(self._waiting))
            self._end(oldest, 0, self._waiting.pop(oldest))

    def finish(self) -> None:
        """End every stream that is still open."""
        for number, is_executable in self._waiting.items():
            self._end(number, 0, is_executable)
        for number in self.written - self._waiting.keys():
            self._end(number, self._bases.get(number, 0), False)
        self.written.clear()
        self._waiting.clear()
        self._bases.clear()


def _is_executable(node: Node) -> bool:
    return bool(node.meta.mode & 0o111)
