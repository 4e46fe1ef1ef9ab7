"""What every engine offers to a recording: the protocol, and the values that pass through it.

    prepare ─▶ begin ─▶ wait_until_started ─▶ adopt ─▶ (progress, add_segments)* ─▶ stop ─▶ close

An engine writes batches of wire records (``native/events.h``) into journal segments that the recording hands it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Protocol

from diffkeeper.model.values import dataclass
from diffkeeper.native import Progress

_MIB = 1 << 20
MAPPED_INTERVAL_NS = 100_000_000  # between two looks at files that are mapped shared and writable


def ring_bytes_for(memory_bytes: int) -> int:
    """Return the size of the ring on a machine with that much memory: 1/64 of it, a power of two, 16 to 128 MiB.

    The ring is locked memory, and what holds the payload while the disk makes the drain wait.
    """
    wanted = min(max(memory_bytes // 64, 16 * _MIB), 128 * _MIB)
    return 1 << (wanted.bit_length() - 1)


RING_BYTES = ring_bytes_for(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0)


def ring_bytes_within(max_bytes: int) -> int:
    """Return the size of the ring for a trace that may have ``max_bytes``, 0 for any: its end comes on top of those."""
    return RING_BYTES if not max_bytes else min(RING_BYTES, ring_bytes_for(8 * max_bytes))


__all__ = [
    "RING_BYTES",
    "Engine",
    "EngineFacts",
    "EngineRequest",
    "EngineSurvey",
    "Progress",
    "ring_bytes_for",
    "ring_bytes_within",
]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Say what to record. Directories are descriptors, opened for reading by the user who records."""

    trace_id: int
    roots: tuple[int, ...]
    excluded: tuple[int, ...]
    segments: tuple[tuple[int, int], ...]  # (number, descriptor) of the first free segments
    ring_bytes: int = RING_BYTES
    mapped_interval_ns: int = MAPPED_INTERVAL_NS
    held_pid: int = 0  # the future command, which may be held where more comes than can be taken; 0: it may not
    places: tuple[tuple[bytes, bytes], ...] = ()  # (label, path) of each root, for engines without privileges
    patterns: tuple[str, ...] = ()  # what the trace leaves out
    trace_path: bytes = b""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """Say what a started engine sees, and in ``exceptions`` what it does not; the trace keeps ``details``."""

    name: str
    exceptions: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    is_live: bool = True  # what it tells is what happens on disk, so that the one can be held against the other


@dataclass(frozen=True, slots=True)
class EngineSurvey:
    """Say whether an engine can run here; if not, why, and which commands would work; if so, perhaps how."""

    name: str
    is_usable: bool
    reason: str = ""
    remedies: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the refusal as ``record``, ``doctor`` and skipped tests show it."""
        if self.is_usable:
            return f"{self.name}: usable" + (f", {self.reason}" if self.reason else "")
        lines = [f"cannot record with {self.name}: {self.reason}"]
        if self.remedies:
            lines += ["what would work:", *(f"  {remedy}" for remedy in self.remedies)]
        return "\n".join(lines)


class Engine(Protocol):
    """Catch what processes do to the roots and write it into segments."""

    @property
    def name(self) -> str:
        """Return the name that ``--engine`` takes."""
        ...

    def prepare(self) -> None:
        """Begin what takes time and needs no request, without waiting for it."""
        ...

    def begin(self, request: EngineRequest) -> None:
        """Ask for the capture to start, without waiting for it."""
        ...

    def wait_until_started(self) -> EngineFacts:
        """Return when every change from now on is caught. Raises EngineUnavailableError."""
        ...

    def adopt(self, pid: int) -> None:
        """Take ``pid`` and its descendants as the recorded command; its descriptors 1 and 2 are its output."""
        ...

    def let_go(self) -> None:
        """Hold nobody for a while: somebody wants to end the command. Never fails."""
        ...

    def add_segments(self, segments: Sequence[tuple[int, int]]) -> None:
        """Give more free segments as (number, descriptor); the descriptors stay the caller's."""
        ...

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        """Have a process hold leases for whoever has the other end of ``socket``; False where the engine cannot.

        It writes images of files into ``images`` and takes no more than ``most`` leases (0: what the system allows).
        Both descriptors stay the caller's.
        """
        ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``progress`` has news, or -1."""
        ...

    def progress(self) -> Progress:
        """Return what is known; never waits. Raises RecordError when the engine has died."""
        ...

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        """Drain all that happened until now and end the capture. Raises RecordError when the engine has died.

        ``feed`` is called with news meanwhile, to give more free segments; it returns False when there are no more.
        """
        ...

    def release(self) -> None:
        """Let the engine end, without waiting for it."""
        ...

    def close(self) -> None:
        """Let go of everything and wait for the engine's end, whatever state the engine is in."""
        ...
