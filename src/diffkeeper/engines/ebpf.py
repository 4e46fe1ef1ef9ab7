"""The recorder's side of the eBPF engine: start the privileged helper, talk to it, say why it cannot run here.

The helper is started directly where this process has the privileges, else through ``sudo -n`` in a session of its own
(a sudo with a terminal would take that terminal's modes and signals into its hands), and only if sudo wants a password
and a terminal is there, in the foreground; in both cases sudo has ended before the command starts.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Callable, Mapping, Sequence

from diffkeeper import helper_protocol as protocol
from diffkeeper import helper_start, native
from diffkeeper.engines.protocol import EngineFacts, EngineRequest, EngineSurvey, Progress
from diffkeeper.errors import EngineUnavailableError, RecordError
from diffkeeper.helper_start import StartedHelper

NAME = "ebpf"
_LET_GO_NS = 5_000_000_000  # as long as a command has for its end


class EbpfEngine:
    """Record with eBPF through a helper process."""

    name = NAME

    def __init__(self) -> None:
        """Start nothing yet."""
        self._connection: socket.socket | None = None
        self._starter = 0  # the process to wait for: sudo, or the helper itself
        self._helper = 0
        self._is_detached = False
        self._news = Progress()
        self._request: EngineRequest | None = None
        self._stopped: protocol.Message | None = None  # what it said when it was done, if that was heard early

    def prepare(self) -> None:
        """Start the helper; it loads while the caller goes on."""
        if self._connection is None:
            started = helper_start.take_ahead()
            if started is not None:
                self._take_helper(started)
            else:
                self._start(helper_start.helper_command(helper_start.has_privileges()), own_session=True)

    def prepare_for(self, uid: int, gid: int) -> None:
        """Start the helper as root for a user that this process is about to become (``sudo diffkeeper record``).

        The helper learns whom it serves from the socket's credentials, which are those of its creation.
        """
        os.setegid(gid)
        os.seteuid(uid)
        try:
            ends = helper_start.socket_pair()
        finally:
            os.seteuid(0)
            os.setegid(0)
        self._start(helper_start.helper_command(True), own_session=True, ends=ends)

    def begin(self, request: EngineRequest) -> None:
        """Send the request; the helper finds it when it has come up."""
        self._request = request
        message = {
            "op": "start",
            "roots": len(request.roots),
            "trace_id": request.trace_id,
            "ring_bytes": request.ring_bytes,
            "mapped_interval_ns": request.mapped_interval_ns,
            "held": request.held_pid,
        }
        with contextlib.suppress(OSError):  # what became of the helper shows when its answer is awaited
            protocol.send(self._open(), message, [*request.roots, *request.excluded])
            self._send_segments(request.segments)

    def wait_until_started(self) -> EngineFacts:
        """Return what the capture sees; if sudo wants a password for that, ask for it where someone can answer."""
        self._await_hello()
        facts = self._await("started")["facts"]
        exceptions = [f"this kernel has no {hook}" for hook in facts["missing"]]
        exceptions += [f"{what}, of which a trial at the start was told nothing" for what in facts["silent"]]
        if facts["is_untried"]:
            exceptions.append("that the hooks could not all be tried at the start")
        if "times" not in facts["finds_holes"]:
            exceptions.append("that changes which no call explains are not looked for on every root's file system")
        if facts["faults"]:
            exceptions.append("faults on purpose: " + ", ".join(f"{name}={n}" for name, n in facts["faults"].items()))
        return EngineFacts(NAME, tuple(exceptions), facts)

    def adopt(self, pid: int) -> None:
        """Have the helper take ``pid`` as the recorded command."""
        self._send({"op": "adopt", "pid": pid})
        self._await("adopted")

    def let_go(self) -> None:
        """Have the helper let the command go."""
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                protocol.send(connection, {"op": "let_go", "ns": _LET_GO_NS})

    def add_segments(self, segments: Sequence[tuple[int, int]]) -> None:
        """Pass segments to the helper. One that was told to stop may be done by now: stop() returns that then."""
        try:
            self._send_segments(segments)
        except OSError:
            self._hear_last_words()

    def _send_segments(self, segments: Sequence[tuple[int, int]]) -> None:
        for start in range(0, len(segments), protocol.MAX_DESCRIPTORS):
            part = segments[start : start + protocol.MAX_DESCRIPTORS]
            message = {"op": "segments", "numbers": [number for number, _ in part]}
            protocol.send(self._open(), message, [descriptor for _, descriptor in part])

    def hold(self, socket: int, images: int, trace_id: int, most: int) -> bool:
        """Have the helper fork a holder."""
        with contextlib.suppress(OSError):  # a helper that is gone shows elsewhere
            message = {"op": "hold", "trace_id": trace_id, "most": most}
            protocol.send(self._open(), message, [socket, images])
            return True
        return False

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return -1 if self._connection is None else self._connection.fileno()

    def progress(self) -> Progress:
        """Return the newest totals and all segments filled since the last call."""
        while select.select([self._open()], [], [], 0)[0]:
            self._take(self._receive())
        return self._take_news()

    def stop(self, feed: Callable[[Progress], bool]) -> Progress:
        """Have the helper drain everything and end; the ring may hold more than the free segments."""
        self._send({"op": "stop"})
        is_feeding = True
        while True:
            if is_feeding and not feed(self._take_news()):
                is_feeding = False
                with contextlib.suppress(OSError):  # it may be done by now
                    protocol.send(self._open(), {"op": "enough"})
            message = self._stopped or self._receive()
            self._take(message)
            if message["op"] == "stopped":
                return self._take_news()

    def release(self) -> None:
        """Close the socket, which ends the helper; close() waits for that."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """End the helper and wait for its end."""
        self.release()
        if self._starter:
            os.waitpid(self._starter, 0)
            self._starter = 0

    def _start(
        self, command: list[str], own_session: bool, ends: tuple[socket.socket, socket.socket] | None = None
    ) -> None:
        self.close()
        try:
            self._take_helper(StartedHelper(command, ends or helper_start.socket_pair(), own_session))
        except OSError as error:
            raise EngineUnavailableError(survey().text()) from error

    def _take_helper(self, started: StartedHelper) -> None:
        self._connection, self._starter, self._is_detached = started.connection, started.starter, started.is_detached

    def _await_hello(self) -> None:
        try:
            self._helper = self._await("hello")["pid"]
        except RecordError:
            if not (self._is_detached and _has_terminal()):
                raise EngineUnavailableError(
                    survey().text() if not helper_start.has_privileges() else _HELPER_DIED
                ) from None
            self._start(helper_start.helper_command(False, prompt=True), own_session=False)
            assert self._request is not None, "the helper is awaited after a request"
            self.begin(self._request)
            self._helper = self._await("hello")["pid"]
        if self._is_detached:
            os.waitpid(self._starter, 0)  # sudo has done its part, and the terminal is as it was
            self._starter = 0

    def _send(self, message: protocol.Message) -> None:
        try:
            protocol.send(self._open(), message)
        except OSError:
            self._hear_last_words()

    def _hear_last_words(self) -> None:
        """Raise what the helper said before it closed the socket, or that it said nothing; unless it was done."""
        self._stopped = self._await("stopped")

    def _await(self, op: str) -> protocol.Message:
        while True:
            message = self._receive()
            if message["op"] == op:
                return message
            self._take(message)

    def _receive(self) -> protocol.Message:
        received = protocol.receive(self._open())
        if received is None:
            raise RecordError(_HELPER_DIED)
        message, _ = received
        if message["op"] == "failed":
            is_refusal = message["error"] == EngineUnavailableError.__name__
            if is_refusal and not survey().is_usable:
                raise EngineUnavailableError(survey().text())  # why the kernel refused
            if is_refusal:
                raise EngineUnavailableError(f"{message['message']}\nwhat would work:\n  {_WITHOUT}")
            raise RecordError(message["message"])
        return message

    def _take(self, message: protocol.Message) -> None:
        news = protocol.progress_of(message)
        filled = (*self._news.filled, *news.filled)
        self._news = Progress(news.batches, news.bytes, news.free_segments, filled, news.lost, news.disturbed)

    def _take_news(self) -> Progress:
        news = self._news
        self._news = Progress(news.batches, news.bytes, news.free_segments, (), news.lost, news.disturbed)
        return news

    def _open(self) -> socket.socket:
        if self._connection is None:
            raise RecordError(_HELPER_DIED)
        return self._connection


_HELPER_DIED = "the eBPF helper process ended unexpectedly"


_WITHOUT = "diffkeeper record --engine watch -- COMMAND    (needs no privileges; inexact)"


def survey() -> EngineSurvey:
    """Say whether eBPF recording can work here, without loading anything."""
    found = _survey_platform() or (_survey_privileged() if helper_start.has_privileges() else _survey_sudo())
    return found if found.is_usable else EngineSurvey(NAME, False, found.reason, (*found.remedies, _WITHOUT))


def _survey_platform() -> EngineSurvey | None:
    """Return the refusal of a system on which no privilege helps."""
    reason = native.refusal(with_privileges=False)
    if reason is None:
        return _survey_kernel()
    remedies: tuple[str, ...]
    if sys.platform != "linux":
        remedies = ("record in a Linux container or virtual machine",)
    elif not os.path.exists(helper_start.LIBRARY):
        remedies = ("pip install --force-reinstall diffkeeper    (Linux on x86-64 or aarch64)",)
    elif not os.path.exists(helper_start.BTF):
        remedies = ("boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as every distribution's is since about 2021",)
    else:
        remedies = ("sudo apt-get install libbpf1", "sudo dnf install libbpf")
    return EngineSurvey(NAME, False, reason, remedies)


def _survey_kernel() -> EngineSurvey | None:
    reason = native.lack_of_private_stacks()
    return EngineSurvey(NAME, False, reason, ("boot a newer kernel",)) if reason else None


def _survey_privileged() -> EngineSurvey:
    """Say what root still lacks: in a container root may be without the capabilities."""
    missing = native.missing_privileges()
    if missing is None:
        return EngineSurvey(NAME, True)
    return EngineSurvey(NAME, False, f"{missing}{_where()}", _container_remedies())


def _survey_sudo() -> EngineSurvey:
    reason = "it needs root, or the capabilities " + ", ".join(f"CAP_{name}" for name in helper_start.CAPABILITIES)
    reason += f"; this is uid {os.geteuid()}{_where()}"
    if not helper_start.has_program("sudo"):
        return EngineSurvey(
            NAME, False, f"{reason}, and sudo is not installed", ("su -c 'diffkeeper record -- COMMAND'",)
        )
    if _sudo_works() or _has_terminal():
        return EngineSurvey(NAME, True)
    helper = " ".join(helper_start.helper_command(True))
    remedies = (
        "sudo diffkeeper record -- COMMAND",
        "sudo -v; diffkeeper record -- COMMAND    (in a terminal)",
        f"echo '{_user()} ALL=(root) NOPASSWD: {helper} --detach' | sudo tee /etc/sudoers.d/diffkeeper",
    )
    reason += ", sudo wants a password, and there is no terminal to ask for it"
    return EngineSurvey(NAME, False, reason, (*remedies, *_container_remedies()))


def _user() -> str:
    import pwd  # which Windows has not

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"#{os.geteuid()}"


def _sudo_works() -> bool:
    """Ask sudo whether it would start the helper without a password; it lists, and runs nothing."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        pid = _spawn_quietly(["sudo", "-n", "-l", "--", *helper_start.helper_command(True), "--detach"], null)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    except OSError:
        return False
    finally:
        os.close(null)


def _spawn_quietly(command: list[str], null: int) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]
    return os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setsid=True)


def _has_terminal() -> bool:
    """Say whether sudo could ask someone for a password."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return os.isatty(2) and os.tcgetpgrp(2) == os.getpgrp()


def container(environment: Mapping[str, str] = os.environ) -> str:
    """Return what kind of container this is, or an empty string."""
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if os.path.exists("/.dockerenv"):
        return "Docker"
    return "Podman" if os.path.exists("/run/.containerenv") else ""


def _where() -> str:
    kind = container()
    return f" in a {kind} container" if kind else ""


def _container_remedies() -> tuple[str, ...]:
    kind = container()
    flags = " ".join(f"--cap-add={name}" for name in helper_start.CAPABILITIES)
    if kind == "Kubernetes":
        return (f"securityContext: {{runAsUser: 0, capabilities: {{add: [{', '.join(helper_start.CAPABILITIES)}]}}}}",)
    if kind:
        return (f"{kind.lower()} run --user=0 {flags} …    (or --privileged)",)
    return ()
