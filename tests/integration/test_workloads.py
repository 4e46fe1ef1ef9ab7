"""Real work, frozen at random instants, is rebuilt entry by entry and byte by byte: the quick part of the oracle."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oracle import freezer
from oracle.judge import judge
from oracle.recorded import Bench, record_workload
from oracle.workloads import Workload, load_workloads

QUICK = [workload for workload in load_workloads().values() if workload.quick]

pytestmark = pytest.mark.ebpf


BASELINES = [(workload, ()) for workload in QUICK] + [(workload, ("--baseline=full",)) for workload in QUICK[:2]]


@pytest.mark.parametrize(
    ("workload", "options"), BASELINES, ids=["-".join([workload.name, *options]) for workload, options in BASELINES]
)
def test_every_instant_is_exact(workload: Workload, options: tuple[str, ...], tmp_path: Path) -> None:
    obstacle = workload.obstacle()
    if obstacle is not None:
        pytest.skip(obstacle)
    reason = freezer.refusal()
    if reason is not None:
        pytest.skip(f"no process can be frozen here: {reason}")
    seed = int(os.environ.get("DIFFKEEPER_ORACLE_SEED", time.time()))
    recorded = record_workload(workload, Bench(tmp_path / "bench"), instants=5, seed=seed, record=options)
    verdict = judge(recorded, exports=1)
    faults = verdict.faults(bool(workload.marked))
    assert not faults, f"seed {seed}:\n" + "\n".join(faults)
    assert verdict.instants > 0, "the workload ended before it could be frozen once: give it more to do"
