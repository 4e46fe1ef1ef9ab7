"""What ``--timeout`` and ``--max-size`` take."""

from __future__ import annotations

import click
import pytest

from diffkeeper.cli.record_cmd import _Duration, _Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3),
        ("90s", 90),
        ("90", 90),
        ("1.5", 1.5),
        ("1.5s", 1.5),
        ("2m", 120),
        ("2m30s", 150),
        ("2m30", 150),
        ("1h", 3600),
        ("1h2m3s4ms", 3723.004),
        ("2m500ms", 120.5),
    ],
)
def test_a_duration_is_read_in_its_units(text: str, seconds: float) -> None:
    assert _Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "s", "-1", "1e3", "5 s", "3s2m", "1.5m", "10x", "1.5.2s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90s, 2m30s or 1h"):
        _Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500M", 500 << 20),
        ("2G", 2 << 30),
        ("1GiB", 1 << 30),
        ("1gib", 1 << 30),
        ("64K", 64 << 10),
        ("3T", 3 << 40),
        ("500MB", 500_000_000),
        ("4096", 4096),
        ("4096B", 4096),
    ],
)
def test_a_size_is_read_as_coreutils_read_it(text: str, size: int) -> None:
    assert _Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "5 M", "10X", "1Gi", "1e9", "1PiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 64K, 256M or 2G"):
        _Size().convert(text, None, None)
