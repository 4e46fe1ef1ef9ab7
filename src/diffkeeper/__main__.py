"""The command ``diffkeeper``, also ``python -m diffkeeper``: start a recording's helper, then load what serves it."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys

from diffkeeper import helper_start

TYPE_CHECKING = False  # as in native.py
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit."""
    gc.set_threshold(50_000)  # 700: to import is to allocate, and the collector would run a hundred times for nothing
    arguments = sys.argv[1:]
    helper_start.ahead(arguments)
    from diffkeeper import cli  # while the helper loads

    _leave(cli.run(arguments))


def _leave(code: int) -> NoReturn:
    """Exit without taking the interpreter apart, nor RocksDB: with all that a recording loads that takes 20 ms."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
