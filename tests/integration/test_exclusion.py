"""Real recordings with rules: secrets stay out of the trace, and what is saved through an excluded name is exact."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import Trace, record
from diffkeeper.store.content import ContentReader
from diffkeeper.store.format import JOURNAL_NAME, STORE_NAME, Key
from diffkeeper.store.rocks import RocksStore

pytest.importorskip("pathspec")
pytestmark = pytest.mark.ebpf

SECRET = b"hunter2-hunter2-hunter2"
WORK = f"""
import os, pathlib, shutil, sys
os.chdir(sys.argv[1])
secret = {SECRET!r}.decode()
def put(path, text):
    pathlib.Path(path).write_text(text)
put(".env", "PASSWORD=" + secret)
with open(".env", "a") as file:
    file.write(secret * 1000)
os.setxattr(".env", "user.note", secret.encode())
os.mkdir("vault")
put("vault/" + "deep", secret)
os.link("vault/deep", "vault/linked")
put("old-vault/new", secret)
put("old-vault/there", secret)
for text in ("first", "second"):
    put("data.json.tmp", secret)
    put("data.json.tmp", text)
    os.replace("data.json.tmp", "data.json")
put("left.tmp", secret)
put("plain", "public bytes")
os.rename("plain", "plain.tmp")
put("plain.tmp", secret)
put("linked", "of two names")
os.link("linked", "linked.tmp")
with open("linked.tmp", "a") as file:
    file.write(" and more")
shutil.copyfile("linked.tmp", "copied")
os.mkdir("tree.tmp")
put("tree.tmp/leaf", "leaf")
os.symlink("leaf", "tree.tmp/link")
os.rename("tree.tmp", "tree")
os.rename("tree", "vault/tree")
put("vault/tree/leaf", secret)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("excluded")
    work = place / "work"
    (work / "old-vault").mkdir(parents=True)
    (work / "old-vault/there").write_bytes(SECRET)
    (work / "old.env").write_bytes(SECRET)
    (work / "data.json").write_bytes(b"from before")
    for first, second in (("twin", "twin.tmp"), ("pair.tmp", "pair")):
        (work / first).write_bytes(b"of two names from before")
        os.link(work / first, work / second)
    (work / ".diffkeeperignore").write_text("*vault/\n")
    (place / "work.py").write_text(WORK)  # the command's arguments are part of a trace
    return place


@pytest.fixture(scope="module")
def trace(folder: Path, ebpf_refusal: str) -> Iterator[Trace]:
    if ebpf_refusal:
        pytest.skip(ebpf_refusal)
    command = [sys.executable, str(folder / "work.py"), str(folder / "work")]
    outcome = record(command, state_dir=folder / "trace", watch=[folder / "work"], exclude=["*.tmp", "*.env"])
    assert outcome.exit_code == 0
    with Trace.open(folder / "trace") as trace:
        yield trace


def test_no_byte_of_a_secret_is_in_the_sealed_trace(folder: Path, trace: Trace) -> None:
    assert not (folder / "trace" / JOURNAL_NAME).exists()
    for path in (folder / "trace").rglob("*"):
        assert path.is_dir() or SECRET not in path.read_bytes(), path
    store = RocksStore.open_readonly(folder / "trace" / STORE_NAME)
    reader = ContentReader(store)
    for key, value in store.scan(b""):
        assert SECRET not in value
        assert not key.startswith(Key.CHUNK) or SECRET not in reader.chunk(key[len(Key.CHUNK) :])
    store.close()


def test_the_trace_is_complete_and_the_timeline_names_nothing_excluded(trace: Trace) -> None:
    info = trace.info()
    assert info.is_complete, (info.defects, info.damage)
    for event in trace.timeline(ops="all"):
        for path in (event.path, event.path2):
            assert not path.endswith((b".tmp", b".env")), event
            assert b"vault" not in path, event


def test_the_last_state_is_the_folder_without_what_is_excluded(folder: Path, trace: Trace, tmp_path: Path) -> None:
    report = trace.export("end", tmp_path / "out")
    assert report.is_complete
    exclude = ["--exclude=*.tmp", "--exclude=*.env", "--exclude=*vault"]
    command = ["diff", "-r", *exclude, os.fspath(folder / "work"), os.fspath(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")
    assert sorted(os.listdir(tmp_path / "out")) == [
        ".diffkeeperignore",
        "copied",
        "data.json",
        "linked",
        "pair",
        "twin",
    ]


def test_each_atomic_save_is_exact(trace: Trace) -> None:
    saves = list(trace.timeline(paths="data.json", ops="import"))
    versions = [trace.at(f"@{event.number}").read("data.json") for event in saves]
    assert (trace.at("start").read("data.json"), versions) == (b"from before", [b"first", b"second"])


def test_a_folder_that_was_shown_for_a_while_is_whole_then(trace: Trace) -> None:
    (event,) = trace.timeline(paths="tree/link")
    view = trace.at(f"@{event.number}")
    assert (view.read("tree/leaf"), view.stat("tree/link").target) == (b"leaf", b"leaf")
