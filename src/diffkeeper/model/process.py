"""What is known of the processes of the recording, and of outsiders that wrote under a root."""

from __future__ import annotations

from diffkeeper.model.values import dataclass


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


class ProcessTable:
    """Give each life of a pid a key, 1, 2, …; a pid that is seen again after its exit gets another."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self._keys: dict[int, int] = {}  # of the process that had a pid last

    def key_of(self, pid: int, t_ns: int, is_outsider: bool) -> int:
        """Return the key of the process that acted under a pid; what it does just after its exit is still its own."""
        key = self._keys.get(pid)
        return self.start(pid, 0, b"", t_ns, is_outsider).key if key is None else key

    def start(self, pid: int, parent_pid: int, comm: bytes, t_ns: int, is_outsider: bool) -> Process:
        """Begin a new life of a pid."""
        key = len(self.processes) + 1
        parent_key = self._keys.get(parent_pid, 0) if parent_pid else 0
        process = Process(key, pid, parent_key, parent_pid, comm, start_ns=t_ns, is_outsider=is_outsider)
        self.processes[key] = process
        self._keys[pid] = key
        return process

    def alive(self, pid: int) -> Process | None:
        """Return the process that has a pid now, as far as is known."""
        process = self.processes.get(self._keys.get(pid, 0))
        return process if process is not None and process.end_ns is None else None
