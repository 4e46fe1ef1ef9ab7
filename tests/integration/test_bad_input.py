"""What is asked for wrongly, and what is damaged: an exit code, one line that says what to do, nothing touched."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diffkeeper.processing import process
from diffkeeper.store.format import TraceLock
from diffkeeper.store.journal import remove_journal
from integration.recorder import plain_environment, run
from scripts import COMMAND, Script, begin_trace, seal, write_ring


def _listing(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Return every entry below a folder with what a careless command would change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[os.fspath(path.relative_to(folder))] = (stat.st_mode, stat.st_mtime_ns, digest)
    return found


# --- record


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """Return a folder with what each row needs: files, folders, a trace that was sealed."""
    folder = tmp_path / "work"
    for name in ("full", "root", "dir"):
        (folder / name).mkdir(parents=True)
    (folder / "full" / "notes").write_text("mine")
    (folder / "script").write_text("#!/nonexistent/interpreter\n")
    (folder / "script").chmod(0o755)
    _trace(folder / "trace")
    return folder


RECORD = [
    ([], 125, "Missing argument", "--help"),
    (["--"], 125, "Missing argument", "--help"),
    (["--nonsense", "--", "true"], 125, "No such option '--nonsense'", "--help"),
    (["--baseline", "some", "--", "true"], 125, "'some'", "'touched', 'full', 'index'"),
    (["--timeout", "soon", "--", "true"], 125, "'soon' is not a duration", "write 90s"),
    (["--engine", "magic", "--", "true"], 125, "'magic'", "'ebpf'"),
    (["--watch", "missing", "--", "true"], 125, "no such directory", "correct --watch"),
    (["--watch", "full/notes", "--", "true"], 125, "not a directory", "watch the one it lies in"),
    (["--watch", "", "--", "true"], 125, "no such directory", "correct --watch"),
    (["--state-dir", "full", "--", "true"], 125, "not empty and not a trace", "choose another"),
    (["--state-dir", "full", "--force", "--", "true"], 125, "not empty and not a trace", "choose another"),
    (["--state-dir", "trace", "--", "true"], 125, "holds a trace already", "--force"),
    (["--state-dir", "full/notes", "--", "true"], 125, "not a directory", "choose another"),
    (["--state-dir", "full/notes/trace", "--", "true"], 125, "not a directory", "choose another"),
    (["--state-dir", "/proc/trace", "--", "true"], 125, "/proc", "choose another"),
    (["--state-dir", "x" * 300, "--", "true"], 125, "name too long", "choose another"),
    (["--state-dir", "root", "--watch", "root", "--", "true"], 125, "it is the state directory", "choose another"),
    (["--", "no-such-command"], 127, "no such command", "PATH"),
    (["--", "./missing"], 127, "does not exist", "./missing"),
    (["--", ""], 127, "no such command", "PATH"),
    (["--", "./full/notes"], 126, "may not be executed", "chmod +x"),
    (["--", "./dir"], 126, "may not be executed", "./dir"),
    (["--", "./script"], 127, "interpreter", "does not exist"),
]


@pytest.mark.ebpf
@pytest.mark.parametrize(("arguments", "exit_code", "what", "remedy"), RECORD)
def test_a_recording_that_cannot_be_says_why_in_a_line_and_touches_nothing(
    workplace: Path, arguments: list[str], exit_code: int, what: str, remedy: str
) -> None:
    before = _listing(workplace)
    result = run("record", *arguments, cwd=workplace)
    assert (result.returncode, result.stdout) == (exit_code, "")
    lines = [line for line in result.stderr.splitlines() if not line.startswith("diffkeeper: recording ")]
    assert len(lines) == 1, result.stderr
    assert what.lower() in lines[0].lower()
    assert remedy in lines[0]
    assert _listing(workplace) == before


@pytest.mark.ebpf
def test_a_directory_that_is_recorded_to_is_not_recorded_to_again(workplace: Path) -> None:
    with TraceLock(workplace / "trace"):
        for force in ([], ["--force"]):
            result = run("record", "--state-dir", "trace", *force, "--", "true", cwd=workplace)
            assert result.returncode == 125
            assert "is being recorded to; wait for it" in result.stderr


# --- the commands that read


def _trace(place: Path) -> Path:
    """Make a sealed trace of a command that changed a few files."""
    script = Script()
    script.put("old", b"old content")
    facts = begin_trace(place, script)
    script.starts(COMMAND, b"sh")
    for number in range(40):
        script.at(number / 10).save(f"file{number % 7}", random.Random(number).randbytes(3000))
    script.at(5).exits(256)
    write_ring(place, script.observations)
    process(place)
    seal(place, facts)
    remove_journal(place)
    return place


def _unprocessed(place: Path) -> Path:
    """Make a trace whose recorder was killed: its journal, in several batches, is all there is."""
    script = Script()
    script.put("old", b"old content")
    begin_trace(place, script, end_monotonic_ns=None, exit_code=None, wait_status=None)
    for number in range(40):
        script.at(number / 10).save(f"file{number % 7}", random.Random(number).randbytes(3000))
    write_ring(place, script.observations, end=False, size=16_384)
    (place / "lock").touch()
    return place


def _edit_session(place: Path, **changes: object) -> None:
    session = place / "session.json"
    session.write_text(json.dumps({**json.loads(session.read_text()), **changes}))


READ = [
    (["timeline", "missing"], 10, "diffkeeper record"),
    (["timeline", "empty"], 10, "diffkeeper record"),
    (["timeline", "full/notes"], 10, "diffkeeper record"),
    (["timeline", "full/notes/below"], 10, "diffkeeper record"),
    (["info", "missing"], 10, "diffkeeper record"),
    (["export", "missing", "--out", "out"], 10, "diffkeeper record"),
    (["timeline", "newer"], 12, "pip install --upgrade"),
    (["info", "newer"], 12, "pip install --upgrade"),
    (["export", "newer", "--out", "out"], 12, "pip install --upgrade"),
    (["timeline", "trace", "--since", "5"], 2, "write 5s"),
    (["timeline", "trace", "--until", "soon"], 2, "write 2m14s"),
    (["timeline", "trace", "--since", "2026-01-01T00:00:00"], 2, "with its zone"),
    (["timeline", "trace", "--until", "mark:nowhere"], 2, "no mark"),
    (["timeline", "trace", "--time", "1s..2s", "--since", "1s"], 2, "give it alone"),
    (["timeline", "trace", "--op", "nonsense"], 2, "there is create, write"),
    (["timeline", "trace", "--pid", "me"], 2, "--help"),
    (["timeline", "trace", "--last", "0"], 2, "--help"),
    (["timeline", "trace", "--format", "nonsense"], 2, "'classic'"),
    (["timeline", "trace", "--path", ""], 2, "leave --path out"),
    (["timeline", "trace", "--path", "zzz*"], 1, "no event matches"),
    (["timeline", "trace", "--pid", "99999"], 1, "no event matches"),
    (["timeline", "--state-dir", "trace", "newer"], 2, "write one of them"),
    (["info", "trace", "extra"], 2, "--help"),
    (["export", "trace"], 2, "--out"),
    (["export", "trace", "--out", "full"], 2, "--force"),
    (["export", "trace", "--out", "full/notes"], 2, "name another directory"),
    (["export", "trace", "--out", "full/notes/below"], 2, "name another directory"),
    (["export", "trace", "--out", ""], 2, "name another directory"),
    (["export", "trace", "--out", "trace/out"], 2, "name another place"),
    (["export", "trace", "--out", "out", "--time", "5"], 2, "write 5s"),
    (["export", "trace", "--out", "out", "--time", "nonsense"], 2, "write 2m14s"),
    (["export", "trace", "--out", "out", "--time", "@-1"], 2, "write 2m14s"),
    (["export", "trace", "--out", "out", "--time", "1s..2s"], 2, "one position"),
    (["export", "trace", "--out", "out", "--path", "zzz*"], 1, "nothing matches"),
    (["timelin"], 2, "did you mean 'timeline'"),
]


@pytest.mark.parametrize(("arguments", "exit_code", "remedy"), READ)
def test_a_question_that_cannot_be_answered_is_refused_in_a_line_and_touches_nothing(
    workplace: Path,
    arguments: list[str],
    exit_code: int,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from diffkeeper import cli

    (workplace / "empty").mkdir()
    shutil.copytree(workplace / "trace", workplace / "newer")
    _edit_session(workplace / "newer", format=99)
    monkeypatch.chdir(workplace)
    before = _listing(workplace)
    assert cli.run(arguments) == exit_code
    said = capfd.readouterr()
    assert len(said.err.splitlines()) == 1, said.err
    assert remedy in said.err
    assert said.out == "" or exit_code == 1
    assert _listing(workplace) == before


@pytest.mark.parametrize("command", [["timeline"], ["info"], ["export", "--out", "out"]])
def test_a_trace_that_is_recorded_to_is_not_read(
    workplace: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from diffkeeper import cli

    _edit_session(workplace / "trace", state="recording")
    monkeypatch.chdir(workplace)
    before = _listing(workplace)
    with TraceLock(workplace / "trace"):
        assert cli.run([*command, "-s", "trace"]) == 11
        assert "read it when the command has ended" in capfd.readouterr().err
    after = _listing(workplace)
    after.pop("trace/lock", None)
    after["trace"] = before["trace"]  # its lock was taken by the test itself
    assert after == before


# --- damage

_RUN_ALL = """
import json, os, sys
from diffkeeper import cli
for place in sys.argv[1:]:
    codes = []
    for command in (["info"], ["timeline", "--json"], ["export", "--out", place + "-out", "--force"]):
        sys.stdout, sys.stderr = open(place + "-" + command[0], "w"), open(place + "-" + command[0] + "-said", "w")
        codes.append(cli.run([*command, "-s", place]))
        sys.stdout.close(), sys.stderr.close()
    sys.stdout = sys.__stdout__
    print(json.dumps([os.path.basename(place), codes]), flush=True)
"""


def _read_all(places: list[Path], home: Path) -> dict[str, list[int]]:
    """Read each trace in a process of its own making, so that one that dies of it is noticed; return exit codes."""
    result = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, *map(str, places)],
        env=plain_environment(XDG_CACHE_HOME=os.fspath(home / "cache")),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    codes = dict(json.loads(line) for line in result.stdout.splitlines())
    assert result.returncode == 0, (result.stderr, places[len(codes)])
    return codes


def _said(place: Path) -> str:
    return "".join(Path(f"{place}-{name}-said").read_text() for name in ("info", "timeline", "export"))


def _damaged(home: Path, pristine: Path, damage: dict[str, Callable[[Path], object]]) -> dict[str, Path]:
    places = {}
    for name, harm in damage.items():
        place = places[name] = home / name
        shutil.copytree(pristine, place)
        harm(place)
    return places


def _only(pattern: str) -> Callable[[Path], Path]:
    return lambda place: next(iter(sorted(place.glob(pattern))))


def _cut(pattern: str, share: float) -> Callable[[Path], object]:
    def cut(place: Path) -> None:
        path = _only(pattern)(place)
        os.truncate(path, int(path.stat().st_size * share))

    return cut


def _delete(pattern: str) -> Callable[[Path], object]:
    def delete(place: Path) -> None:
        for path in place.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return delete


def _flip(pattern: str, seed: int) -> Callable[[Path], object]:
    """Change a few bytes anywhere in a file."""

    def flip(place: Path) -> None:
        path, chance = _only(pattern)(place), random.Random(seed)
        data = bytearray(path.read_bytes())
        used = len(data.rstrip(b"\\0"))
        for _ in range(3):
            data[chance.randrange(used)] ^= chance.randrange(1, 256)
        path.write_bytes(data)

    return flip


def _write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(data)


SESSIONS = {
    "empty": b"",
    "garbage": b"\x80\xff{{",
    "list": b"[]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "format-text": b'{"format": "one"}',
    "no-id": b'{"format": 1}',
    "wrong-types": b'{"format": 1, "trace_id": 4660, "state": "sealed", "argv": 3}',
    "huge-number": b'{"format": 1, "trace_id": 1' + b"0" * 5000 + b', "state": "sealed"}',
}


def test_a_session_that_makes_no_sense_costs_what_it_said_alone(tmp_path: Path) -> None:
    pristine = _trace(tmp_path / "pristine")
    damage = {name: _write("session.json", data) for name, data in SESSIONS.items()}
    places = _damaged(tmp_path, pristine, {**damage, "deleted": _delete("session.json")})
    codes = _read_all(list(places.values()), tmp_path)
    assert codes == {name: [3, 3, 3] for name in places}
    for name, place in places.items():
        assert "Traceback" not in _said(place), name
        assert "lost: session.json" in _said(place)
        assert "file0" in Path(f"{place}-timeline").read_text()
        assert Path(f"{place}-out/old").read_bytes() == b"old content"


def test_a_damaged_store_is_read_as_far_as_it_can_be(tmp_path: Path) -> None:
    pristine = _trace(tmp_path / "pristine")
    damage: dict[str, Callable[[Path], object]] = {
        "no-tables": _delete("store/*.sst"),
        "no-current": _delete("store/CURRENT"),
        "no-manifest": _delete("store/MANIFEST-*"),
        "no-store": _delete("store"),
        "empty-store": _delete("store/*"),
        "store-is-a-file": lambda place: (_delete("store")(place), _write("store", b"file")(place)),
        "current-leads-astray": _write("store/CURRENT", b"MANIFEST-999999\n"),
        "current-is-garbage": _write("store/CURRENT", b"\xff\0garbage"),
        "empty-table": _cut("store/*.sst", 0),
        "half-a-table": _cut("store/*.sst", 0.5),
        "nearly-a-table": _cut("store/*.sst", 0.99),
        "half-a-manifest": _cut("store/MANIFEST-*", 0.5),
        "table-is-a-folder": lambda place: _replace_by_folder(_only("store/*.sst")(place)),
    }
    damage |= {f"flipped-table-{seed}": _flip("store/*.sst", seed) for seed in range(12)}
    damage |= {f"flipped-manifest-{seed}": _flip("store/MANIFEST-*", seed) for seed in range(4)}
    places = _damaged(tmp_path, pristine, damage)
    codes = _read_all([pristine, *places.values()], tmp_path)
    assert codes["pristine"] == [0, 0, 0]
    for name, place in places.items():
        assert "Traceback" not in _said(place), name
        told, listed, exported = codes[name]
        assert {told, listed, exported} <= {0, 3}, name
        # What a command did not come across it does not tell of; but what it answers without a word is whole.
        assert listed == 3 or _rows(place) == _rows(pristine), name
        assert exported == 3 or _files(place) == _files(pristine), name


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _rows(place: Path) -> list[dict[str, object]]:
    """Return the events of a timeline that was read."""
    rows = map(json.loads, Path(f"{place}-timeline").read_text().splitlines())
    return [{**row, "is_last_change": None} for row in rows if row["type"] == "event"]


def _files(place: Path) -> dict[str, bytes]:
    out = Path(f"{place}-out")
    return {os.fspath(path.relative_to(out)): path.read_bytes() for path in out.rglob("*")}


def test_a_damaged_journal_is_read_up_to_the_damage(tmp_path: Path) -> None:
    pristine = _unprocessed(tmp_path / "pristine")
    damage: dict[str, Callable[[Path], object]] = {
        "whole": lambda place: None,
        "no-journal": _delete("journal"),
        "no-ring": _delete("journal/r*"),
        "no-baseline": _delete("journal/b*"),
        "empty-ring": _cut("journal/r*", 0),
        "half-a-ring": _cut("journal/r*", 0.5),
        "half-a-baseline": _cut("journal/b*", 0.5),
        "foreign-ring": _write("journal/r000001.seg", os.urandom(4096)),
        "odd-names": _write("journal/r1.seg.bak", b"odd"),
    }
    damage |= {f"flipped-ring-{seed}": _flip("journal/r*", seed) for seed in range(8)}
    damage |= {f"flipped-baseline-{seed}": _flip("journal/b*", seed) for seed in range(4)}
    places = _damaged(tmp_path, pristine, damage)
    codes = _read_all(list(places.values()), tmp_path)
    for name, place in places.items():
        assert "Traceback" not in _said(place), name
        assert codes[name] == [3, 3, 3], name
    whole = _rows(places["whole"])
    assert len(whole) == 80
    for name in ("half-a-ring", "empty-ring", *(f"flipped-ring-{seed}" for seed in range(8))):
        found = _rows(places[name])
        assert found == whole[: len(found)], name
    assert len(_rows(places["half-a-ring"])) > 30
