"""Serve the recorder in the privileged process: attach, drain into the segments that it passes, and end with it.

It holds privileges that its user does not have, and therefore opens no path that it is told: directories come as
descriptors that the user could open for reading, segments as descriptors of the user's own files that the user opened
for writing, and the command must be a child of the recorder, run by that user.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import select
import signal
import socket
import stat
import struct
import time

from diffkeeper import faults, native
from diffkeeper import helper_protocol as protocol
from diffkeeper.errors import DiffkeeperError, RecordError
from diffkeeper.freezer import Freezer
from diffkeeper.guardian import Guardian

_TICK_MS = 25
_SECONDS_TO_DRAIN_AFTER_RECORDER = 1
_SILENT_NS = 5_000_000_000  # a holder that does not answer for so long keeps others waiting
_HOLDER_STEP_S = 0.002
_MOST_RING_BYTES = 1 << 27  # as engines/protocol.py asks for at the most


def main(arguments: list[str]) -> int:
    """Serve the recorder at standard input until it stops or goes away; return the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # these are for the command: only the recorder ends the helper
    if "--detach" in arguments:
        _detach()
    connection = socket.socket(fileno=0)
    helper = Helper(connection)
    try:
        helper.serve()
    except (DiffkeeperError, OSError) as error:
        return _fail(connection, error)
    finally:
        helper.end()
    return 0


def _detach() -> None:
    """Leave sudo, its terminal and its session behind; sudo ends before the command starts."""
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _fail(connection: socket.socket, error: Exception) -> int:
    message = str(error) if isinstance(error, DiffkeeperError) else f"the helper failed: {error!r}"
    try:
        protocol.send(connection, {"op": "failed", "error": type(error).__name__, "message": message})
    except OSError:
        return 2
    return 1


class Helper:
    """Hold the capture of one recorder, which is at the other end of ``connection``."""

    def __init__(self, connection: socket.socket) -> None:
        """Learn from the socket which user is served; what the messages say is not asked."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self._peer_pid, self._peer_uid, self._peer_gid = struct.unpack("3i", credentials)
        self._connection = connection
        self._capture: native.Capture | None = None
        self._stopping: _Stopping | None = None
        self._faults: dict[str, int] = {}
        self._guardian: Guardian | None = None
        self._freezer: Freezer | None = None
        self._segments = 0
        self._holders: list[native.Holder] = []

    def serve(self) -> None:
        """Answer messages until the recorder stops the capture or closes the socket."""
        protocol.send(self._connection, {"op": "hello", "pid": os.getpid()})
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(None if self._capture is None else _TICK_MS)]
            if self._connection.fileno() in ready:
                received = protocol.receive(self._connection)
                if received is None:
                    return self._end_without_recorder()
                self._answer(*received)
                if self._stopping is not None:
                    poll.register(self._stopping.wakes, select.POLLIN)
            if self._stopping is not None and self._stopping.is_done():
                self._send_progress("stopped", self._stopping.result())
                return self._await_holders()
            self._report_filled()
            self._watch_holders()

    def _answer(self, message: protocol.Message, descriptors: list[int]) -> None:
        """Do what one message asks."""
        if message["op"] == "start":
            self._start(message, descriptors)
        elif message["op"] == "segments":
            self._add_segments(message["numbers"], descriptors)
        elif message["op"] == "adopt":
            self._adopt(message["pid"])
        elif message["op"] == "hold":
            self._hold(message, descriptors)
        elif message["op"] == "stop":
            self._stopping = _Stopping(self._running())
        elif message["op"] == "let_go":
            self._running().let_go(message["ns"])
        elif message["op"] == "enough":
            self._running().give_up()
        else:
            raise RecordError(f"the helper knows no {message['op']!r}")

    def _start(self, message: protocol.Message, descriptors: list[int]) -> None:
        identities = [protocol.directory_identity(descriptor) for descriptor in descriptors]
        root_count = message["roots"]
        self._faults = faults.from_environment()
        self._guardian = self._guard(message["held"])
        settings = native.CaptureSettings(
            roots=identities[:root_count],
            excluded=tuple(identity[:2] for identity in identities[root_count:]),
            trace_id=message["trace_id"],
            ring_bytes=self._faults.get("ring", check_ring(message["ring_bytes"])),
            root_fds=tuple(descriptors[:root_count]),
            reader_uid=self._peer_uid,
            reader_gid=self._peer_gid,
            faults=self._faults,
            mapped_interval_ns=message["mapped_interval_ns"],
            scratch_fd=descriptors[root_count] if len(descriptors) > root_count else -1,
        )
        capture = native.Capture(settings)
        facts = capture.start()
        self._capture = capture
        if self._guardian is not None:
            self._freezer = self._guardian.freezer()
        more = {"faults": self._faults, "freezer": 0 if self._freezer is None else self._freezer.version}
        protocol.send(self._connection, {"op": "started", "facts": {**facts.as_json(), **more}})

    def _guard(self, command: int) -> Guardian | None:
        """Start the guardian of a command that may be held (0: may not)."""
        if not command:
            return None
        check_command(command, self._peer_pid, self._peer_uid)
        return Guardian(command, self._faults.get("freezer"))

    def end(self) -> None:
        """Leave nobody held, and no cgroup."""
        if self._guardian is not None:
            self._guardian.end()

    def _add_segments(self, numbers: list[int], descriptors: list[int]) -> None:
        if len(numbers) != len(descriptors):
            raise RecordError("each segment number comes with a descriptor")
        for number, descriptor in zip(numbers, descriptors, strict=True):
            check_segment(descriptor, self._peer_uid)
            self._segments += 1
            if self._segments > self._faults.get("segments", self._segments):
                os.close(descriptor)
            else:
                self._running().add_segment(number, descriptor)
        if self._stopping is None:
            self._running().drain()

    def _adopt(self, pid: int) -> None:
        check_command(pid, self._peer_pid, self._peer_uid)
        self._running().adopt(pid)
        if self._freezer is not None and self._guardian is not None:
            state = os.open(self._freezer.state_file, os.O_WRONLY | os.O_CLOEXEC)
            self._running().hold(state, self._guardian.pipe, is_v2=self._freezer.version == 2)
        protocol.send(self._connection, {"op": "adopted"})

    def _hold(self, message: protocol.Message, descriptors: list[int]) -> None:
        """Start a holder of leases, which the recorder's side then talks to itself."""
        try:
            socket_end, images = descriptors
            check_segment(images, self._peer_uid)
            if not stat.S_ISSOCK(os.fstat(socket_end).st_mode):
                raise RecordError("a holder is spoken to through a socket")
            self._holders.append(native.Holder(socket_end, images, message["trace_id"], message["most"]))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _watch_holders(self) -> None:
        self._holders = [one for one in self._holders if not one.has_ended(_SILENT_NS)]

    def _await_holders(self) -> None:
        """Wait for the holders to copy what is left; they end with their sockets to the recorder."""
        while self._holders:
            self._watch_holders()
            time.sleep(_HOLDER_STEP_S)

    def _report_filled(self) -> None:
        if self._capture is None:
            return
        progress = self._capture.progress()
        if progress.filled:
            self._send_progress("progress", progress)

    def _end_without_recorder(self) -> None:
        """Drain what is left into the segments at hand: the recorder was killed, its trace must lose nothing more."""
        signal.alarm(_SECONDS_TO_DRAIN_AFTER_RECORDER)
        if self._capture is not None and self._stopping is None:
            self._capture.stop()
        self._await_holders()

    def _running(self) -> native.Capture:
        if self._capture is None:
            raise RecordError("the capture has not been started")
        return self._capture

    def _send_progress(self, op: str, progress: native.Progress) -> None:
        protocol.send(self._connection, protocol.progress_message(op, progress))


def check_segment(descriptor: int, uid: int) -> None:
    """Raise RecordError unless the descriptor is a regular file of that user's, opened for writing."""
    status = os.fstat(descriptor)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    is_writable = flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR) and not flags & protocol.O_PATH
    if not (stat.S_ISREG(status.st_mode) and is_writable and (uid in (0, status.st_uid))):
        raise RecordError("a segment must be a regular file of the user's, opened for writing")


def check_ring(size_bytes: int) -> int:
    """Return the size, or raise RecordError: the ring is memory of the kernel, of which nobody gets any amount."""
    if not 0 < size_bytes <= _MOST_RING_BYTES:
        raise RecordError(f"a ring of {size_bytes} bytes is not given: {_MOST_RING_BYTES} are the most")
    return size_bytes


def check_command(pid: int, recorder: int, uid: int) -> None:
    """Raise RecordError unless ``pid`` is a child of the recorder that runs as that user."""
    try:
        with open(f"/proc/{pid:d}/status", encoding="utf-8", errors="replace") as file:
            status = {name: rest.split() for name, _, rest in (line.partition(":") for line in file)}
    except OSError:
        raise RecordError(f"there is no process {pid}") from None
    if status["PPid"] != [str(recorder)] or (uid != 0 and status["Uid"][0] != str(uid)):
        raise RecordError(f"process {pid} is not the recorder's to record")


class _Stopping:
    """Stop a capture in a thread: the ring may need more segments than are free, and they come by the socket."""

    def __init__(self, capture: native.Capture) -> None:
        self._progress: native.Progress | None = None
        self._error: DiffkeeperError | None = None
        self._is_done = False
        self.wakes, self._wake = os.pipe()
        _thread.start_new_thread(self._stop, (capture,))

    def _stop(self, capture: native.Capture) -> None:
        try:
            self._progress = capture.stop()
        except DiffkeeperError as error:
            self._error = error
        finally:
            self._is_done = True
            os.close(self._wake)

    def is_done(self) -> bool:
        """Say whether everything is in the segments."""
        return self._is_done

    def result(self) -> native.Progress:
        """Return the last counts, or raise why the capture could not be drained."""
        if self._progress is None:
            raise self._error or RecordError("the capture could not be stopped")
        return self._progress
