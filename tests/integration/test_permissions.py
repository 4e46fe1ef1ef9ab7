"""What the trace of an ordinary user does not hold: bytes and names that this user could not have read."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diffkeeper import Trace, UnknownContentError
from diffkeeper.store.format import read_session
from integration.ways import CannotRunError, Way, ways

pytestmark = pytest.mark.ebpf

WAIT = "touch ready; until [ -e done ]; do sleep 0.02; done"


@pytest.fixture(scope="module")
def user() -> Iterator[Way]:
    """Yield an ordinary user, who records with sudo's help in a folder ``root``."""
    with ways() as make:
        try:
            way = make("user")
        except CannotRunError as reason:
            if os.environ.get("DIFFKEEPER_REQUIRE_EBPF") == "1":
                pytest.fail(str(reason))
            pytest.skip(str(reason))
        yield way


@pytest.fixture
def root(user: Way) -> Iterator[Path]:
    """Yield an empty folder of that user's."""
    folder = user.home / f"root-{time.monotonic_ns()}"
    folder.mkdir()
    give(user, folder)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def give(user: Way, path: Path) -> None:
    os.chown(path, user.identity["user"], user.identity["group"])


def put(path: Path, mode: int, group: int = 0) -> None:
    """Make a file of root's that holds its own name many times."""
    path.write_bytes(path.name.encode() * 100)
    os.chown(path, 0, group)
    path.chmod(mode)


def known(trace: Trace) -> set[bytes]:
    """Return the paths of files whose bytes the trace knows at its end."""
    view, found = trace.at("end"), set()
    for entry in view.entries():
        try:
            if entry.kind == "f" and entry.size and view.read(entry.path) == os.path.basename(entry.path) * 100:
                found.add(entry.path)
        except UnknownContentError:
            continue
    return found


@contextmanager
def recording(user: Way, root: Path) -> Iterator[None]:
    """Have the user record while root acts."""
    process = subprocess.Popen(user.recorded(["sh", "-c", WAIT]), cwd=root, **user.identity)
    try:
        while not (root / "ready").exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield
    finally:
        (root / "done").touch()
        assert process.wait(timeout=60) == 0


def test_bytes_of_what_comes_in_are_those_that_the_user_may_read(user: Way, root: Path) -> None:
    box = user.home / "box"
    (box / "closed").mkdir(parents=True)
    give(user, box)
    put(box / "plain", 0o644)
    put(box / "secret", 0o600)
    put(box / "not-for-its-group", 0o604, user.identity["group"])
    put(box / "closed" / "inner", 0o644)
    (box / "closed").chmod(0o700)
    result = user.run(user.recorded(["mv", "../box", "."]), cwd=root)
    assert result.returncode == 0, result.stderr
    with Trace.open(user.home / "trace", base="") as trace:
        assert known(trace) == {b"box/plain"}
        names = {entry.path for entry in trace.at("end").entries()}
        assert {b"box/secret", b"box/closed"} <= names
        assert b"box/closed/inner" not in names
        assert not trace.info().is_complete


def test_bytes_that_others_write_are_those_that_the_user_may_read(user: Way, root: Path) -> None:
    with recording(user, root):
        for name, mode in (("plain", 0o644), ("secret", 0o600), ("not-for-its-group", 0o604)):
            path = root / name
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, mode))
            os.chown(path, 0, user.identity["group"])
            path.chmod(mode)
            with path.open("r+b", buffering=0) as file:
                file.write(name.encode() * 100)
    with Trace.open(user.home / "trace", base="") as trace:
        assert known(trace) == {b"plain"}


def test_stores_of_others_into_a_mapping_are_not_read_once_the_file_is_closed_to_the_user(
    user: Way, root: Path
) -> None:
    path = root / "mapped"
    with recording(user, root):
        put(path, 0o644)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[:6] = b"1" * 6
            time.sleep(0.5)
            path.chmod(0o600)
            time.sleep(0.3)
            memory[:6] = b"2" * 6
            time.sleep(0.5)
    with Trace.open(user.home / "trace", base="") as trace:
        written = b"".join(trace.data(event) for event in trace.timeline(paths="mapped", ops="all"))
        assert b"1" * 6 in written
        assert b"2" * 6 not in written
        assert not trace.info().is_complete


@pytest.mark.parametrize("name", ["user", "sudo"])
def test_a_user_sets_no_faults_and_no_program_path_for_the_helper(name: str) -> None:
    """The helper runs as root: what a user's environment says must not reach it."""
    with ways() as make:
        way = make(name)
        ran_as_root = way.home / "ran-as-root"
        program = f"import os\nif os.geteuid() == 0: os.mkdir({str(ran_as_root)!r})\n"
        (way.home / "sitecustomize.py").write_text(program)
        variables = {"PATH": os.environ["PATH"], "DIFFKEEPER_FAULTS": "kill=1", "PYTHONPATH": str(way.home)}
        result = way.run(way.recorded(["sh", "-c", "echo one > file"]), env=variables)
        assert not ran_as_root.exists()
        assert result.returncode == 0, result.stderr
        facts = read_session(way.home / "trace")
        assert (facts.complete, facts.engine_facts["faults"]) == (True, {}), facts
