#!/usr/bin/env python3
"""Build the source distribution and, from its content alone, every wheel: with the engine for Linux, without elsewhere.

    .venv/bin/python scripts/wheels/build.py [--out dist] [--sources DIR] [--only TARGET …]

Needs what building diffkeeper needs (hatchling, ziglang), and patchelf for musl; auditwheel, where it is installed,
looks at the result.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from hatch_build import PROCESSORS, Target, find_module  # noqa: E402

from wheels.bundle import Bundle, read_sources, unpack  # noqa: E402

TARGETS = {
    str(target): target for machine in PROCESSORS for target in (Target(machine, "gnu"), Target(machine, "musl"))
}
PURE = "none"


def main() -> None:
    """Build what the command line asks for, and print the path of each file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go (default: dist)")
    parser.add_argument(
        "--sources", type=Path, default=ROOT / "build" / "sources", help="where archives of libbpf and so on are kept"
    )
    parser.add_argument("--only", nargs="+", choices=[*TARGETS, PURE], default=[*TARGETS, PURE], help="default: all")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sdist = build("sdist", ROOT, options.out, {})
    with unpacked(sdist) as tree, tempfile.TemporaryDirectory() as scratch:
        for name in options.only:
            environment = {"DIFFKEEPER_COMPILER": "none"}
            if name in TARGETS:
                environment = bundled(TARGETS[name], options.sources, Path(scratch))
            audit(build("wheel", tree, options.out, environment))


def bundled(target: Target, cache: Path, scratch: Path) -> dict[str, str]:
    """Compile libbpf for a target; return the environment in which the build hook puts it into the wheel."""
    sources = read_sources()
    unpack(sources, cache, scratch)
    out = scratch / f"bundle-{target}"
    Bundle(sources, scratch, target, out).build()
    return {"DIFFKEEPER_TARGET": str(target), "DIFFKEEPER_BUNDLE": str(out), "DIFFKEEPER_COMPILER": "zig"}


def build(kind: str, tree: Path, out: Path, environment: dict[str, str]) -> Path:
    """Build one file from a source tree with its own back-end; return where it is."""
    with tempfile.TemporaryDirectory() as place:
        command = (sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", place)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DIFFKEEPER_")}
        result = subprocess.run(command, cwd=tree, env=clean | environment, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(f"wheels: {kind} cannot be built:\n{result.stdout}{result.stderr}")
        (made,) = Path(place).iterdir()
        path = Path(shutil.copy(made, out / made.name))
    print(path, path.stat().st_size, flush=True)
    return path


@contextmanager
def unpacked(sdist: Path) -> Iterator[Path]:
    """Unpack a source distribution for the time being."""
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        (tree,) = Path(place).iterdir()
        yield tree


def audit(wheel: Path) -> None:
    """Stop if a wheel needs more of a system than its name promises."""
    if "-any.whl" in wheel.name or find_module("auditwheel") is None:
        return
    platform = wheel.name.removesuffix(".whl").rpartition("-")[2]
    # The libraries of this machine are none of the wheel's: it may be for another processor or C library.
    command = (sys.executable, "-m", "auditwheel", "show", "--ldpaths", str(ROOT / "nowhere"), str(wheel))
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = " ".join(result.stdout.split())
    if result.returncode or f'the following platform tag: "{platform}"' not in said:
        raise SystemExit(f"wheels: auditwheel does not agree with the name of {wheel.name}:\n{said}{result.stderr}")


if __name__ == "__main__":
    main()
