"""Decides what becomes of a test that needs eBPF where eBPF is refused: it skips with the reason, or fails in CI."""

import functools
import os

import pytest

from diffkeeper.engines import ebpf


@functools.cache
def ebpf_refusal() -> str | None:
    """Return why recording with eBPF is impossible here, as record says it, or None."""
    survey = ebpf.survey()
    return None if survey.is_usable else survey.text()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip or fail what is marked ebpf, where it cannot run."""
    if item.get_closest_marker("ebpf") is None:
        return
    reason = ebpf_refusal()
    if reason is None:
        return
    if os.environ.get("DIFFKEEPER_REQUIRE_EBPF", "") not in ("", "0"):
        pytest.fail(f"DIFFKEEPER_REQUIRE_EBPF is set, and eBPF cannot be used: {reason}", pytrace=False)
    pytest.skip(reason)
