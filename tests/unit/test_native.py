"""What the native library's caller says without calling it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffkeeper import native

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is the reason")


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_load", lambda: None)


def on_machine(monkeypatch: pytest.MonkeyPatch, machine: str, byteorder: str = "little") -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(sys, "byteorder", byteorder)


@linux
@pytest.mark.usefixtures("no_library")
def test_where_the_engine_could_have_been_built_the_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, "aarch64")
    assert "built without the eBPF engine (no compiler was found)" in str(native.refusal())


@linux
@pytest.mark.usefixtures("no_library")
def test_another_processor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, "riscv64")
    assert "it is for x86_64 and aarch64, and this is riscv64" in str(native.refusal())


@linux
@pytest.mark.usefixtures("no_library")
def test_a_big_endian_processor_is_refused_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(monkeypatch, "s390x", "big")
    assert "this one is big-endian" in str(native.refusal())


@linux
def test_a_kernel_with_larger_pages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_load", lambda: object())
    monkeypatch.setattr(os, "sysconf", lambda name: 65536)
    assert native.refusal() == "this kernel's pages have 65536 bytes, and the eBPF engine knows 4096 only"


@linux
def test_a_kernel_without_private_stacks_is_told_by_its_types(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    types = tmp_path / "vmlinux"
    monkeypatch.setattr(native, "_BTF", str(types))
    types.write_bytes(b"\0sys_enter\0bpf_jit_supports_private_stack\0")
    assert native.lack_of_private_stacks() is None
    types.write_bytes(b"\0sys_enter\0")
    assert "has no private stacks for BPF programs" in str(native.lack_of_private_stacks())
