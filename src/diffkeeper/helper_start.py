"""Start the privileged helper, directly or through ``sudo -n``; ``ahead()`` does so before anything else is loaded.

The helper needs as long to come up as the recorder needs to load its own code: both at once take half the time. So this
module imports little.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

TYPE_CHECKING = False  # as in native.py
if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.path.join(_PACKAGE, "_native.so")
BTF = "/sys/kernel/btf/vmlinux"
_HELPER = os.path.join(_PACKAGE, "helper.py")
_SOCKET_BUFFER_BYTES = 1 << 20
_PROMPT = "[sudo] diffkeeper needs root for eBPF; password for %p: "

# linux/capability.h
_SYS_ADMIN = 21  # stands for the two of eBPF
CAPABILITIES = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19, "PERFMON": 38, "BPF": 39}


class StartedHelper:
    """Hold a helper that comes up: our end of its socket, and the process to wait for (sudo, or the helper itself)."""

    def __init__(self, command: list[str], ends: tuple[socket.socket, socket.socket], own_session: bool) -> None:
        """Start it; raises OSError."""
        self.connection, theirs = ends
        self.is_detached = "--detach" in command
        with theirs:
            self.starter = _spawn(command, theirs.fileno(), own_session)


_ahead: StartedHelper | None = None


def ahead(arguments: Sequence[str]) -> None:
    """Start the helper of the recording that a command line asks for; where that may be wrong, do nothing.

    Whoever is about to record takes it with ``take_ahead``. If nobody does, it ends with this process.
    """
    global _ahead
    if _will_record(arguments) and not _is_under_sudo() and _has_standard_descriptors() and may_work():
        try:
            _ahead = StartedHelper(helper_command(has_privileges()), socket_pair(), own_session=True)
        except OSError:
            _ahead = None  # the recording meets the same error and reports it


def take_ahead() -> StartedHelper | None:
    """Return the helper that was started ahead, once."""
    global _ahead
    started, _ahead = _ahead, None
    return started


def drop_ahead() -> None:
    """End the helper that was started ahead, if nobody took it."""
    started = take_ahead()
    if started is not None:
        started.connection.close()
        os.waitpid(started.starter, 0)


def _will_record(arguments: Sequence[str]) -> bool:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    is_series = any(one.startswith(("--repeat", "--until-fail")) for one in own)  # starts a helper for each attempt
    is_looking = "--engine=watch" in own or "--engine watch" in " ".join(own)
    return own[:1] == ["record"] and not {"-h", "--help"} & set(own) and not is_series and not is_looking


def _is_under_sudo() -> bool:
    """Say whether the helper's socket may have to be made as another user (``sudo diffkeeper record``)."""
    return "SUDO_UID" in os.environ and os.geteuid() == 0


def _has_standard_descriptors() -> bool:
    """Say that the socket will be none of 0, 1 and 2."""
    try:
        for number in range(3):
            os.fstat(number)
    except OSError:
        return False
    return True


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a helper's socket; the helper serves the user who made it."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
    return pair


def helper_command(is_direct: bool, prompt: bool = False) -> list[str]:
    """Return the command line that starts the helper; docs/permissions.md shows it for sudoers rules."""
    # -I -S: no path but this package's own; -B: root leaves no files in the user's installation
    program = [sys.executable, "-I", "-S", "-B", _HELPER]
    if is_direct:
        return program
    sudo = ["sudo", "-p", _PROMPT, "--"] if prompt else ["sudo", "-n", "--"]
    return [*sudo, *program, "--detach"]


def _spawn(command: list[str], stdin: int, own_session: bool) -> int:
    """Start a program with ``stdin`` and default signals; its output goes nowhere unless it may ask for a password."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
    if own_session:
        actions += [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    defaults = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    try:
        return os.posix_spawnp(
            command[0], command, os.environ, file_actions=actions, setsid=own_session, setsigmask=[], setsigdef=defaults
        )
    finally:
        os.close(null)


def has_privileges() -> bool:
    """Say whether this process may load and attach eBPF programs itself."""
    if sys.platform != "linux" or not hasattr(os, "geteuid"):
        return False
    if os.geteuid() == 0:
        return True
    held = int(_status().get("CapAmb", "0"), 16)
    return all(held >> number & 1 for number in CAPABILITIES.values())


def _status() -> dict[str, str]:
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
            return {name: rest.strip() for name, _, rest in (line.partition(":") for line in file)}
    except OSError:
        return {}


def has_program(name: str) -> bool:
    """Say whether a program is in the PATH."""
    return any(os.access(os.path.join(directory, name), os.X_OK) for directory in os.get_exec_path())


def may_work() -> bool:
    """Say in microseconds that nothing speaks against trying; what sudo thinks shows when it is tried."""
    is_supported = sys.platform == "linux" and os.path.exists(LIBRARY) and os.path.exists(BTF)
    if is_supported and has_privileges():
        return os.geteuid() != 0 or not _root_lacks_capabilities()
    return is_supported and has_program("sudo")


def _root_lacks_capabilities() -> bool:
    """Say whether root is without what the helper needs, as in a container; no sudo of root's brings it back."""
    held = int(_status().get("CapEff", "0"), 16)
    for name, number in CAPABILITIES.items():
        if not held >> number & 1 and not (name in ("BPF", "PERFMON") and held >> _SYS_ADMIN & 1):
            return True
    return False
