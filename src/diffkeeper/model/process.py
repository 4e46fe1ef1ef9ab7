"""What is known of one process of the recording, or of an outsider that wrote under a root."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Process:
    """Hold one life of a pid; an exec changes comm, exe, cwd and argv. Times are ns since the recording began."""

    key: int
    pid: int
    parent_key: int = 0  # 0: not known
    parent_pid: int = 0
    comm: bytes = b""
    exe: bytes = b""
    cwd: bytes = b""
    argv: tuple[bytes, ...] = ()
    start_ns: int = 0
    end_ns: int | None = None
    status: int | None = None  # wait status: exit code << 8 | signal
    is_outsider: bool = False
