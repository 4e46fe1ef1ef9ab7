"""What tiny C programs do, one per family of calls, is on the timeline, and each state is the tree as it was.

The last state is compared with the tree, and so is every instant at which a program called ``instant`` (c/must.h).

Each program in ``c/`` says in its header what a wrong recorder would miss, and what the timeline must hold:

    EXPECT: KIND path [-> path2 | <-> path2] [field=value …]     at least one such event
    COUNT: KIND path N                                          exactly so many
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffkeeper import Event, Kind, Trace
from oracle.file_systems import FileSystemUnavailableError, file_system
from oracle.folder import FolderReader
from oracle.judge import describe_event, position_of
from oracle.manifest import compare
from oracle.recorded import Instant, diffkeeper
from oracle.replayed import TraceReader

PROGRAMS = sorted((Path(__file__).parent / "c").glob("*.c"))
# What other file systems do otherwise: XFS and btrfs share blocks, XFS touches no file that is exchanged and announces
# writes as a whole; tmpfs and overlayfs tell nothing from inside their locks, and tmpfs opens no file by handle.
ELSEWHERE = [
    *(("xfs", name) for name in ("ioctl", "copy", "pipes", "exchange", "failed", "handles")),
    *(("btrfs", name) for name in ("ioctl", "copy")),
    *(("tmpfs", name) for name in ("copy", "pipes", "handles", "vectors")),
    *(("overlay", name) for name in ("copy", "pipes", "failed", "open", "threads")),
]
NO_FACILITY = 77  # a program's exit status when the file system lacks what it tests
_FIELD = re.compile(r" (\w+)=(-?[\w.]+)")
_META = ("mode", "uid", "gid", "mtime_ns")

pytestmark = pytest.mark.ebpf


@dataclass(frozen=True)
class Expectation:
    """Hold one EXPECT or COUNT line."""

    kind: Kind
    path: bytes
    path2: bytes
    fields: dict[str, int | bytes]
    count: int | None = None

    def matches(self, event: Event) -> bool:
        if event.kind != self.kind or (self.path and event.path != self.path):
            return False
        if self.path2 and event.path2 != self.path2:
            return False
        return all(_value(event, name) == value for name, value in self.fields.items())


def _value(event: Event, name: str) -> object:
    if name not in _META:
        return getattr(event, name)
    value = getattr(event.meta, name, None)
    return value & 0o7777 if name == "mode" and isinstance(value, int) else value


def expectations(source: str) -> Iterator[Expectation]:
    for line in re.findall(r"^ \* EXPECT: (.*)$", source, re.M):
        fields = dict(_FIELD.findall(line))
        kind, _, names = _FIELD.sub("", line).partition(" ")
        path, _, path2 = names.replace("<->", "->").partition(" -> ")
        values = {name: _field_value(name, text) for name, text in fields.items()}
        yield Expectation(Kind[kind], path.encode(), path2.encode(), values)
    for line in re.findall(r"^ \* COUNT: (.*)$", source, re.M):
        kind, _, rest = line.partition(" ")
        path, _, count = rest.rpartition(" ")
        yield Expectation(Kind[kind], path.encode(), b"", {}, int(count))


def _field_value(name: str, text: str) -> int | bytes:
    if name == "text":
        return text.encode()
    return int(text, 8) if name == "mode" else int(text)


def compiled(source: Path, folder: Path, headers: Path | None = None) -> Path:
    """Compile a program with the system's compiler, or with the one that built the engine."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    compiler = [found] if found else [sys.executable, "-m", "ziglang", "cc"]
    program = folder / source.stem
    subprocess.run([*compiler, "-O1", "-pthread", "-I", headers or source.parent, "-o", program, source], check=True)
    return program


@pytest.mark.parametrize("source", PROGRAMS, ids=[program.stem for program in PROGRAMS])
def test_what_a_program_does_is_recorded(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    hold_against_the_tree(source, root, tmp_path)


@pytest.mark.parametrize(("kind", "name"), ELSEWHERE)
def test_what_a_program_does_is_recorded_on_other_file_systems(kind: str, name: str, tmp_path: Path) -> None:
    source = Path(__file__).parent / "c" / f"{name}.c"
    try:
        with file_system(kind, tmp_path / "mounted") as place:
            root = place.folder / "root"
            root.mkdir()
            hold_against_the_tree(source, root, tmp_path)
    except FileSystemUnavailableError as error:
        pytest.skip(f"{kind} cannot be had here: {error}")


def hold_against_the_tree(source: Path, root: Path, tmp_path: Path) -> None:
    trace_path = tmp_path / "trace"
    (tmp_path / "instants").mkdir()
    program = compiled(source, tmp_path)
    done = subprocess.run(
        [*diffkeeper("record"), "-q", f"--state-dir={trace_path}", "--watch=.", "--", program],
        cwd=root,
        env={**os.environ, "INSTANTS": str(tmp_path / "instants")},
        capture_output=True,
        check=False,
    )
    if done.returncode == NO_FACILITY:
        pytest.skip("this file system lacks what is tested")
    assert done.returncode == 0, done.stderr.decode()
    with Trace.open(trace_path) as trace:
        events = list(trace.timeline(ops="all", output=True))
        missing = [each for each in expectations(source.read_text()) if not _holds(each, events)]
        listing = "\n".join(describe_event(event) for event in events[:60])
        assert not missing, f"{missing}\nThe timeline:\n{listing}"
        compare_instants(trace, tmp_path / "instants", listing)
        truth = FolderReader(bytes(root)).read()
        differences = compare(truth, TraceReader().read(trace.at("end")))
        assert differences == [], "\n".join(map(str, differences)) + f"\nThe timeline:\n{listing}"
        info = trace.info()
        assert (info.defects, info.damage) == ((), ())
        assert info.is_complete
    export(trace_path, tmp_path / "out")
    assert compare(truth, FolderReader(bytes(tmp_path / "out")).read()) == []


def compare_instants(trace: Trace, folder: Path, listing: str) -> None:
    for taken in sorted(folder.glob("*.ns")):
        truth = FolderReader(bytes(taken.with_suffix(""))).read()
        instant = Instant(int(taken.read_text()), truth)
        differences = compare(truth, TraceReader().read(trace.at(position_of(trace, instant))))
        assert differences == [], f"at {taken.stem}:\n" + "\n".join(map(str, differences)) + f"\n{listing}"


def _holds(expectation: Expectation, events: list[Event]) -> bool:
    found = sum(expectation.matches(event) for event in events)
    return found > 0 if expectation.count is None else found == expectation.count


def export(trace: Path, out: Path) -> None:
    command = [*diffkeeper("export"), f"--state-dir={trace}", "--time=end", f"--out={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_program_says_what_is_expected() -> None:
    for program in PROGRAMS:
        assert list(expectations(program.read_text())), program.name
        assert "A wrong recorder" in program.read_text() or "Standard output" in program.read_text()
