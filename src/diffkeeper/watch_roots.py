"""The directories that a recording watches: opened, identified and labelled before anything is touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

from diffkeeper.errors import RecordError
from diffkeeper.helper_protocol import directory_identity
from diffkeeper.model.values import dataclass

_MOST_ROOTS = 32


@dataclass(frozen=True, slots=True)
class WatchRoot:
    """Hold an open watch root; ``label`` is what its paths begin with in the trace, empty for a single root."""

    label: bytes
    path: bytes
    descriptor: int
    identity: tuple[int, int, int]


def open_roots(paths: Sequence[str | os.PathLike[str]]) -> list[WatchRoot]:
    """Open the directories; one that lies in another of them is left out. Raises RecordError; closes all then."""
    if not 0 < len(set(paths)) <= _MOST_ROOTS:
        raise RecordError(f"watch between 1 and {_MOST_ROOTS} directories")
    with contextlib.ExitStack() as opened:
        descriptors = {}
        for path in paths:
            resolved = os.path.realpath(os.fsencode(path))
            if resolved not in descriptors:
                descriptors[resolved] = _open_root(os.fspath(path))
                opened.callback(os.close, descriptors[resolved])
        outer = [path for path in descriptors if not any(is_inside(path, other) for other in descriptors)]
        labels = _labels(outer)
        roots = [
            WatchRoot(labels[path], path, os.dup(descriptors[path]), directory_identity(descriptors[path]))
            for path in outer
        ]
    return roots


def close_roots(roots: Iterable[WatchRoot]) -> None:
    """Close the descriptors."""
    for root in roots:
        os.close(root.descriptor)


def is_inside(path: bytes, directory: bytes) -> bool:
    """Say whether one absolute path lies below another."""
    return path != directory and path.startswith(directory.rstrip(b"/") + b"/")


def device_and_inode(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (s_dev, inode) of a path, the device as the kernel numbers it."""
    status = os.stat(path)
    return os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino


def _open_root(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
