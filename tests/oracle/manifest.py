"""What a tree held at one instant, and how two such states differ."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

BLOCK_BYTES = 4096
_ZEROS = bytes(1 << 20)


@dataclass(frozen=True)
class Content:
    """Hold the bytes of a file as a digest, and a checksum of each 4 KiB block to find where two files part."""

    size: int
    digest: bytes
    blocks: tuple[int, ...]

    def describe_difference(self, other: Content) -> str:
        """Say where the bytes part."""
        if self.size != other.size:
            return f"size {self.size}, not {other.size}"
        blocks = [at for at, (a, b) in enumerate(zip(self.blocks, other.blocks, strict=True)) if a != b]
        return f"{len(blocks)} blocks of 4 KiB differ, the first at {blocks[0] * BLOCK_BYTES} of {self.size}"


@dataclass(frozen=True)
class State:
    """Hold all that is compared of one entry; ``links`` is the first name of its file, in byte order."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    rdev: int
    target: bytes
    xattrs: tuple[tuple[bytes, bytes], ...]
    links: bytes
    content: Content | None


Manifest = dict[bytes, State]


@dataclass(frozen=True)
class Difference:
    """Name one thing in which an entry is not as it was."""

    path: bytes
    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.path!r}: {self.what}: expected {self.expected!r}, found {self.found!r}"


@dataclass
class Hasher:
    """Digest bytes as they come; a hole may be skipped."""

    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    _blocks: list[int] = field(default_factory=list)
    _rest: bytes = b""
    size: int = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._digest.update(data)
        data = self._rest + data
        whole = len(data) // BLOCK_BYTES * BLOCK_BYTES
        self._blocks += (zlib.crc32(data[at : at + BLOCK_BYTES]) for at in range(0, whole, BLOCK_BYTES))
        self._rest = data[whole:]

    def add_zeros(self, length: int) -> None:
        for at in range(0, length, len(_ZEROS)):
            self.add(_ZEROS[: length - at])

    def content(self) -> Content:
        if self._rest:
            self._blocks.append(zlib.crc32(self._rest))
        return Content(self.size, self._digest.digest(), tuple(self._blocks))


def with_links(states: Manifest, files: dict[bytes, object]) -> Manifest:
    """Name each file by the first of its names."""
    first: dict[object, bytes] = {}
    for path in sorted(states):
        first.setdefault(files[path], path)
    return {path: replace(state, links=first[files[path]]) for path, state in states.items()}


def compare(expected: Manifest, found: Manifest) -> list[Difference]:
    """Return every difference, by path."""
    differences = []
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            differences.append(Difference(path, "missing", expected[path].kind, None))
        elif path not in expected:
            differences.append(Difference(path, "should not be there", None, found[path].kind))
        else:
            differences += _compare_states(path, expected[path], found[path])
    return differences


def _compare_states(path: bytes, expected: State, found: State) -> Iterator[Difference]:
    """Yield what differs between two states of one path."""
    for each in fields(State):
        ours, theirs = getattr(expected, each.name), getattr(found, each.name)
        if ours == theirs:
            continue
        if isinstance(ours, Content) and isinstance(theirs, Content):
            yield Difference(path, "bytes", f"sha256 {ours.digest.hex()[:12]}", theirs.describe_difference(ours))
        elif each.name == "xattrs":
            yield from _compare_attributes(path, dict(expected.xattrs), dict(found.xattrs))
        elif each.name == "mode":
            yield Difference(path, "mode", oct(ours), oct(theirs))
        else:
            yield Difference(path, each.name, ours, theirs)


def _compare_attributes(path: bytes, expected: dict[bytes, bytes], found: dict[bytes, bytes]) -> Iterator[Difference]:
    """Yield the extended attributes that differ."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            ours, theirs = (values[name].hex() if name in values else None for values in (expected, found))
            yield Difference(path, "xattrs", f"{name!r} {ours}", theirs)
