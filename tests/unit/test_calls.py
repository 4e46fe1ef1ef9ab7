"""The table of system calls in native/calls.h, held against the headers that come with the C compiler."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
# Columns of the table, by the name that zig has for the processor.
COLUMNS = ("x86_64-linux-gnu", "x86-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf")
# Younger than those headers; all that came since number 424 have the same number everywhere.
YOUNG = {"fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469}
# i386's first mmap takes a structure, and has no entry of its own yet.
LEFT_OUT = {("mmap", "x86-linux-gnu")}

zig = pytest.importorskip("ziglang", reason="the C compiler that brings the kernel's headers is not installed")


def table() -> list[tuple[str, str, tuple[int, ...]]]:
    rows = re.findall(r"ROW\((\w+), (CALL_\w+), (\d+), (\d+), (\d+), (\d+)\)", (NATIVE / "calls.h").read_text())
    return [(name, call, tuple(map(int, numbers))) for name, call, *numbers in rows]


def numbers_of(target: str) -> dict[str, int]:
    """Return the calls of a processor as the kernel's headers have them."""
    command = (sys.executable, "-m", "ziglang", "cc", "-target", target, "-E", "-dM", "-x", "c", "-")
    source = "#include <asm/unistd.h>\n"
    printed = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    defined = dict(re.findall(r"#define (\w+) (.+)", printed))
    return {name[5:]: number(value, defined) for name, value in defined.items() if name.startswith("__NR_")}


def number(value: str, defined: dict[str, str]) -> int:
    """Resolve ``64``, ``__NR3264_sendfile`` and ``(__NR_SYSCALL_BASE+4)``; -1 for what is no number."""
    value = re.sub(r"[A-Za-z_]\w*", lambda name: str(number(defined.get(name[0], "-1"), defined)), value)
    words = re.findall(r"0x[0-9a-f]+|-?\d+", value)
    return sum(int(word, 0) for word in words)


@pytest.mark.parametrize(("column", "target"), list(enumerate(COLUMNS)), ids=COLUMNS)
def test_every_number_is_that_of_the_kernel_s_headers(column: int, target: str) -> None:
    known = numbers_of(target) | YOUNG
    wrong = {
        name: (numbers[column], known.get(name, 0))
        for name, _, numbers in table()
        if (name, target) not in LEFT_OUT and numbers[column] != known.get(name, 0)
    }
    assert len(known) > 300
    assert not wrong


def test_each_call_has_one_row() -> None:
    names = [name for name, _, _ in table()]
    assert len(names) == len(set(names)) > 70


def test_no_number_stands_for_two_calls_of_a_processor() -> None:
    for column in range(len(COLUMNS)):
        numbers = [numbers[column] for _, _, numbers in table() if numbers[column]]
        assert len(numbers) == len(set(numbers))


def test_every_kind_of_call_is_in_the_table() -> None:
    source = (NATIVE / "calls.h").read_text()
    kinds = set(re.findall(r"^\t(CALL_\w+),$", source, re.M)) - {"CALL_NONE"}
    behind_ioctl = {"CALL_CLONE", "CALL_RESERVE", "CALL_SETFLAGS"}
    assert kinds - behind_ioctl == {call for _, call, _ in table()}


def compile_kernel_half(tmp_path: Path, target: str, processor: str) -> subprocess.CompletedProcess[str]:
    flags = ("-O2", "-g", "-Wall", "-Werror", f"-D{processor}", "-mcpu=v3", "-fsyntax-only")
    command = (sys.executable, "-m", "ziglang", "clang", "-target", target, *flags, str(NATIVE / "recorder.bpf.c"))
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)


@pytest.mark.parametrize("processor", ["DK_ARCH_X86_64", "DK_ARCH_ARM64"])
def test_the_kernel_half_is_valid_for(processor: str, tmp_path: Path) -> None:
    result = compile_kernel_half(tmp_path, "bpf", processor)
    assert result.returncode == 0, result.stderr


def test_a_big_endian_kernel_is_refused_in_words(tmp_path: Path) -> None:
    result = compile_kernel_half(tmp_path, "bpfeb", "DK_ARCH_ARM64")
    assert result.returncode != 0
    assert "diffkeeper captures on little-endian processors" in result.stderr


def test_a_processor_without_a_column_is_refused_in_words(tmp_path: Path) -> None:
    result = compile_kernel_half(tmp_path, "bpf", "DK_ARCH_RISCV64")
    assert result.returncode != 0
    assert "a further processor needs its columns and registers here" in result.stderr
