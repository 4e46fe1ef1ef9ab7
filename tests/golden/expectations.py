"""What diffkeeper says of golden traces: as files beside them, and as found now."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from diffkeeper import cli

TRACES = ("sealed", "broken")
POSITIONS = ("start", "2s", "@20", "end")
OF_THE_PLACE = ("path", "journal_bytes", "store_bytes")  # what info tells that is not of the recording


def unpack(archive: Path, home: Path) -> None:
    """Unpack the traces of an archive of our own."""
    with tarfile.open(archive) as tar:
        tar.extractall(home, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(home)


def said_of(trace: Path) -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of all that is compared."""
    name = trace.name
    yield f"{name}.timeline.txt", _run("timeline", "--all", os.fspath(trace))
    info = json.loads(_run("info", "--json", os.fspath(trace)))
    kept = {key: value for key, value in info.items() if key not in OF_THE_PLACE}
    yield f"{name}.info.json", json.dumps(kept, indent=1, sort_keys=True) + "\n"
    for position in POSITIONS:
        yield f"{name}.{position}.manifest.txt", _manifest(trace, position)


def _run(*arguments: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        code = cli.run(arguments)
    assert code in (0, 3), f"{arguments} ended with {code}"
    return output.getvalue()


def _manifest(trace: Path, position: str) -> str:
    """Return what an export as tar holds, one line a file: it needs no rights, and has all that is known of each."""
    with tempfile.TemporaryDirectory() as folder:
        _run("export", "--time", position, "--out", f"{folder}/out.tar", os.fspath(trace))
        with tarfile.open(f"{folder}/out.tar") as tar:
            return "".join(_line(tar, member) for member in tar)


def _line(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member) if member.isreg() else None
    digest = hashlib.sha256(file.read()).hexdigest()[:16] if file else "-"
    pax = {key: value for key, value in member.pax_headers.items() if key not in ("path", "linkpath", "mtime", "size")}
    fields = (
        member.type.decode(),
        f"{member.mode:04o}",
        f"{member.uid}:{member.gid}",
        str(member.size),
        f"{member.mtime:.6f}",
        digest,
        json.dumps(member.name),
        json.dumps(member.linkname),
        json.dumps(pax, sort_keys=True),
    )
    return " ".join(fields) + "\n"


def write_expectations(archive: Path) -> None:
    """Write what is said now of the traces of an archive into the folder beside it."""
    folder = archive.with_name(archive.name.removesuffix(".tar.gz"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
        unpack(archive, Path(home))
        for trace in TRACES:
            for name, text in said_of(Path(home) / trace):
                (folder / name).write_text(text, encoding="utf-8")
