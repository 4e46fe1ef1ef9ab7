"""The recorder's side of file leases: give open files to holders, which copy what somebody is about to change.

Holders are started when there is something to lease, one more whenever the last one has no room left. The files are
opened here, by the user who records: a lease gives nobody what he could not read.
"""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import threading
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from diffkeeper.engines.protocol import Engine
from diffkeeper.store.images import create_image_file

if TYPE_CHECKING:
    from diffkeeper.baseline_native import LargeFile

FILES_A_MESSAGE = 200  # native/lease.h
MOST_HOLDERS = 64
_ROOTS, _FILES, _SETTLED, _END, _EARLY = range(1, 6)
_HEAD = struct.Struct("<II")
_PATIENCE_S = 10  # for an answer, which takes microseconds; whoever does not give one has been stopped or killed
_END_PATIENCE_S = 30
_EARLY_NS = 100_000_000  # that the command waits for copies which make leases needless; the rest is made beside it


class Answer(IntEnum):
    """Say what became of a file that was given to a holder (native/lease.h)."""

    LEASED = 0
    BUSY = 1  # somebody has it open for writing
    REFUSED = 2
    CHANGED = 3
    FULL = 4


class Leases:
    """Hold the leases of one recording; a context manager, the end of which lets go of all."""

    def __init__(self, trace: Path, trace_id: int, engine: Engine, roots: Sequence[int], most: int = 0) -> None:
        """Start nothing yet; ``most`` limits the leases of each holder (0: what the system allows)."""
        self._trace = trace
        self._trace_id = trace_id
        self._engine = engine
        self._roots = roots
        self._most = most
        self._lock = threading.Lock()
        self._holders: list[_Holder] = []
        self._is_possible = True
        self.leased = 0
        self.refused = 0
        self.uncovered = 0  # leased by a holder that ended before its time

    def __enter__(self) -> Leases:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything."""
        for holder in self._holders:
            holder.close()

    def cover(self, files: Sequence[LargeFile]) -> list[bool]:
        """Give open files to a holder; return which of them are leased. May be called from several threads."""
        with self._lock:
            answers = [Answer.REFUSED] * len(files)
            waiting = list(range(len(files)))
            while waiting and (holder := self._with_room()) is not None:
                part = waiting[:FILES_A_MESSAGE]
                for place, answer in zip(part, holder.take([files[place] for place in part]), strict=True):
                    answers[place] = answer
                waiting = [place for place in part if answers[place] is Answer.FULL] + waiting[FILES_A_MESSAGE:]
            leased = [answer is Answer.LEASED for answer in answers]
            self.leased += sum(leased)
            self.refused += len(leased) - sum(leased)
            return leased

    def _with_room(self) -> _Holder | None:
        """Return the newest holder, or one more if that is full; None where there can be none."""
        if self._holders and self._holders[-1].is_alive and not self._holders[-1].is_full:
            return self._holders[-1]
        if not self._is_possible or len(self._holders) >= MOST_HOLDERS:
            return None
        holder = self._start()
        # One that can take nothing will not become better by another one.
        self._is_possible = holder is not None and holder.ask(_ROOTS, self._roots)
        return holder if self._is_possible else None

    def _start(self) -> _Holder | None:
        try:
            images = create_image_file(self._trace, len(self._holders) + 1)
        except OSError:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            if not self._engine.hold(theirs.fileno(), images, self._trace_id, self._most):
                ours.close()
                return None
        finally:
            theirs.close()
            os.close(images)
        self._holders.append(_Holder(ours))
        return self._holders[-1]

    def settle(self) -> None:
        """Say that all files were given: those that somebody has mapped for writing are copied now."""
        for holder in self._holders:
            self.leased -= holder.settle()

    def copy_early(self, budget_bytes: int) -> None:
        """Have the smallest files copied, and let go, though nobody is about to change them; not all of it now."""
        shares = dict.fromkeys(self._holders, 0)
        for size, place in sorted((size, at) for at, holder in enumerate(self._holders) for size in holder.sizes):
            if size > budget_bytes:
                break
            budget_bytes -= size
            shares[self._holders[place]] += size
        for holder, share in shares.items():
            if share:
                holder.copy_early(share, _EARLY_NS // len(shares))

    def finish(self) -> None:
        """Have the holders copy what was removed, and end; the engine must have been stopped."""
        for holder in self._holders:
            holder.send(_END)
        for holder in self._holders:
            if not holder.is_alive or not holder.await_end():
                self.uncovered += holder.leased
            holder.close()


class _Holder:
    """Talk to one holder."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.is_alive = True
        self.is_full = False
        self.leased = 0
        self.sizes: list[int] = []  # of what is leased

    def take(self, files: Sequence[LargeFile]) -> list[Answer]:
        """Pass files; return what became of each."""
        numbers = [number for file in files for number in (file.index, file.size, file.mtime_ns, file.nlink)]
        body = struct.pack("<" + "QQqQ" * len(files), *numbers)
        answers = self._ask(_FILES, len(files), body, [file.fd for file in files])
        taken = [Answer(answer) for answer in answers[: len(files)]]
        taken += [Answer.FULL] * (len(files) - len(taken))
        self.is_full = Answer.FULL in taken
        self.leased += taken.count(Answer.LEASED)
        self.sizes += [file.size for file, answer in zip(files, taken, strict=True) if answer is Answer.LEASED]
        return taken

    def ask(self, op: int, descriptors: Sequence[int] = ()) -> bool:
        """Pass something else; return whether the holder has answered."""
        return bool(self._ask(op, len(descriptors), b"", descriptors))

    def settle(self) -> int:
        """Return how many files are mapped and were copied instead."""
        copied = int.from_bytes(self._ask(_SETTLED, 0, b"", (), _END_PATIENCE_S), "little")
        self.leased -= copied
        return copied

    def copy_early(self, share_bytes: int, patience_ns: int) -> None:
        """Have the smallest files copied, up to so many bytes; return after the given time, or when all is done."""
        done = self._ask(_EARLY, 0, struct.pack("<QQ", share_bytes, patience_ns), ())
        self.leased -= int.from_bytes(done, "little")

    def send(self, op: int, count: int = 0, body: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a message."""
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        try:
            self._connection.sendmsg([_HEAD.pack(op, count), body], ancillary, socket.MSG_NOSIGNAL)
        except OSError:
            self.is_alive = False

    def _ask(self, op: int, count: int, body: bytes, descriptors: Sequence[int], seconds: float = _PATIENCE_S) -> bytes:
        """Send a message and return the answer, empty if the holder is gone."""
        self.send(op, count, body, descriptors)
        answer = self._answer(seconds) if self.is_alive else b""
        self.is_alive = self.is_alive and bool(answer)
        return answer

    def _answer(self, seconds: float) -> bytes:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        try:
            return self._connection.recv(1 << 14) if poll.poll(seconds * 1000) else b""
        except OSError:
            return b""

    def await_end(self) -> bool:
        """Wait until the holder has ended; return whether it did so of itself: its last word is an empty image list."""
        return self._answer(_END_PATIENCE_S) == b"ended"

    def close(self) -> None:
        """Close the socket, which ends the holder."""
        self._connection.close()
