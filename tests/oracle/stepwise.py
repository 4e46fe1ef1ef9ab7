"""Hold a trace against what a workload wrote down itself after each of its steps, thousands of them in one recording.

The form is that of ``programs/pairs.c``. Each step changes one folder only, so its state is true until the folder's
next step. The trace is folded once, event by event, by the same ``Tree.apply`` that every state of it comes from; a
sample of the steps is asked for by position as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffkeeper import Entry, Trace, TreeView
from oracle.manifest import Content, Difference, Manifest, State, compare, with_links
from oracle.replayed import TraceReader

_SAMPLE = 12


@dataclass(frozen=True)
class Step:
    """Hold what was done in a folder, when it was over (CLOCK_MONOTONIC), and what was there then."""

    folder: bytes
    t_ns: int
    words: str
    manifest: Manifest


@dataclass(frozen=True)
class StepResult:
    """Hold how the trace stands to one step; ``inexact`` is what it does not vouch for."""

    step: Step
    cut: int
    differences: list[Difference]
    inexact: dict[bytes, str]


def read_steps(file: Path) -> list[Step]:
    """Return the steps that a workload wrote down."""
    blocks = file.read_text().split("= ")[1:]
    return [_step(*block.rstrip("\n").split("\n")) for block in blocks]


def _step(head: str, *lines: str) -> Step:
    folder, t_ns, words = head.split(" ", 2)
    states: Manifest = {}
    files: dict[bytes, object] = {}
    for line in lines:
        path, inode, state = _entry(line)
        states[path], files[path] = state, inode
    return Step(folder.encode(), int(t_ns), words.strip(), with_links(states, files))


def _entry(line: str) -> tuple[bytes, str, State]:
    _, kind, mode, uid, gid, mtime_ns, rdev, inode, size, sums, target, attributes, path = line.split(" ", 12)
    xattrs = (pair.split("=") for pair in attributes[1:].split(",")[:-1])
    blocks = tuple(int(each, 16) for each in sums.split(",")[:-1])
    state = State(
        kind,
        int(mode, 8),
        int(uid),
        int(gid),
        int(mtime_ns),
        int(rdev) if kind in "bc" else 0,
        bytes.fromhex(target[1:]),
        tuple(sorted((bytes.fromhex(name), bytes.fromhex(value)) for name, value in xattrs)),
        b"",
        Content(int(size), b"", blocks) if kind == "f" else None,
    )
    return path.encode(), inode, state


def compare_steps(trace: Trace, steps: Iterable[Step]) -> Iterator[StepResult]:
    """Yield how the trace stands to each step, in their order."""
    view, reader = trace.at("start"), TraceReader()
    events = trace.timeline(ops="all", output=True)
    waiting = next(events, None)
    for step in steps:
        cut = trace.cut(f"{step.t_ns - trace.facts.start_monotonic_ns}ns")
        while waiting is not None and waiting.number <= cut:
            view.tree.apply(waiting)
            waiting = next(events, None)
        yield _compare(view, reader, step, cut)


def compare_sample(trace: Trace, steps: list[Step], seed: int) -> Iterator[StepResult]:
    """Yield how the trace stands to a few steps, each asked for by its position."""
    reader = TraceReader()
    for step in random.Random(seed).sample(steps, min(_SAMPLE, len(steps))):
        view = trace.at(f"{step.t_ns - trace.facts.start_monotonic_ns}ns")
        yield _compare(view, reader, step, view.number)


def _compare(view: TreeView, reader: TraceReader, step: Step, cut: int) -> StepResult:
    found = reader.read_entries(view, _below(view, step.folder))
    return StepResult(step, cut, compare(step.manifest, without_digests(found)), dict(reader.inexact))


def _below(view: TreeView, folder: bytes) -> Iterator[Entry]:
    """Yield the entries of a folder under their paths in it; walking the whole tree each time would take hours."""
    top = view.tree.lookup(folder)
    waiting = [(b"", top)] if top is not None else []
    while waiting:
        path, node = waiting.pop()
        for name, number in sorted((node.children or {}).items()):
            child = view.tree.nodes[number]
            yield view.entry_of(path + name, child)
            waiting.append((path + name + b"/", child))


def without_digests(manifest: Manifest) -> Manifest:
    """Return a manifest with what a program in C can compute of the content: its size and a checksum of each block."""
    return {path: _without_digest(state) for path, state in manifest.items()}


def _without_digest(state: State) -> State:
    content = state.content
    bare = None if content is None else Content(content.size, b"", content.blocks)
    return State(**{**vars(state), "content": bare})
