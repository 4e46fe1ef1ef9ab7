"""Start the recorded command so that it cannot tell that it is recorded: fork, hold it until the engine is ready, exec.

The child changes nothing but what Python itself had changed at its start: caught signals and the two that Python
ignores (SIGPIPE, SIGXFSZ) go back to the default. Whether these two had been ignored before Python started cannot be
known. Every descriptor that diffkeeper opens is close-on-exec, so only those that it inherited reach the command.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import warnings
from collections.abc import Mapping, Sequence

from diffkeeper.errors import CommandNotExecutableError, CommandNotFoundError
from diffkeeper.model.values import dataclass

_IGNORED_BY_PYTHON = frozenset(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))
_GO = b"g"
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})  # execvp tries the next directory of PATH after these


def environment_at_start() -> dict[bytes, bytes]:
    """Return the environment that this process was given; the interpreter may have changed its own (PEP 538)."""
    try:
        with open("/proc/self/environ", "rb") as file:
            return parse_environment(file.read())
    except OSError:
        return own_environment()


def own_environment() -> dict[bytes, bytes]:
    """Return the environment of this process as it is now."""
    return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}


def parse_environment(block: bytes) -> dict[bytes, bytes]:
    """Return the variables of a NUL separated block; of a name that stands twice the first, as getenv does."""
    environment: dict[bytes, bytes] = {}
    for entry in block.split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if name and equals:
            environment.setdefault(name, value)
    return environment


def ignored_signals() -> frozenset[int]:
    """Return the signals that the command must find ignored, because diffkeeper was started with them ignored."""
    ignored = {int(number) for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    return frozenset(ignored) - _IGNORED_BY_PYTHON


def check_command(name: bytes, environment: Mapping[bytes, bytes]) -> None:
    """Raise CommandNotFoundError or CommandNotExecutableError if exec of ``name`` is bound to fail; touches nothing."""
    if not hasattr(os, "fork"):
        find_program(os.fsdecode(name), {os.fsdecode(key): os.fsdecode(value) for key, value in environment.items()})
        return
    is_present = False
    for path in _candidates(name, environment):
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            is_present = is_present or error.errno == errno.EACCES
            continue
        if stat.S_ISREG(mode) and os.access(path, os.X_OK):
            return
        is_present = True
    raise _exec_error(name, errno.EACCES if is_present else errno.ENOENT)


def find_program(name: str, environment: Mapping[str, str]) -> str:
    """Return the program that a name stands for on systems without exec. Raises CommandNotFoundError."""
    import shutil  # which no other system needs here

    search = next((value for key, value in environment.items() if key.upper() == "PATH"), None)
    found = shutil.which(name, path=search)
    if found is None:
        raise CommandNotFoundError(f"no such command: {name!r}: it is nowhere in PATH, or no program")
    return found


def _candidates(name: bytes, environment: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the paths that execvp would try for ``name``, an empty part of PATH being the current directory."""
    if b"/" in name or not name:
        return [name] if name else []
    path = environment.get(b"PATH", os.fsencode(os.defpath))
    return [os.path.join(directory or b".", name) for directory in path.split(b":")]


def _exec_error(name: bytes, number: int) -> CommandNotFoundError | CommandNotExecutableError:
    shown = os.fsdecode(name)
    if number in _ABSENT and b"/" in name and os.path.exists(name):
        return CommandNotFoundError(f"{shown!r} cannot be executed: the interpreter that it names does not exist")
    if number in _ABSENT:
        where = (
            "it does not exist" if b"/" in name else "it is nowhere in PATH; give a path such as ./NAME if it is here"
        )
        return CommandNotFoundError(f"no such command: {shown!r}: {where}")
    if number == errno.EACCES:
        return CommandNotExecutableError(f"{shown!r} may not be executed: name its interpreter, or chmod +x it")
    return CommandNotExecutableError(f"{shown!r} cannot be executed: {os.strerror(number)}")


@dataclass(slots=True)
class HeldCommand:
    """Be a forked child that waits, as the future command, for ``release`` or ``abandon``; use one of the two."""

    pid: int
    name: bytes
    _go: int
    _report: int

    def release(self) -> None:
        """Let the child exec; return when it did. Raises CommandNotFoundError or CommandNotExecutableError."""
        with contextlib.suppress(BrokenPipeError):  # a signal ended it while it was held: its wait status tells
            os.write(self._go, _GO)
        os.close(self._go)
        report = b"".join(iter(lambda: os.read(self._report, 64), b""))
        os.close(self._report)
        if report:
            os.waitpid(self.pid, 0)
            raise _exec_error(self.name, int(report))

    def abandon(self) -> None:
        """End the child without ever starting the command."""
        os.close(self._go)
        os.close(self._report)
        os.waitpid(self.pid, 0)


def hold_command(
    argv: Sequence[bytes], environment: Mapping[bytes, bytes], ignored: frozenset[int] | None = None
) -> HeldCommand:
    """Fork the command-to-be; call it while this process has one thread and before it opens what it could leak."""
    ignored = ignored_signals() if ignored is None else ignored
    go_read, go_write = os.pipe()
    report_read, report_write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child calls nothing that takes locks
        pid = os.fork()
    if pid == 0:
        try:
            os.close(go_write)
            os.close(report_read)
            _become_command(argv, environment, ignored, go_read, report_write)
        finally:
            os._exit(127)
    os.close(go_read)
    os.close(report_write)
    return HeldCommand(pid, argv[0], go_write, report_read)


def _become_command(
    argv: Sequence[bytes], environment: Mapping[bytes, bytes], ignored: frozenset[int], go: int, report: int
) -> None:
    """Wait for the word and exec; what fails goes through the pipe that a successful exec closes."""
    _restore_dispositions(ignored)
    if os.read(go, 1) != _GO:
        os._exit(127)  # the recorder is gone, or has given up
    number = _exec(argv, environment)
    os.write(report, str(number).encode())
    os._exit(127)


def _restore_dispositions(ignored: frozenset[int]) -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


def _exec(argv: Sequence[bytes], environment: Mapping[bytes, bytes]) -> int:
    """Try what execvp tries, in its order; return the errno that it would report."""
    reported = errno.ENOENT
    for path in _candidates(argv[0], environment):
        try:
            os.execve(path, list(argv), environment)
        except OSError as error:
            number = error.errno or errno.EINVAL
        if number == errno.ENOEXEC:
            number = _exec_script(path, argv, environment)
        if number not in _ABSENT:
            reported = number
            if number != errno.EACCES:
                break
    return reported


def _exec_script(path: bytes, argv: Sequence[bytes], environment: Mapping[bytes, bytes]) -> int:
    """Run a script without a ``#!`` line by the shell, as execvp and every shell do."""
    try:
        os.execve(b"/bin/sh", [b"/bin/sh", path, *argv[1:]], environment)
    except OSError as error:
        return error.errno or errno.ENOEXEC
