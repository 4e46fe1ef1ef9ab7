"""The three ways to record: as root, as an ordinary user with sudo, and typed as ``sudo diffkeeper record``.

The ordinary user is made for the tests, may run everything by sudo without a password, and is removed afterwards. Each
test compares a command that such a user runs plainly with the same command recorded.
"""

from __future__ import annotations

import contextlib
import os
import pty
import pwd
import select
import shutil
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
USER = f"dk{os.getpid()}"
SYSTEM_PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"


class CannotRunError(Exception):
    """Say why a way cannot be tried here."""


@dataclass
class Way:
    """Hold how to record, and as whom the plain command runs."""

    name: str
    prefix: list[str]
    home: Path  # a directory of the user's own
    identity: dict[str, Any] = field(default_factory=dict)  # arguments for subprocess.Popen

    def recorded(self, argv: Sequence[str | Path], *options: str) -> list[str]:
        """Return the command line that records ``argv``."""
        state = self.home / "trace"
        if state.exists():
            shutil.rmtree(state)
        return [*self.prefix, "record", "-q", f"--state-dir={state}", *options, "--", *map(str, argv)]

    def run(self, argv: Sequence[str | Path], **settings: Any) -> subprocess.CompletedProcess[bytes]:
        """Run ``argv`` as the user."""
        arguments = {"capture_output": True, "cwd": self.home, "timeout": 60, **self.identity, **settings}
        return subprocess.run([str(argument) for argument in argv], check=False, **arguments)

    @contextlib.contextmanager
    def asked_for_password(self, password: str) -> Iterator[None]:
        """Have sudo want a password of this user."""
        subprocess.run(["chpasswd"], input=f"{USER}:{password}\n".encode(), check=True)
        rule = Path("/etc/sudoers.d") / USER
        former = rule.read_text()
        rule.write_text(former.replace("NOPASSWD: ", ""))
        try:
            yield
        finally:
            rule.write_text(former)


def open_terminal() -> tuple[int, int]:
    """Return both ends of a pseudo-terminal; skip where there are none (a chroot without /dev/pts)."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"there are no pseudo-terminals here: {error}")


class Terminal:
    """Run a command on a terminal of its own and talk to it."""

    def __init__(self, way: Way, argv: Sequence[str | Path]) -> None:
        master, slave = open_terminal()
        self._master = master
        self.output = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *map(str, argv)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=way.home,
            **way.identity,
        )
        os.close(slave)

    def read_until(self, text: bytes, seconds: float = 15) -> None:
        """Read until some text was printed."""
        end = time.monotonic() + seconds
        while text not in self.output and time.monotonic() < end and self._read():
            pass
        assert text in self.output, self.output

    def rest(self) -> bytes:
        """Return all that was printed."""
        while self._read():
            pass
        return self.output

    def _read(self) -> bool:
        """Take what is there or comes within a moment; return False at the end."""
        if select.select([self._master], [], [], 0.05)[0]:
            try:
                self.output += os.read(self._master, 65_536)
            except OSError:
                return False
        return True

    def type(self, text: bytes) -> None:
        """Press keys."""
        os.write(self._master, text)

    def wait(self) -> int:
        """Return the exit code."""
        return self.process.wait(timeout=20)


@contextlib.contextmanager
def ways() -> Iterator[Callable[[str], Way]]:
    """Yield a function from a name (root, user, sudo) to a Way; it raises CannotRunError."""
    with contextlib.ExitStack() as stack:
        known: dict[str, Way] = {}

        def way(name: str) -> Way:
            if name not in known:
                known[name] = _make(name, stack)
            return known[name]

        yield way


def _make(name: str, stack: contextlib.ExitStack) -> Way:
    if os.geteuid() != 0:
        raise CannotRunError("these tests act for other users, which takes root")
    home = Path(tempfile.mkdtemp(prefix=f"diffkeeper-{name}-"))
    stack.callback(shutil.rmtree, home, ignore_errors=True)
    if name == "root":
        return Way(name, [str(_program(home, sys.executable))], home)
    if shutil.which("sudo") is None or shutil.which("useradd") is None:
        raise CannotRunError("sudo or useradd is not installed")
    user = _user(stack)
    os.chown(home, user.pw_uid, user.pw_gid)
    identity = {
        "user": user.pw_uid,
        "group": user.pw_gid,
        "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid),
    }
    bin_dir = Path(tempfile.mkdtemp(prefix="diffkeeper-bin-"))
    stack.callback(shutil.rmtree, bin_dir, ignore_errors=True)
    bin_dir.chmod(0o755)
    program = _program(bin_dir, _python_for(user))
    prefix = [str(program)] if name == "user" else ["sudo", "-n", _in_secure_path(program, stack)]
    return Way(name, prefix, home, identity)


def _program(folder: Path, python: str) -> Path:
    """Write a ``diffkeeper`` that runs this checkout, whatever is installed."""
    paths = [str(SOURCE), *site.getsitepackages()]
    path = folder / "diffkeeper"
    path.write_text(
        f"#!{python} -B\nimport sys\nsys.path[:0] = {paths!r}\nfrom diffkeeper.__main__ import main\nmain()\n"
    )
    path.chmod(0o755)
    return path


def _python_for(user: pwd.struct_passwd) -> str:
    """Return a Python of this version that the user may run: a checkout under /root has one that he may not."""
    for python in (sys.executable, SYSTEM_PYTHON):
        command = [python, "-c", f"import os; os.listdir({str(SOURCE)!r}); os.listdir({site.getsitepackages()[0]!r})"]
        with contextlib.suppress(OSError):
            if (
                subprocess.run(
                    command, user=user.pw_uid, group=user.pw_gid, capture_output=True, check=False
                ).returncode
                == 0
            ):
                return python
    raise CannotRunError("an ordinary user may not run this Python or read this checkout")


def _user(stack: contextlib.ExitStack) -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(USER)
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", "--groups", "daemon", USER], check=True)
    stack.callback(subprocess.run, ["userdel", "--force", USER], check=False, capture_output=True)
    rule = Path("/etc/sudoers.d") / USER
    rule.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)
    stack.callback(rule.unlink, missing_ok=True)
    return pwd.getpwnam(USER)


def _in_secure_path(program: Path, stack: contextlib.ExitStack) -> str:
    """Make the program known to sudo, whose secure_path has no folder of ours; return its name there."""
    link = Path("/usr/local/bin") / f"diffkeeper-{USER}"
    link.symlink_to(program)
    stack.callback(link.unlink, missing_ok=True)
    return link.name
