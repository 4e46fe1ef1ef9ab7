"""Hold a set of processes still: the freezer of cgroup v2 or, where that is not mounted, of cgroup v1."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_PATIENCE_S = 10.0
_STEP_S = 0.0005


class FreezerUnavailableError(Exception):
    """Report that processes cannot be frozen here."""


class Freezer:
    """Own one cgroup; processes join it by writing their pid to ``join_file``."""

    def __init__(self, name: str) -> None:
        self._directory, self._is_v2 = _make_directory(name)
        self.join_file = self._directory / "cgroup.procs"

    @property
    def is_populated(self) -> bool:
        """Say whether there is a process in it."""
        return bool(self.pids)

    @property
    def pids(self) -> list[int]:
        """Return the processes in it."""
        return [int(pid) for pid in self.join_file.read_text().split()]

    def freeze(self) -> int | None:
        """Stop all processes and return CLOCK_MONOTONIC once none runs any more; None without any, or if they resist.

        A task stops on its way back to user space, so a call that changed a file has been left by then.
        """
        self._command(frozen=True)
        limit = time.monotonic() + _PATIENCE_S
        while not self._is_frozen():
            if not self.is_populated or time.monotonic() > limit:
                self.thaw()
                return None
            time.sleep(_STEP_S)
        return time.monotonic_ns()

    def thaw(self) -> None:
        """Let them run on."""
        self._command(frozen=False)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[int | None]:
        """Freeze for the duration of a block; gives what ``freeze`` returns."""
        try:
            yield self.freeze()
        finally:
            self.thaw()

    def close(self) -> None:
        """Remove the cgroup, once the last of its processes is gone."""
        self.thaw()
        limit = time.monotonic() + _PATIENCE_S
        while self.is_populated and time.monotonic() < limit:
            time.sleep(0.01)
        self._directory.rmdir()

    def _command(self, *, frozen: bool) -> None:
        if self._is_v2:
            (self._directory / "cgroup.freeze").write_text("1" if frozen else "0")
        else:
            (self._directory / "freezer.state").write_text("FROZEN" if frozen else "THAWED")

    def _is_frozen(self) -> bool:
        if self._is_v2:
            return "frozen 1" in (self._directory / "cgroup.events").read_text() and self.is_populated
        return (self._directory / "freezer.state").read_text().strip() == "FROZEN" and self.is_populated


def _make_directory(name: str) -> tuple[Path, bool]:
    """Make the cgroup; returns where, and whether it is of version 2."""
    reasons = ["no cgroup freezer is mounted"]
    for mount_point, is_v2 in sorted(_freezers(), key=lambda one: not one[1]):
        directory = mount_point / name
        try:
            directory.mkdir()
        except OSError as error:
            reasons.append(str(error))
            continue
        if (directory / ("cgroup.freeze" if is_v2 else "freezer.state")).exists():
            return directory, is_v2
        directory.rmdir()
    raise FreezerUnavailableError(reasons[-1])


def _freezers() -> Iterator[tuple[Path, bool]]:
    """Yield the mount points whose cgroups can be frozen."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            yield Path(mount_point), True
        elif kind == "cgroup" and "freezer" in options.split(","):
            yield Path(mount_point), False


def refusal() -> str | None:
    """Return why processes cannot be frozen here, or None."""
    try:
        Freezer(f"diffkeeper-oracle-probe-{os.getpid()}").close()
    except FreezerUnavailableError as error:
        return str(error)
    return None
