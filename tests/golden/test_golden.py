"""A trace that any release has written opens in every later one, and says what it said then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffkeeper.store.format import FORMAT_VERSION
from golden.expectations import TRACES, said_of, unpack

HERE = Path(__file__).resolve().parent
ARCHIVES = sorted(HERE.glob("v*.tar.gz"))
MOST_BYTES = 100 * 1024


def test_every_format_has_a_golden_trace() -> None:
    assert [archive.name for archive in ARCHIVES] == [f"v{number + 1}.tar.gz" for number in range(FORMAT_VERSION)]
    assert all(archive.stat().st_size < MOST_BYTES for archive in ARCHIVES)


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_a_trace_of_a_former_release_says_what_it_said(
    archive: Path, trace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    unpack(archive, tmp_path)
    expected = {
        path.name: path.read_text(encoding="utf-8") for path in archive.with_suffix("").with_suffix("").iterdir()
    }
    for name, text in said_of(tmp_path / trace):
        if name.endswith(".json"):
            assert _known(json.loads(text), json.loads(expected[name])) == json.loads(expected[name])
        else:
            assert text == expected[name], f"{name} is not what it was; see tests/golden/make.py"


def _known(found: Any, expected: Any) -> Any:
    """Return of what is said what a former release knew to say: keys are added, never renamed."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return {key: _known(found.get(key), value) for key, value in expected.items()}
    return found
