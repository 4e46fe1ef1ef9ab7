"""Run diffkeeper as on a system without POSIX: ``python windows_like.py ARGUMENTS``.

Whatever diffkeeper imports, it finds what Windows has: no POSIX module, no POSIX function, no descriptors of
directories. The interpreter and the libraries keep theirs.
"""

from __future__ import annotations

import builtins
import errno
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

GONE_MODULES = (
    "fcntl",
    "pwd",
    "grp",
    "resource",
    "termios",
    "pty",
    "tty",
    "syslog",
    "spwd",
    "posix",
    "_posixsubprocess",
)
FROM_OS = """
fork forkpty getuid geteuid getgid getegid getgroups getgrouplist getpgid getpgrp getpriority getresuid getresgid
getsid setuid seteuid setgid setegid setgroups setpgid setresuid setresgid setsid setpriority initgroups uname environb
getenvb chown lchown fchown fchmod lchmod fchdir chroot mkfifo mknod major minor makedev pread pwrite preadv pwritev
pipe2 posix_fallocate posix_fadvise posix_spawn posix_spawnp fdatasync sync sendfile splice copy_file_range listxattr
getxattr setxattr removexattr statvfs fstatvfs confstr sysconf pathconf ttyname ctermid tcgetpgrp tcsetpgrp openpty
login_tty wait wait3 wait4 waitid WIFEXITED WIFSIGNALED WIFSTOPPED WEXITSTATUS WTERMSIG WSTOPSIG WCOREDUMP WNOHANG nice
sched_yield sched_getaffinity sched_setaffinity pidfd_open memfd_create eventfd killpg lockf O_DIRECTORY O_NOFOLLOW
O_CLOEXEC O_NONBLOCK O_NOATIME O_PATH O_SYNC O_DSYNC O_TMPFILE O_NOCTTY SEEK_DATA SEEK_HOLE P_PID P_ALL P_PIDFD F_LOCK
"""
FROM_SIGNAL = """
SIGHUP SIGQUIT SIGKILL SIGSTOP SIGCHLD SIGCLD SIGPIPE SIGUSR1 SIGUSR2 SIGALRM SIGCONT SIGTSTP SIGTTIN SIGTTOU SIGWINCH
SIGXFSZ SIGXCPU SIGURG SIGBUS SIGTRAP SIGSYS SIGIO SIGPOLL SIGPROF SIGVTALRM SIGPWR pthread_sigmask pthread_kill
sigwait sigwaitinfo sigtimedwait sigpending siginterrupt setitimer getitimer pause alarm pidfd_send_signal
"""
GONE = {
    "os": (os, FROM_OS.split()),
    "signal": (signal, FROM_SIGNAL.split()),
    "select": (select, ["poll", "epoll", "EPOLLIN", "POLLIN"]),
    "socket": (socket, ["AF_UNIX", "SCM_RIGHTS", "SOCK_SEQPACKET", "CMSG_SPACE", "CMSG_LEN", "MSG_CMSG_CLOEXEC"]),
    "time": (time, ["clock_gettime", "clock_gettime_ns"]),
    "errno": (errno, ["ENODATA", "EDQUOT"]),
    "sys": (sys, []),
}
CHANGED: dict[str, dict[str, Any]] = {
    "os": {"name": "nt", "supports_dir_fd": set(), "supports_fd": set(), "supports_follow_symlinks": set()},
    "sys": {"platform": "win32"},
}


class WhatWindowsHas(ModuleType):
    """Be a module without what Windows lacks."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        module, gone = GONE[name]
        kept = {key: value for key, value in vars(module).items() if key not in gone}
        vars(self).update(kept | CHANGED.get(name, {}))


def take_away() -> None:
    """Give diffkeeper's modules, whenever they import something, what Windows has of it."""
    has = {name: WhatWindowsHas(name) for name in GONE}
    real = builtins.__import__

    def import_as_there(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Any = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        importer = (globals or {}).get("__name__") or ""
        if importer.split(".")[0] == "diffkeeper":
            if name.split(".")[0] in GONE_MODULES:
                raise ImportError(f"no module named {name!r}")
            if name in has:
                return has[name]
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = import_as_there


if __name__ == "__main__":
    take_away()
    from diffkeeper.__main__ import main

    main()
