"""Measure what is asked for and write it into docs/benchmarks.md: python -m benchmarks [--quick] [GROUP …]."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import limits, long_run, machine, micro, peers, queries, real, sizes
from benchmarks.report import Section, write
from benchmarks.run import Place

DOCUMENT = Path(__file__).resolve().parents[1] / "docs/benchmarks.md"
QUICK_DIVISOR = 20
GROUPS: dict[str, Callable[[Place, int, bool], Section]] = {
    "micro": lambda place, pairs, quick: micro.measure(place, pairs, QUICK_DIVISOR if quick else 1),
    "real": lambda place, pairs, quick: real.measure(place, pairs, real.QUICK if quick else tuple(real.CHOSEN)),
    "peers": lambda place, pairs, quick: peers.measure(place, pairs, QUICK_DIVISOR if quick else 1),
    "queries": lambda place, pairs, quick: queries.measure(place, pairs, QUICK_DIVISOR if quick else 1),
    "rest": lambda place, pairs, quick: limits.measure(place, pairs, QUICK_DIVISOR if quick else 1),
    "sizes": lambda place, pairs, quick: sizes.measure(place, real.QUICK if quick else tuple(real.CHOSEN)),
    "long": lambda place, pairs, quick: long_run.measure(place, QUICK_DIVISOR if quick else 1),
}


def main() -> None:
    """Run the groups one after another; each is written as soon as it is done."""
    options = _parse()
    place = Place.make(options.dir)
    try:
        if options.against:
            micro.compare(place, options.pairs, QUICK_DIVISOR if options.quick else 1, options.against)
            return
        for name in options.groups or GROUPS:
            before = machine.wait_until_alone(options.wait)
            section = GROUPS[name](place, options.pairs, options.quick)
            company = "; ".join(sorted({*before, *machine.company()}))
            if options.document:
                write(options.document, section, _conditions(options, place, name, company), company)
    finally:
        place.close()


def _conditions(options: argparse.Namespace, place: Place, name: str, company: str) -> str:
    """Say how the section came about, and what spoils it."""
    words = ["--quick"] if options.quick else []
    words += ["--pairs", str(options.pairs), name]
    command = f'`make bench BENCH_ARGS="{" ".join(words)}"`'
    spoilt = f" **On a busy machine ({company}): the figures tell little.**" if company else ""
    return f"{command}: {options.pairs} pairs, {machine.describe(place.home)}.{spoilt}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"any of {', '.join(GROUPS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes: minutes instead of most of an hour")
    parser.add_argument("--pairs", type=int, default=0, help="how often each is run [7; 3 with --quick]")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where the work is done")
    parser.add_argument("--document", type=Path, help=f"where to write [{DOCUMENT.name}; nowhere with --quick]")
    parser.add_argument("--wait", type=float, default=0, help="wait so many minutes for a quiet machine, each group")
    parser.add_argument("--against", type=Path, help="compare single calls with this checkout's recorder instead")
    options = parser.parse_args()
    if unknown := set(options.groups) - GROUPS.keys():
        sys.exit(f"no such group: {', '.join(sorted(unknown))}")
    options.pairs = options.pairs or (3 if options.quick else 7)
    options.document = options.document or (None if options.quick else DOCUMENT)
    return options


if __name__ == "__main__":
    main()
