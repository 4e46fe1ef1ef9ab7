"""Where reporters write to: a text stream, whether it is coloured, and a pager in front of a terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from typing import TextIO

from diffkeeper.model.values import dataclass

COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}
_STYLES = COLOURS | {"bold": "1", "dim": "2", "bold red": "1;31"}


@dataclass(frozen=True, slots=True)
class Output:
    """Hold a stream and whether escape sequences may be written to it."""

    stream: TextIO
    is_coloured: bool = False

    def styled(self, text: str, style: str) -> str:
        """Return text in a style, or as it is where there are no colours."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.is_coloured and style else text

    def line(self, text: str = "") -> None:
        """Write one line."""
        self.stream.write(text + "\n")


def wants_colour(choice: str, stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Decide on colours: ``always`` and ``never`` win, then FORCE_COLOR, NO_COLOR (no-color.org), then the terminal."""
    if choice != "auto":
        return choice == "always"
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    if environ.get("NO_COLOR"):
        return False
    return stream.isatty() and environ.get("TERM") != "dumb"


def standard(color: str = "auto") -> Output:
    """Return standard output; names that its encoding lacks are written as escapes instead of failing."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Output(sys.stdout, wants_colour(color, sys.stdout, os.environ))


@contextlib.contextmanager
def paged(output: Output) -> Iterator[Output]:
    """Put the user's pager behind an output that is a terminal; any other is left as it is."""
    pager = _pager_command(os.environ) if output.stream.isatty() and sys.stdin.isatty() else []
    process = _start(pager) if pager else None
    if process is None or process.stdin is None:
        yield output
        return
    stream = TextIOWrapper(process.stdin, encoding="utf-8", errors="backslashreplace")
    try:
        yield Output(stream, output.is_coloured)
    except BrokenPipeError:
        pass  # the reader has seen enough
    finally:
        with contextlib.suppress(BrokenPipeError):
            stream.close()
        process.wait()


def _pager_command(environ: Mapping[str, str]) -> list[str]:
    wanted = environ.get("DIFFKEEPER_PAGER", environ.get("PAGER", "less"))
    command = shlex.split(wanted)
    return [] if command == ["cat"] else command


def _start(command: list[str]) -> subprocess.Popen[bytes] | None:
    # As git does: quit if it fits on one screen, let colours through, leave the text on the screen.
    environ = {"LESS": "FRX", **os.environ}
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=environ)
    except OSError:
        return None
