"""A user without root and without sudo: refused plainly, and recorded by the engine watch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.ways import CannotRunError, Way, ways

DEMO = Path(__file__).parents[2] / "demo" / "flaky_ci_test.py"


@pytest.fixture(scope="module")
def user() -> Iterator[Way]:
    """Yield the ways of a user from whom sudo is out of reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can run programs as another user")
    with ways() as make:
        try:
            yield make("user")
        except CannotRunError as reason:
            pytest.skip(str(reason))


@pytest.fixture
def settings(user: Way, tmp_path: Path) -> dict[str, Any]:
    home = user.home / f"nobodys-{tmp_path.name}"
    home.mkdir()
    (home / "demo.py").write_bytes(DEMO.read_bytes())
    os.chown(home, 65534, 65534)
    user.home.chmod(0o755)
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    return {"cwd": home, "env": {"PATH": "/nowhere", "HOME": str(home)}, **nobody}


def test_plain_record_refuses_and_names_what_is_missing_and_what_would_work(
    user: Way, settings: dict[str, Any]
) -> None:
    ran = user.run([user.prefix[0], "record", "--", "/usr/bin/touch", "touched"], **settings)
    assert ran.returncode == 125
    for words in (b"CAP_BPF", b"uid 65534", b"sudo is not installed", b"--engine watch"):
        assert words in ran.stderr, ran.stderr
    assert os.listdir(settings["cwd"]) == ["demo.py"]
    doctor = user.run([user.prefix[0], "doctor"], **settings)
    assert ran.stderr.removeprefix(b"diffkeeper: ").strip() in doctor.stdout
    assert b"watch: usable" in doctor.stdout


def test_the_engine_watch_records_the_demo_for_that_user(user: Way, settings: dict[str, Any]) -> None:
    python = "/usr/bin/python3"
    ran = user.run([user.prefix[0], "record", "--engine", "watch", "--", python, "demo.py"], **settings)
    assert ran.returncode == 1, ran.stderr
    assert b"inexact" in ran.stderr
    told = user.run([user.prefix[0], "timeline"], **settings)
    lines = [line for line in told.stdout.splitlines() if line.startswith(b"[")]
    assert lines
    assert all(b"INEXACT changed between scans" in line for line in lines)
    restored = user.run([user.prefix[0], "export", "--time", "1.5s", "--out", "out"], **settings)
    assert restored.returncode == 3, restored.stderr
    assert (settings["cwd"] / "out" / "status.log").read_text() == "INIT: System OK"


@pytest.mark.parametrize("option", ["--engine=auto", "--best-effort"])
def test_what_chooses_by_itself_says_what_it_chose_and_why(user: Way, settings: dict[str, Any], option: str) -> None:
    ran = user.run([user.prefix[0], "record", option, "--", "/usr/bin/touch", "touched"], **settings)
    assert ran.returncode == 0, ran.stderr
    assert b"cannot record with ebpf" in ran.stderr
    assert b"recording . with watch into" in ran.stderr
    assert (settings["cwd"] / "touched").exists()


def test_with_best_effort_the_command_runs_even_where_nothing_can_be_recorded(
    user: Way, settings: dict[str, Any]
) -> None:
    command = [
        user.prefix[0],
        "record",
        "--best-effort",
        "-s",
        "/proc/nowhere",
        "--",
        "/bin/sh",
        "-c",
        "echo out; exit 7",
    ]
    ran = user.run(command, **settings)
    assert (ran.returncode, ran.stdout) == (7, b"out\n"), ran.stderr
    assert b"not recorded: " in ran.stderr
