"""The directories that a recording watches: opened, identified and labelled before anything is touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence

from diffkeeper import beneath
from diffkeeper.errors import RecordError
from diffkeeper.model.values import dataclass
from diffkeeper.mounts import Place, place_of

_MOST_ROOTS = 32


@dataclass(frozen=True, slots=True)
class WatchRoot:
    """Hold an open watch root; ``label`` is what its paths begin with in the trace, empty for a single root."""

    label: bytes
    path: bytes
    descriptor: int
    identity: tuple[int, int, int]


def open_roots(paths: Sequence[str | os.PathLike[str]]) -> list[WatchRoot]:
    """Open the directories; one that lies in another of them, by whatever mount, is left out.

    One on another file system that is mounted below another root is a root of its own. Raises RecordError; closes all
    then.
    """
    if not 0 < len(set(paths)) <= _MOST_ROOTS:
        raise RecordError(f"watch between 1 and {_MOST_ROOTS} directories")
    with contextlib.ExitStack() as opened:
        descriptors = {}
        for path in paths:
            resolved = os.path.realpath(os.fsencode(path))
            if resolved not in descriptors:
                descriptors[resolved] = _open_root(os.fspath(path))
                opened.callback(beneath.close, descriptors[resolved])
        outer = _outermost(descriptors)
        labels = _labels(outer)
        roots = [
            WatchRoot(labels[path], path, beneath.dup(descriptors[path]), _identity(descriptors[path]))
            for path in outer
        ]
    return roots


def _identity(descriptor: int) -> tuple[int, int, int]:
    """Return (s_dev, inode, generation) of an open directory."""
    if beneath.HAS_DESCRIPTORS:
        from diffkeeper.helper_protocol import directory_identity

        return directory_identity(descriptor)
    status = beneath.status(descriptor)
    return beneath.s_dev(status.st_dev), status.st_ino & (1 << 64) - 1, 0


def _outermost(descriptors: Mapping[bytes, int]) -> list[bytes]:
    """Return the paths of the directories that lie in none of the others; of two that are one the first."""
    if len(descriptors) == 1:
        return list(descriptors)
    places = {path: place_of(descriptor) for path, descriptor in descriptors.items()}
    kept: list[bytes] = []
    for path in sorted(descriptors, key=lambda path: _depth(path, places[path])):
        if not any(_lies_in(path, other, places) for other in kept):
            kept.append(path)
    return [path for path in descriptors if path in kept]


def _depth(path: bytes, place: Place | None) -> int:
    return (place.path if place is not None else path).rstrip(b"/").count(b"/")


def _lies_in(path: bytes, other: bytes, places: Mapping[bytes, Place | None]) -> bool:
    own, others = places[path], places[other]
    return is_inside(path, other) if own is None or others is None else own.is_within(others)


def close_roots(roots: Iterable[WatchRoot]) -> None:
    """Close the descriptors."""
    for root in roots:
        beneath.close(root.descriptor)


def is_inside(path: bytes, directory: bytes) -> bool:
    """Say whether one absolute path lies below another."""
    return path != directory and path.startswith(directory.rstrip(b"/") + b"/")


def device_and_inode(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (s_dev, inode) of a path, the device as the kernel numbers it."""
    status = os.stat(path)
    return beneath.s_dev(status.st_dev), status.st_ino & (1 << 64) - 1


def _open_root(path: str) -> int:
    try:
        return beneath.open_directory(path, follows=True)
    except FileNotFoundError:
        raise RecordError(f"cannot watch {path!r}: there is no such directory; create it, or correct --watch") from None
    except NotADirectoryError:
        raise RecordError(f"cannot watch {path!r}: it is not a directory; watch the one it lies in") from None
    except OSError as error:
        raise RecordError(f"cannot watch {path!r}: {error.strerror}") from None


def _labels(paths: Sequence[bytes]) -> dict[bytes, bytes]:
    """Name each root after its last component, numbered where two have the same."""
    if len(paths) == 1:
        return {paths[0]: b""}
    labels: dict[bytes, bytes] = {}
    for path in paths:
        name = os.path.basename(path) or b"root"
        taken = set(labels.values())
        choices = (name, *(b"%b-%d" % (name, number) for number in range(2, _MOST_ROOTS + 2)))
        labels[path] = next(choice for choice in choices if choice not in taken)
    return labels
