"""Who typed ``sudo diffkeeper record``: that user's identity, environment and limits, as they were before sudo.

Sudo keeps the environment of the user in its own (``/proc/PID/environ``); umask, groups and limits are those of the
process that started sudo. What cannot be had back is listed in ``docs/permissions.md``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from diffkeeper.launch import parse_environment
from diffkeeper.model.values import dataclass

_SUDO_PROGRAMS = frozenset({"sudo", "sudo-rs"})


@dataclass(frozen=True, slots=True)
class Invoker:
    """Hold what the command would have had without sudo; ``umask`` is None where it is unknown."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int | None
    limits: Mapping[int, tuple[int, int]]
    environment: Mapping[bytes, bytes]


def find_invoker() -> Invoker | None:
    """Return the user behind ``sudo diffkeeper``, or None where sudo did not start this process as root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not _is_sudo(os.getppid()):
        return None
    try:
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
        environment = _environment_of(os.getppid())
    except (KeyError, ValueError, OSError):
        return None
    starter = _status(_starter_of_sudo())
    if starter.get("Uid", [""])[0] != str(uid):  # someone else's process: its umask and groups are not the user's
        return Invoker(uid, gid, _groups_of(uid, gid), None, {}, environment)
    groups = tuple(map(int, starter.get("Groups", [])))
    umask = int(starter["Umask"][0], 8) if "Umask" in starter else None
    return Invoker(uid, gid, groups, umask, _limits_of(_starter_of_sudo()), environment)


def become(invoker: Invoker) -> None:
    """Turn this root process into the invoking user for good; afterwards all it does is done as that user."""
    import resource  # which Windows has not

    for kind, limits in invoker.limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, limits)
    os.setgroups(invoker.groups)
    os.setresgid(invoker.gid, invoker.gid, invoker.gid)
    os.setresuid(invoker.uid, invoker.uid, invoker.uid)
    if invoker.umask is not None:
        os.umask(invoker.umask)
    os.environb.clear()
    os.environb.update(invoker.environment)


def lean_on(invoker: Invoker) -> None:
    """Act as the invoking user until ``stand_up``: what is made and opened is as if by that user."""
    os.setgroups(invoker.groups)
    os.setegid(invoker.gid)
    os.seteuid(invoker.uid)
    if invoker.umask is not None:
        os.umask(invoker.umask)


def stand_up() -> None:
    """Be root again, after ``lean_on``."""
    os.seteuid(0)
    os.setegid(0)


def _is_sudo(pid: int) -> bool:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) in _SUDO_PROGRAMS
    except OSError:
        return False


def _starter_of_sudo() -> int:
    """Return the process above sudo's own, of which there are two under ``use_pty``."""
    pid = os.getppid()
    while pid > 1 and _is_sudo(pid):
        pid = int(_status(pid).get("PPid", ["0"])[0])
    return pid


def _status(pid: int) -> dict[str, list[str]]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {name: rest.split() for name, _, rest in (line.partition(":") for line in file)}
    except OSError:
        return {}


def _environment_of(pid: int) -> dict[bytes, bytes]:
    with open(f"/proc/{pid}/environ", "rb") as file:
        return parse_environment(file.read())


def _groups_of(uid: int, gid: int) -> tuple[int, ...]:
    import pwd  # which Windows has not

    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:
        return (gid,)


def _limits_of(pid: int) -> dict[int, tuple[int, int]]:
    import resource  # which Windows has not

    limits: dict[int, tuple[int, int]] = {}
    for kind in (value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_")):
        with contextlib.suppress(OSError, ValueError):
            limits[kind] = resource.prlimit(pid, kind)
    return limits
