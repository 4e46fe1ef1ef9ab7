"""What records leave in doubt is read again as soon as the file rests, not only when the recording ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from diffkeeper import Kind, Trace
from diffkeeper.model.event import Mark
from integration.test_syscalls import compiled
from oracle.file_systems import FileSystemUnavailableError, file_system
from oracle.folder import FolderReader
from oracle.judge import position_of
from oracle.manifest import compare
from oracle.recorded import Instant, diffkeeper
from oracle.replayed import TraceReader

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = pytest.mark.ebpf


@pytest.mark.parametrize("name", ["race", "turned"])
def test_doubts_are_settled_while_the_recording_goes_on(name: str, tmp_path: Path) -> None:
    try:
        with file_system("tmpfs", tmp_path / "mounted") as place:
            folder = place.folder / "root"
            folder.mkdir()
            hold_against_the_instants(PROGRAMS / f"{name}.c", folder, tmp_path)
    except FileSystemUnavailableError as error:
        pytest.skip(f"tmpfs cannot be had here: {error}")


def hold_against_the_instants(source: Path, folder: Path, tmp_path: Path) -> None:
    instants = tmp_path / "instants"
    instants.mkdir()
    state = tmp_path / "trace"
    program = compiled(source, tmp_path)
    done = subprocess.run(
        [*diffkeeper("record"), "-q", f"--state-dir={state}", "--watch=.", "--", program],
        cwd=folder,
        env={**os.environ, "INSTANTS": str(instants)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    with Trace.open(state) as trace:
        events = list(trace.timeline(ops="all"))
        if not any(event.marks & Mark.AMBIGUOUS for event in events if event.kind == Kind.WRITE):
            pytest.skip("nothing came to be in doubt this time")
        for taken in sorted(instants.glob("*.ns")):
            truth = Instant(int(taken.read_text()), FolderReader(bytes(taken.with_suffix(""))).read())
            reader = TraceReader()
            differences = compare(truth.manifest, reader.read(trace.at(position_of(trace, truth))))
            assert (differences, reader.inexact) == ([], {}), taken.stem
