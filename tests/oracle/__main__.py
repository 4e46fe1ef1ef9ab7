"""Run workloads against the oracle by hand (as root): ``PYTHONPATH=tests python -m oracle [--list] [WORKLOAD …]``."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

from oracle.file_systems import NAMES, FileSystemUnavailableError, Place, file_system
from oracle.freezer import FreezerUnavailableError
from oracle.judge import Finding, Verdict, judge
from oracle.recorded import Bench, WorkloadFailedError, record_workload
from oracle.table import Row, conditions_of, has_section, write_table
from oracle.workloads import Workload, load_workloads

_MOST_ROUNDS = 8  # of a workload that is over before it could be held still often enough


def main() -> int:
    """Run what is asked for; return 1 if anything is not exact."""
    options = _parse()
    workloads = load_workloads()
    if options.list:
        for workload in workloads.values():
            print(f"{workload.name:18}{'quick ' if workload.quick else '      '}{workload.why}")
        return 0
    unknown = set(options.workloads) - workloads.keys()
    if unknown:
        sys.exit(f"no such workload: {', '.join(sorted(unknown))}")
    chosen = options.workloads or [name for name, each in workloads.items() if each.quick or not options.quick]
    for section in options.fs or [options.section]:
        if options.table and not has_section(options.table, section):
            sys.exit(f"{options.table} has no section for {section}")  # now, and not when it has all been run
    right = [_run_on(place, [workloads[name] for name in chosen], options) for place in options.fs or [""]]
    return 0 if all(right) else 1


def _run_on(name: str, chosen: list[Workload], options: argparse.Namespace) -> bool:
    """Run workloads on one file system; one that cannot be had is said, and no fault."""
    if not name:
        return _run_all(chosen, options, None, options.section)
    print(f"--- on {name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="oracle-places-", dir=options.dir) as home:
        try:
            with file_system(name, Path(home)) as place:
                return _run_all(chosen, options, place, name)
        except FileSystemUnavailableError as error:
            print(f"{name:16} skipped: {error}", flush=True)
            return True


def _run_all(chosen: list[Workload], options: argparse.Namespace, place: Place | None, section: str) -> bool:
    """Run workloads one after another, and write the table if one is wanted; say whether all were right."""
    rows, is_right, started = [], True, time.monotonic()
    for workload in chosen:
        row, passed = _run(workload, options, place, started)
        rows.append(row)
        is_right &= passed
        took_s = time.monotonic() - started
        if options.table:
            write_table(rows, options.table, section, conditions_of(options.instants, options.seed, section, took_s))
    print(f"{len(rows)} workloads in {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return is_right


def _is_over(options: argparse.Namespace, started: float) -> bool:
    return time.monotonic() - started > options.minutes * 60


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
        "--fill", action="store_true", help="again, with the next seed, until there are that many instants"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin nothing more after so many, on each file system"
    )
    parser.add_argument(
        "--fs", action="append", choices=NAMES, help="on a fresh file system of that kind, mounted here"
    )
    parser.add_argument("--dir", type=Path, help="where to work: which file system is tested")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write a table in Markdown, into a document's marks")
    parser.add_argument("--section", default="disk", help="which table of that document it is, without --fs (disk)")
    parser.add_argument("--faults", type=int, default=12, help="how many faults are shown of each (12)")
    parser.add_argument("--keep", action="store_true", help="leave root and trace of a failed run in place")
    parser.add_argument("--record", action="append", default=[], metavar="OPTION", help="one more option of record")
    return parser.parse_args()


def _run(workload: Workload, options: argparse.Namespace, place: Place | None, started: float) -> tuple[Row, bool]:
    """Run one workload as often as asked for, and print what was found."""
    obstacle = "the time was up" if _is_over(options, started) else workload.obstacle()
    if obstacle is not None:
        print(f"{workload.name:16} skipped: {obstacle}", flush=True)
        return Row(workload, None, skipped=f"not run: {obstacle}"), True
    total, seconds, passed = Verdict(), 0.0, True
    for number in range(_MOST_ROUNDS if options.fill else options.rounds):
        verdict, took = _once(workload, options.seed + number, options, place)
        passed &= verdict is not None and not verdict.faults(bool(workload.marked))
        total += verdict or Verdict()
        seconds += took
        is_filled = options.fill and number + 1 >= options.rounds and total.instants >= options.instants
        if verdict is None or is_filled or _is_over(options, started):
            break
    return Row(workload, total, seconds), passed


def _once(
    workload: Workload, seed: int, options: argparse.Namespace, place: Place | None
) -> tuple[Verdict | None, float]:
    """Record a workload once and judge it; no verdict if it did not run."""
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
        print(f"{workload.name:16} FAILED (seed {seed}): {error}  [{home}]", flush=True)
        return None, 0.0
    faults = verdict.faults(bool(workload.marked))
    _print(workload, verdict, recorded.seconds, seed, options.faults)
    if faults and options.keep:
        print("    kept in", home)
    else:
        shutil.rmtree(home)
    return verdict, recorded.seconds


def _print(workload: Workload, verdict: Verdict, seconds: float, seed: int, most: int) -> None:
    """Say what came of one recording; what is wrong and unmarked comes first."""
    word = "WRONG" if verdict.failures else "marked" if verdict.doubts else "exact"
    found = ", ".join(f"{count} {finding}" for finding in Finding if (count := verdict.findings[finding]))
    print(
        f"{workload.name:16} {word:6} {verdict.events:,} events in {seconds:.1f}s, trace of {verdict.trace_bytes:,}; "
        f"instants: {found or 'none'}; {verdict.exports} exports, seed {seed}",
        flush=True,
    )
    faults = verdict.faults(bool(workload.marked))
    for fault in faults[:most]:
        print("   ", fault)
    if len(faults) > most:
        print(f"    and {len(faults) - most} more faults")


if __name__ == "__main__":
    sys.exit(main())
