"""What all tests share: a test marked ``ebpf`` skips where the engine refuses, with its reason, and fails in CI."""

from __future__ import annotations

import os

import pytest

from diffkeeper.engines import ebpf

REQUIRE = "DIFFKEEPER_REQUIRE_EBPF"

os.environ.setdefault("DIFFKEEPER_PROCESS", "now")  # on a busy machine a second is not always enough


@pytest.fixture(scope="session")
def ebpf_refusal() -> str:
    """Return why eBPF recording is impossible here, an empty string where it is possible."""
    survey = ebpf.survey()
    return "" if survey.is_usable else survey.text()


@pytest.fixture(autouse=True)
def _ebpf_or_skip(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("ebpf") is None:
        return
    refusal = request.getfixturevalue("ebpf_refusal")
    if refusal and os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{REQUIRE}=1, and {refusal}")
    if refusal:
        pytest.skip(refusal)
