"""Journals of real recordings: the same comes out of runs of plain writes as of single ones, and quickly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from diffkeeper.processing.processor import Processor
from diffkeeper.processing.progress import Progress, read_resumable
from diffkeeper.store.format import Key
from diffkeeper.store.rocks import RocksStore
from integration.recorder import run

pytestmark = pytest.mark.ebpf

WRITERS = """
import os, sys
for child in range(3):
    if os.fork() == 0:
        own = os.open(f'own{child}', os.O_CREAT | os.O_WRONLY)
        log = os.open('log', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for number in range(3000):
            os.write(log, b'%d said %d\\n' % (child, number))
            os.pwrite(own, os.urandom(number % 200 + 1), number * 37 % 9000)
            if number % 500 == 0:
                os.rename(f'own{child}', f'other{child}')
                os.rename(f'other{child}', f'own{child}')
        os._exit(0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
BUSY_TREE = """
for round in 1 2 3; do
    mkdir d$round; for i in $(seq 40); do echo $i of $round > d$round/$i; done
    tar cf all.tar d$round; dd if=/dev/zero of=zeros bs=4096 count=200 2>/dev/null; mv d$round e$round; rm e$round/1*
done
"""
ROWS = """
import sqlite3
base = sqlite3.connect('base')
base.execute('create table t (a, b)')
for number in range(150):
    base.execute('insert into t values (?, ?)', (number, 'x' * number)); base.commit()
"""
WORK = {
    "writers": [sys.executable, "-c", WRITERS],
    "tree": ["sh", "-c", BUSY_TREE],
    "sqlite": [sys.executable, "-c", ROWS],
}


def stored(trace: Path, store: Path, *, takes_runs: bool) -> dict[bytes, bytes | Progress | None]:
    """Process a journal; return all that is in the store then."""
    with Processor(trace, store, takes_runs=takes_runs) as processor:
        processor.finish()
    rocks = RocksStore.open_readonly(store)
    items = {key: value for key, value in rocks.scan(b"") if not key.startswith(Key.FACT)}
    return items | {Key.FACT: read_resumable(rocks)}


@pytest.mark.parametrize("name", WORK)
def test_a_recorded_journal_gives_the_same_in_runs_and_one_by_one(name: str, tmp_path: Path) -> None:
    root, trace = tmp_path / "root", tmp_path / "trace"
    root.mkdir()
    done = run("record", "--process=later", "-s", trace, "--", *WORK[name], cwd=root)
    assert done.returncode == 0, done.stderr
    assert "not yet processed" in done.stderr
    one_by_one = stored(trace, tmp_path / "one", takes_runs=False)
    assert len(one_by_one) > 3
    assert stored(trace, tmp_path / "runs", takes_runs=True) == one_by_one


def test_a_trace_that_was_left_for_later_is_processed_by_its_first_reader(tmp_path: Path) -> None:
    root, trace, cache = tmp_path / "root", tmp_path / "trace", {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    root.mkdir()
    assert run("record", "--process=later", "-s", trace, "--", "touch", "a", cwd=root).returncode == 0
    first = run("timeline", trace, cwd=root, **cache)
    assert "CREATE" in first.stdout
    assert "left" in first.stderr
    second = run("timeline", trace, cwd=root, **cache)
    assert (second.stdout, second.stderr) == (first.stdout, "")


def test_strict_and_later_exclude_each_other(tmp_path: Path) -> None:
    done = run("record", "--strict", "--process=later", "--", "true", cwd=tmp_path)
    assert done.returncode == 125
    assert "--process later" in done.stderr
