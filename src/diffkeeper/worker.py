"""The program ``python -m diffkeeper.worker TRACE MEMORY``: process a journal while it grows, at the lowest priority.

Its protocol is drawn in ``processing/background.py``. ``advance`` lines that have piled up count as one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from diffkeeper.errors import DiffkeeperError
from diffkeeper.processing.processor import Processor
from diffkeeper.store.format import DROP_OLDEST, read_session
from diffkeeper.verification.run import verify

_LOOK_SECONDS = 0.5
_NICE_WITH_LITTLE_ROOM = 5


def main(arguments: list[str]) -> int:
    """Serve lines from standard input until ``finish``, ``verify`` or its end; return the exit status."""
    trace_dir, memory_bytes = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command; the recorder ends the worker
    _end_with(os.getppid())
    try:
        _yield_to_others(Path(trace_dir))
        return _serve(Path(trace_dir), int(memory_bytes))
    except DiffkeeperError as error:
        _say(f"failed {error}")
    except Exception as error:  # a defect of ours must not end in silence: the recorder shows this line
        _say(f"failed {type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # Python takes its handlers away some time before it ends
    return 1


def _serve(trace_dir: Path, memory_bytes: int) -> int:
    with Processor.of_trace(trace_dir, memory_bytes) as processor:
        processor.on_safe, processor.on_full = _say_recyclable, _say_full
        for word in _words():
            if word != b"advance":
                _stop_yielding()
                totals = processor.finish()
                done: dict[str, object] = {"counted": totals.summary()}
                done |= {"damage": processor.damage, "has_end": processor.has_end}
                _say("done " + json.dumps(done))
                if word == b"verify":
                    found = verify(processor, trace_dir).to_json()
                    _say("verified " + json.dumps({"found": found, "counted": totals.summary()}))
                return 0
            processor.advance()
            _say_recyclable(processor.recyclable())
    return 0


def _say_full() -> None:
    _say("full")


def _say_recyclable(numbers: list[int]) -> None:
    if numbers:
        _say("recyclable " + " ".join(map(str, numbers)))


def _words() -> Iterator[bytes]:
    """Yield one ``advance`` for however many have piled up, ``finish`` or ``verify``; end with the input."""
    unread = b""
    while data := os.read(0, 65_536):
        *lines, unread = (unread + data).split(b"\n")
        if lines:
            yield next((line for line in lines if line != b"advance"), b"advance")


def _end_with(recorder: int) -> None:
    """End soon after the recorder was killed, in the middle of a long ``advance`` too: a reader does the rest."""

    def look(number: int, frame: FrameType | None) -> None:
        if os.getppid() != recorder:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.siginterrupt(signal.SIGALRM, False)  # system calls of RocksDB go on after it
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)


def _yield_to_others(trace_dir: Path) -> None:
    """Run when nobody else wants to; where room must be made for the journal, only after others."""
    if read_session(trace_dir).on_full == DROP_OLDEST:
        os.nice(_NICE_WITH_LITTLE_ROOM)
        return
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _stop_yielding() -> None:
    """Run at nice 19 only: after the command someone waits for the result."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _say(line: str) -> None:
    sys.stdout.write(line.replace("\n", " ") + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
