"""Run workloads against the oracle by hand (as root): ``PYTHONPATH=tests python -m oracle [--list] [WORKLOAD …]``."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from oracle.file_systems import NAMES, FileSystemUnavailableError, Place, file_system
from oracle.freezer import FreezerUnavailableError
from oracle.judge import judge
from oracle.recorded import Bench, WorkloadFailedError, record_workload
from oracle.workloads import Workload, load_workloads


def main() -> int:
    """Run what is asked for; return 1 if anything is not exact."""
    options = _parse()
    workloads = load_workloads()
    if options.list:
        for workload in workloads.values():
            print(f"{workload.name:12}{'quick ' if workload.quick else '      '}{workload.why}")
        return 0
    unknown = set(options.workloads) - workloads.keys()
    if unknown:
        sys.exit(f"no such workload: {', '.join(sorted(unknown))}")
    chosen = options.workloads or [name for name, each in workloads.items() if each.quick or not options.quick]
    rounds = range(options.seed, options.seed + options.rounds)
    return max(_run_on(place, [workloads[name] for name in chosen], rounds, options) for place in options.fs or [""])


def _run_on(place: str, chosen: list[Workload], rounds: range, options: argparse.Namespace) -> int:
    """Run workloads on one file system; one that cannot be had is said, and no fault."""
    if not place:
        return max(_run(workload, seed, options) for seed in rounds for workload in chosen)
    print(f"--- on {place}", flush=True)
    with tempfile.TemporaryDirectory(prefix="oracle-places-", dir=options.dir) as home:
        try:
            with file_system(place, Path(home)) as made:
                return max(_run(workload, seed, options, made) for seed in rounds for workload in chosen)
        except FileSystemUnavailableError as error:
            print(f"{place:12} skipped: {error}", flush=True)
            return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="oracle", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="those to run; all without any")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--quick", action="store_true", help="only the quick ones")
    parser.add_argument("--instants", type=int, default=10, help="how many random instants (10)")
    parser.add_argument("--exports", type=int, default=3, help="how many of them go through the command line (3)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="which instants")
    parser.add_argument("--rounds", type=int, default=1, help="how often, each with the next seed")
    parser.add_argument(
        "--fs", action="append", choices=NAMES, help="on a fresh file system of that kind, mounted here"
    )
    parser.add_argument("--dir", type=Path, help="where to work: which file system is tested")
    parser.add_argument("--faults", type=int, default=12, help="how many faults are shown of each (12)")
    parser.add_argument("--keep", action="store_true", help="leave root and trace of a failed run in place")
    parser.add_argument("--record", action="append", default=[], metavar="OPTION", help="one more option of record")
    return parser.parse_args()


def _run(workload: Workload, seed: int, options: argparse.Namespace, place: Place | None = None) -> int:
    """Run one workload and print what was found."""
    missing = [name for name in workload.needs if shutil.which(name) is None]
    if missing:
        print(f"{workload.name:12} skipped: {', '.join(missing)} is not installed")
        return 0
    folder = options.dir if place is None else place.folder
    home = Path(tempfile.mkdtemp(prefix=f"oracle-{workload.name}-", dir=folder))
    try:
        recorded = record_workload(
            workload,
            Bench(home / "bench"),
            instants=options.instants,
            seed=seed,
            record=options.record,
            settle=place.settle if place is not None else None,
        )
        verdict = judge(recorded, options.exports)
    except (WorkloadFailedError, FreezerUnavailableError) as error:
        print(f"{workload.name:12} FAILED (seed {seed}): {error}  [{home}]", flush=True)
        return 1
    print(
        f"{workload.name:12} {'FAULTS' if verdict.faults else 'exact'}  {verdict.events:,} events in "
        f"{recorded.seconds:.1f}s, trace {verdict.trace_bytes:,} bytes, {verdict.instants} instants, "
        f"{verdict.exports} exports, seed {seed}",
        flush=True,
    )
    for fault in verdict.faults[: options.faults]:
        print("   ", fault)
    if len(verdict.faults) > options.faults:
        print(f"    and {len(verdict.faults) - options.faults} more faults")
    if not (verdict.faults and options.keep):
        shutil.rmtree(home)
    elif verdict.faults:
        print("    kept in", home)
    return bool(verdict.faults)


if __name__ == "__main__":
    sys.exit(main())
