"""Play a scenario on real files: ``python real.py SCENARIO ROOT [PAUSE]``, or look at them after each operation.

With a pause (in seconds) after each operation, also those see each state who only look now and then.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conformance.scenarios import BASELINE, SCENARIOS

State = dict[bytes, tuple[str, int, bytes, frozenset[bytes]]]
"""Path to kind, permissions, bytes or target, and all names of the same file."""


class RealActor:
    """Do operations on real files."""

    def __init__(self, root: Path, after_each: Callable[[], None] = lambda: None) -> None:
        self._root = root
        self._after_each = after_each
        self._open: dict[str, int] = {}

    def _done(self) -> None:
        self._after_each()

    def _descriptor(self, path: str) -> int:
        if path not in self._open:
            self._open[path] = os.open(self._root / path, os.O_RDWR)
        return self._open[path]

    def create(self, path: str) -> None:
        self._open[path] = os.open(self._root / path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        self._done()

    def write(self, path: str, data: bytes, offset: int | None = None) -> None:
        fd = self._descriptor(path)
        os.pwrite(fd, data, os.fstat(fd).st_size if offset is None else offset)
        self._done()

    def truncate(self, path: str, size: int) -> None:
        os.ftruncate(self._descriptor(path), size)
        self._done()

    def close(self, path: str) -> None:
        os.close(self._open.pop(path))

    def save(self, path: str, data: bytes) -> None:
        if (self._root / path).exists():
            self.truncate(path, 0)
        else:
            self.create(path)
        self.write(path, data)
        self.close(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(self._root / path)
        self._done()

    def symlink(self, path: str, target: str) -> None:
        os.symlink(target, self._root / path)
        self._done()

    def link(self, path: str, path2: str) -> None:
        os.link(self._root / path, self._root / path2)
        self._done()

    def unlink(self, path: str) -> None:
        os.unlink(self._root / path)
        self._done()

    def rename(self, path: str, path2: str) -> None:
        os.rename(self._root / path, self._root / path2)
        self._done()

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._root / path, mode)
        self._done()


def prepare(root: Path) -> None:
    """Put the files that every scenario starts from."""
    root.mkdir()
    for name, data in BASELINE.items():
        (root / name).write_bytes(data)
        (root / name).chmod(0o644)


def states_of(scenario: str, root: Path) -> list[State]:
    """Return the states that a scenario goes through, each once as long as nothing changes."""
    prepare(root)
    states = [look(root)]

    def note() -> None:
        state = look(root)
        if state != states[-1]:
            states.append(state)

    SCENARIOS[scenario](RealActor(root, note))
    return states


def look(root: Path) -> State:
    """Return what is below a folder."""
    found: dict[bytes, tuple[str, int, bytes, int]] = {}
    top = os.fsencode(root)
    for folder, directories, files in os.walk(top):
        for name in directories + files:
            full = os.path.join(folder, name)
            status = os.lstat(full)
            kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(stat.S_IFMT(status.st_mode), "f")
            content = os.readlink(full) if kind == "l" else Path(os.fsdecode(full)).read_bytes() if kind == "f" else b""
            found[full[len(top) + 1 :]] = (kind, stat.S_IMODE(status.st_mode), content, status.st_ino)
    return with_names(found)


def with_names(found: dict[bytes, tuple[str, int, bytes, int]]) -> State:
    """Replace the number of each file by all of its names."""
    names: dict[int, set[bytes]] = {}
    for path, entry in found.items():
        names.setdefault(entry[3], set()).add(path)
    return {path: (*entry[:3], frozenset(names[entry[3]])) for path, entry in found.items()}


if __name__ == "__main__":
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    SCENARIOS[sys.argv[1]](RealActor(Path(sys.argv[2]), lambda: time.sleep(pause)))
