"""What `import diffkeeper` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

import diffkeeper

PUBLIC = {
    "Change", "DamagedTraceError", "DiffkeeperError", "EngineUnavailableError", "Entry", "Event", "Exactness",
    "FormatTooNewError", "Kind", "Mark", "Meta", "NoSuchEntryError", "NoSuchTraceError", "Outcome", "PositionError",
    "Process", "RecordError", "StateDirectoryError", "StillRecordingError", "Trace", "TraceError", "TraceInfo",
    "TreeView", "UnknownContentError", "UsageError", "__version__", "record",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(diffkeeper.__all__) == PUBLIC
    assert sorted(diffkeeper.__all__) == diffkeeper.__all__
    assert dir(diffkeeper) == diffkeeper.__all__


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_can_be_used(name: str) -> None:
    assert getattr(diffkeeper, name) is not None


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        diffkeeper.nonsense  # noqa: B018


def test_importing_diffkeeper_loads_nothing_heavy() -> None:
    program = "import sys, diffkeeper; print([name for name in sys.modules if name.startswith('diffkeeper.')])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "['diffkeeper.version']"
