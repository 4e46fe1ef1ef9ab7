"""A kill at any write to the store, while its oldest history is dropped, leaves a trace that answers as it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diffkeeper import Trace
from diffkeeper.store.format import trace_state
from histories import process_whole, states

SEED = 5

# Arguments: trace, seed, the call at which to die, and whether after it.
WORKER = """
import importlib, os, sys
from pathlib import Path
from diffkeeper.store.rocks import RocksStore
import histories

for name, value in histories.SETTINGS.items():
    module, _, attribute = name.rpartition(".")
    setattr(importlib.import_module(module), attribute, value)
place, seed, point, is_after = Path(sys.argv[1]), *map(int, sys.argv[2:])
calls = 0

def dying(function):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == point and not is_after:
            os._exit(9)
        answer = function(*arguments, **named)
        if calls == point:
            os._exit(9)
        return answer
    return call

for name in ("put_many", "replace_many", "flush", "compact"):
    setattr(RocksStore, name, dying(getattr(RocksStore, name)))
histories.process_dropping(place, seed, lambda commit: True)
print(calls)
"""


def run(place: Path, point: int, is_after: bool) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", WORKER, str(place), str(SEED), str(point), str(int(is_after))]
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(arguments, env=path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("is_after", [False, True])
def test_a_kill_while_history_is_dropped_costs_nothing_of_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_after: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    whole = states(process_whole(tmp_path / "whole", SEED), 0)
    ended = run(tmp_path / "calls", 0, is_after)
    assert ended.returncode == 0, ended.stderr
    begun = set()
    for point in range(2 + is_after, int(ended.stdout), 3):
        place = tmp_path / str(point)
        assert run(place, point, is_after).returncode == 9
        assert trace_state(place) == "broken"
        with Trace.open(place) as opened:
            first = opened.beginning.number
        begun.add(first)
        left = states(place, first)
        assert left
        assert left == whole[first : first + len(left)]
    assert len(begun) >= 3, "kills came before, between and after"
