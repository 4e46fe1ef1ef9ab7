"""Run a workload under ``diffkeeper record``; at random instants hold it still and take the truth about its tree."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from oracle.folder import FolderReader
from oracle.freezer import Freezer
from oracle.manifest import Manifest
from oracle.mapped import mapped_inodes
from oracle.workloads import CACHE, Workload, environment

_LIMIT_S = 600
_FIRST_PAUSE_S = 0.02
_MAPPED_S = 0.25  # stores into a shared mapping are looked for every 100 ms, and the look takes its time
_JOIN_AND_RUN = 'echo $$ > "$1" && exec sh -e -c "$2"'


class WorkloadFailedError(Exception):
    """Report that a workload itself did not run; nothing is known of the recorder then."""


@dataclass(frozen=True)
class Instant:
    """Hold the truth at one instant of CLOCK_MONOTONIC.

    ``mapped`` were mapped shared and writable: what was stored there is known to the recorder at ``settled_ns``.
    """

    t_ns: int
    manifest: Manifest
    settled_ns: int = 0
    mapped: frozenset[bytes] = frozenset()


@dataclass
class Recorded:
    """Hold what a recording left: its trace, and what was true."""

    workload: Workload
    trace: Path
    root: Path
    scratch: Path
    seconds: float
    before: Manifest
    after: Manifest
    instants: list[Instant] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """Own the folders of one run: the watch root, what is outside of it, and the trace."""

    home: Path

    @property
    def root(self) -> Path:
        return self.home / "root"

    @property
    def scratch(self) -> Path:
        return self.home / "scratch"

    @property
    def trace(self) -> Path:
        return self.home / "trace"

    def clear(self) -> None:
        """Make the folders anew."""
        shutil.rmtree(self.home, ignore_errors=True)
        for folder in (self.root, self.scratch, CACHE):
            folder.mkdir(parents=True, exist_ok=True)


def record_workload(
    workload: Workload,
    bench: Bench,
    *,
    instants: int,
    seed: int,
    record: Sequence[str] = (),
    settle: Callable[[], None] | None = None,
) -> Recorded:
    """Run a workload under record in a fresh folder and return the trace with the truth.

    ``record`` are more options of record; ``settle`` is called between preparation and recording. Raises
    WorkloadFailedError, FreezerUnavailableError.
    """
    bench.clear()
    env = environment(bench.root, bench.scratch, seed)
    for script in (workload.fetch, workload.prepare):
        _run_shell(script, bench, env)
    if settle is not None:
        settle()
    reader = FolderReader(os.fsencode(bench.root))
    before = reader.read()
    freezer = Freezer(f"diffkeeper-oracle-{os.getpid()}")
    try:
        watcher = _Watcher(freezer, reader, instants, random.Random(seed))
        seconds = _record(workload, bench, env, freezer, watcher, record)
    finally:
        freezer.close()
    return Recorded(workload, bench.trace, bench.root, bench.scratch, seconds, before, reader.read(), watcher.taken)


def _run_shell(script: str, bench: Bench, env: dict[str, str]) -> None:
    if script and subprocess.run(["sh", "-e", "-c", script], cwd=bench.root, env=env, check=False).returncode != 0:
        raise WorkloadFailedError(f"this did not work: {script}")


def _record(
    workload: Workload, bench: Bench, env: dict[str, str], freezer: Freezer, watcher: _Watcher, options: Sequence[str]
) -> float:
    """Record the command, the watcher at its side, and return how long that took."""
    command = ["sh", "-c", _JOIN_AND_RUN, "oracle", str(freezer.join_file), workload.command]
    started = time.monotonic()
    recorder = subprocess.Popen(
        [*diffkeeper("record"), "-q", "--state-dir", str(bench.trace), "--watch", ".", *options, "--", *command],
        cwd=bench.root,
        env={**env, "DIFFKEEPER_PROCESS": "now"},
    )
    thread = threading.Thread(target=watcher.watch, args=(recorder,))
    thread.start()
    try:
        status = recorder.wait(_LIMIT_S)
    finally:
        recorder.kill()
        thread.join()
    if status != 0:
        raise WorkloadFailedError(f"record of {workload.name} ended with {status}")
    return time.monotonic() - started


def diffkeeper(*arguments: str) -> list[str]:
    """Return the command line of a diffkeeper command, run by this very Python."""
    return [sys.executable, "-m", "diffkeeper", *arguments]


class _Watcher:
    """Freeze a workload at random instants and take the state of its tree.

    How long the workload runs is not known: whenever there are twice as many instants as asked for, a random half of
    them is forgotten and the pauses become twice as long.
    """

    def __init__(self, freezer: Freezer, reader: FolderReader, instants: int, chance: random.Random) -> None:
        self.taken: list[Instant] = []
        self._freezer = freezer
        self._reader = reader
        self._instants = instants
        self._chance = chance
        self._pause_s = _FIRST_PAUSE_S

    def watch(self, recorder: subprocess.Popen[bytes]) -> None:
        """Take instants until the recorder has ended."""
        while recorder.poll() is None and not self._freezer.is_populated:
            time.sleep(0.001)
        while self._instants and recorder.poll() is None:
            time.sleep(self._chance.uniform(0, 2 * self._pause_s))
            self._take()
            if len(self.taken) == 2 * self._instants:
                kept = self._chance.sample(self.taken, self._instants)
                self.taken = sorted(kept, key=lambda instant: instant.t_ns)
                self._pause_s *= 2

    def _take(self) -> None:
        with self._freezer.frozen() as t_ns:
            if t_ns is None:
                return
            inodes = mapped_inodes(self._freezer.pids)
            manifest = self._reader.read(inodes)
            mapped = self._reader.names_of(inodes)
            if mapped:
                time.sleep(_MAPPED_S)
            self.taken.append(Instant(t_ns, manifest, time.monotonic_ns(), mapped))
