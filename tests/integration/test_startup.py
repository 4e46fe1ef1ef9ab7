"""How long a recording of nothing takes, and what it must not import for that."""

from __future__ import annotations

import compileall
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATH = f"import sys; sys.path.insert(0, {str(SOURCE)!r})"
DIFFKEEPER = [sys.executable, "-c", f"{PATH}; from diffkeeper.__main__ import main; main()"]
RECORD = [*DIFFKEEPER, "record", "-q", "--", "true"]
PYTHON = [sys.executable, "-c", "pass"]

RECORD_MS = 250  # more than the command alone, on a quiet machine
HELP_MS = 120
# On a busy machine only CPU time tells, and how fast the CPU is just now tells Python's own start: it takes 12 ms of
# CPU where a recording takes 250 and --help 48.
RECORD_STARTS = 32
HELP_STARTS = 8
RUNS = 5

NEVER = {
    "rich",
    "pathspec",
    "importlib.metadata",
    "asyncio",
    "tomllib",
    "logging",
    "concurrent.futures",
    "traceback",
} | {"watchdog"}
NOT_FOR_RECORD = NEVER | {
    "diffkeeper.engines.watch",
    "difflib",
    "subprocess",
    "tempfile",
    "random",
    "bsdiff4",
    "diffkeeper.trace",
}
NOT_FOR_HELP = NEVER | {"rocksdict", "ctypes", "json", "backports.zstd", "diffkeeper.recording", "diffkeeper.model"}
NOT_FOR_HELPER = NEVER | {
    "typing",
    "dataclasses",
    "inspect",
    "pathlib",
    "click",
    "diffkeeper.engines",
    "diffkeeper.model",
}


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Measure what is installed, where pip has compiled everything."""
    compileall.compile_dir(SOURCE, quiet=2)


def _least(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return the least wall and the least CPU milliseconds of some runs, each in a folder of its own."""
    walls, cpus = [], []
    for _ in range(RUNS):
        place = folder / str(time.monotonic_ns())
        place.mkdir()
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.monotonic() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls) * 1e3, min(cpus) * 1e3


def _takes_at_most(command: Sequence[str], extra_ms: float, starts: float, folder: Path) -> None:
    for _ in range(3):
        plain_wall, _ = _least(["true"], folder)
        wall, cpu = _least(command, folder)
        _, start = _least(PYTHON, folder)
        if wall - plain_wall <= extra_ms or cpu <= starts * start:
            return
    pytest.fail(f"{wall - plain_wall:.0f} ms more than true, {cpu:.0f} ms of CPU, where Python starts in {start:.0f}")


@pytest.mark.ebpf
def test_a_recording_of_nothing_ends_within_a_quarter_of_a_second(tmp_path: Path) -> None:
    _takes_at_most(RECORD, RECORD_MS, RECORD_STARTS, tmp_path)


def test_help_comes_within_120_milliseconds(tmp_path: Path) -> None:
    _takes_at_most([*DIFFKEEPER, "--help"], HELP_MS, HELP_STARTS, tmp_path)


def _imported(program: str, folder: Path, *options: str) -> set[str]:
    """Return the modules that a program has imported by its end."""
    told = f"{program}\nprint('modules', *sys.modules)"
    done = subprocess.run(
        [sys.executable, *options, "-c", told], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.ebpf
def test_a_recording_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    program = (
        f"{PATH}\nfrom diffkeeper import helper_start; helper_start.ahead(['record'])\n"
        "from diffkeeper import cli\nassert cli.run(['record', '--quiet', '--', 'true']) == 0"
    )
    assert NOT_FOR_RECORD & _imported(program, tmp_path) == set()


def test_help_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    imported = _imported(f"{PATH}\nfrom diffkeeper import cli\ncli.run(['--help'])", tmp_path)
    assert NOT_FOR_HELP & imported == set()


def test_the_helper_imports_hardly_anything(tmp_path: Path) -> None:
    imported = _imported(f"{PATH}\nimport diffkeeper.helper_service", tmp_path, "-I", "-S")
    assert NOT_FOR_HELPER & imported == set()


def test_the_helper_is_started_ahead_only_for_a_recording(tmp_path: Path) -> None:
    for arguments in (["--help"], ["info"], ["record", "--help"], ["record", "-h", "--", "true"], []):
        program = f"{PATH}\nfrom diffkeeper import helper_start as h\nh.ahead({arguments!r})\nprint(h.take_ahead())"
        done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
        assert done.stdout == "None\n", arguments


@pytest.mark.ebpf
def test_a_helper_that_nobody_takes_ends_with_its_recorder(tmp_path: Path) -> None:
    program = f"{PATH}\nfrom diffkeeper import helper_start as h\nh.ahead(['record'])\nprint(h.take_ahead().starter)"
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 10
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < end, "the helper still runs"
        time.sleep(0.02)


def test_what_python_would_print_at_its_exit_is_not_lost(tmp_path: Path) -> None:
    done = subprocess.run([*DIFFKEEPER, "--version"], stdout=subprocess.PIPE, text=True, check=True, env=_environment())
    assert done.stdout.startswith("diffkeeper ")


# The tag of a program is a hash of its instructions after relocation.
TAGS = f"""{PATH}
import glob, os
from diffkeeper import native
here = os.stat(".")
root = os.open(".", os.O_RDONLY)
capture = native.Capture(native.CaptureSettings(
    roots=(((here.st_dev >> 8 & 0xfff) << 20 | here.st_dev & 0xff, here.st_ino, 0),), root_fds=(root,), excluded=(),
    trace_id=1, ring_bytes=1 << 20, faults=dict.fromkeys(sys.argv[1:], 1),
))
capture.start()
for path in glob.glob("/proc/self/fdinfo/*"):
    words = open(path).read().split() if os.path.exists(path) else ()
    if "prog_tag:" in words:
        print(words[words.index("prog_tag:") + 1])
capture.close()
"""


def _tags(folder: Path, *faults: str) -> list[str]:
    command = [sys.executable, "-c", TAGS, *faults]
    return sorted(subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.split())


@pytest.mark.ebpf
def test_programs_are_the_same_whoever_searches_the_kernel_s_types_for_them(tmp_path: Path) -> None:
    ours, of_libbpf = _tags(tmp_path), _tags(tmp_path, "search")
    assert len(ours) > 10
    assert ours == of_libbpf


@pytest.mark.ebpf
def test_the_same_programs_load_where_the_kernel_cannot_be_read_by_loads(tmp_path: Path) -> None:
    by_loads, by_a_helper = _tags(tmp_path), _tags(tmp_path, "plain")
    assert len(by_loads) == len(by_a_helper)
    assert by_loads != by_a_helper
    assert by_a_helper == _tags(tmp_path, "plain", "search")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
