"""Reads the code blocks of a Markdown document, runs its sessions, and writes real output back into it.

A block of language ``console`` is a session: lines that start with ``$`` are commands, the others what they print.
``python`` is a program. Both are run. Any other language is not: ``sh`` for what changes the machine, ``text``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KERNEL = re.sub(r"[^\d.].*", "", os.uname().release)  # without what only the machine's maker knows
# What no two runs share, and what stands for it when sessions are compared.
_CHANCE = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "INSTANT"),
    (re.compile(r"\b\d\d:\d\d\.\d+"), "CLOCK"),
    (re.compile(r"\b(?:\d+m)?[\d.]+(?:s|ms)\b(?!\])"), "SPAN"),
    (re.compile(r"\[\d+\]"), "[PID]"),
    (re.compile(r"@\d+"), "@N"),
    (re.compile(r"[\d.,]+ [KMG]iB"), "SIZE"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "ID"),
    (re.compile(r'"(number|\w+_ns|pid|tid|uid|gid)":\d+'), r'"\1":N'),
    (re.compile(r"Python 3\.\S+,"), "Python"),
    (re.compile(r"as \w+ on \S+, Linux \S+"), "as USER on HOST, KERNEL"),
    (re.compile(r"Linux [\d.]+\S* x86_64, as .*"), "KERNEL, as USER"),
    (re.compile(r"up to [\d,]+ folders"), "up to N folders"),
    (re.compile(r" +"), " "),
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and where the text stands in the document."""

    language: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Step:
    """One command of a session and what it prints."""

    command: str
    output: str


def blocks(document: str) -> Iterator[Block]:
    """Yield the fenced blocks of a document."""
    for match in _BLOCK.finditer(document):
        yield Block(match[1], match[2], match.start(2), match.end(2))


def steps(session: str) -> Iterator[Step]:
    """Cut a session into its commands."""
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield Step(command, output)


def run(command: list[str], place: Path) -> str:
    """Run a command as a reader would, with the tested diffkeeper first on the PATH; return what a terminal shows."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    result = subprocess.run(
        command,
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stdout.replace(str(place), "/home/you/project").replace(os.uname().release, _KERNEL)


def run_session(session: str, place: Path) -> str:
    """Return the session with what its commands print now."""
    return "".join(f"$ {step.command}\n{_ended(run(['sh', '-c', step.command], place))}" for step in steps(session))


def _ended(output: str) -> str:
    """Return output with the newline that a block needs at its end."""
    return output if output.endswith("\n") or not output else output + "\n"


def without_chance(session: str) -> str:
    """Return a session without what no two runs share: instants, durations, process ids, machine, columns."""
    for pattern, replacement in _CHANCE:
        session = pattern.sub(replacement, session)
    return session
