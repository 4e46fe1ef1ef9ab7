"""The build hook: compiles native/ into src/diffkeeper/_native.so, or leaves the eBPF engine out and says so."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BPF_SOURCE = "recorder.bpf.c"
GLIBC = "2.17"
# Call numbers and registers differ by processor: native/calls.h must know each that is listed here.
PROCESSORS = {"x86_64": "DK_ARCH_X86_64"}
# The kernel half twice, and what each is compiled with: see read_field() in native/kernel.h.
EMBEDDED = {"object": ("-DDK_READS_BY_LOADS",), "plain": ()}


class CannotCompileError(Exception):
    """Report why no native library can be built here."""


class Toolchain(NamedTuple):
    """Name the commands that compile each half, and the wheel platform that the result runs on."""

    name: str
    bpf: tuple[str, ...]
    native: tuple[str, ...]
    wheel_platform: str


class NativeBuildHook(BuildHookInterface[Any]):
    """Put the native library into the wheel, or into the source tree of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile where that is possible; do without where it is not, unless DIFFKEEPER_COMPILER names a compiler."""
        if self.target_name != "wheel":
            return
        try:
            wheel_platform = build_native(Path(self.root))
        except CannotCompileError as error:
            self._leave_out(error)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{wheel_platform}"
        build_data["artifacts"].append("/src/diffkeeper/_native.so")

    def _leave_out(self, error: CannotCompileError) -> None:
        if os.environ.get("DIFFKEEPER_COMPILER", "none") != "none":
            raise SystemExit(f"diffkeeper: cannot build the eBPF engine: {error}") from error
        library_path(Path(self.root)).unlink(missing_ok=True)
        stamp_path(Path(self.root)).unlink(missing_ok=True)
        self.app.display_warning(f"diffkeeper: built without the eBPF engine: {error}")


def build_native(root: Path) -> str:
    """Compile with the first toolchain that works; return the wheel platform that the library runs on."""
    failures = []
    for toolchain in choose_toolchains():
        try:
            NativeLibrary(root, toolchain).build()
        except CannotCompileError as error:
            failures.append(str(error))
        else:
            return toolchain.wheel_platform
    raise CannotCompileError("\n".join(failures))


def choose_toolchains() -> list[Toolchain]:
    """Return the toolchains present; DIFFKEEPER_COMPILER = zig, system, any or none says which may be used."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in PROCESSORS:
        supported = ", ".join(PROCESSORS)
        raise CannotCompileError(f"it exists for Linux on {supported}, and this is {sys.platform} on {machine}")
    wanted = os.environ.get("DIFFKEEPER_COMPILER") or "any"
    if wanted == "none":
        raise CannotCompileError("DIFFKEEPER_COMPILER=none")
    candidates = {"zig": zig_toolchain(machine), "system": system_toolchain(machine)}
    found = [toolchain for name, toolchain in candidates.items() if toolchain and wanted in ("any", name)]
    if not found:
        raise CannotCompileError("no compiler was found: pip install ziglang==0.13.0, or install clang")
    return found


def zig_toolchain(machine: str) -> Toolchain | None:
    """Return ziglang's compilers; only on glibc, whose oldest supported version the library is then linked for."""
    if platform.libc_ver()[0] != "glibc" or find_module("ziglang") is None:
        return None
    zig = (sys.executable, "-m", "ziglang")
    target = f"{machine}-linux-gnu.{GLIBC}"
    wheel_platform = f"manylinux_{GLIBC.replace('.', '_')}_{machine}"
    return Toolchain("zig", (*zig, "clang"), (*zig, "cc", "-target", target), wheel_platform)


def system_toolchain(machine: str) -> Toolchain | None:
    """Return the system's clang for both halves, or clang and gcc."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    return Toolchain("system", (clang,), (shutil.which("gcc") or clang,), f"linux_{machine}")


def find_module(name: str) -> object | None:
    """Return the import specification of a module, or None."""
    return importlib.util.find_spec(name)


def library_path(root: Path) -> Path:
    """Return where the compiled library stands."""
    return root / "src" / "diffkeeper" / "_native.so"


def stamp_path(root: Path) -> Path:
    """Return the file that notes from what the library was built."""
    return root / "build" / "native" / "stamp"


class NativeLibrary:
    """Compile the BPF object and the process half, with the first embedded in the second."""

    def __init__(self, root: Path, toolchain: Toolchain) -> None:
        self.root = root
        self.toolchain = toolchain
        self.native = root / "native"
        self.work = root / "build" / "native"

    def build(self) -> None:
        """Compile unless the library is already that of these sources and this compiler."""
        if not (self.native / BPF_SOURCE).exists():
            raise CannotCompileError(f"native/{BPF_SOURCE} is missing from this source tree")
        stamp = self._stamp()
        if library_path(self.root).exists() and self._former_stamp() == stamp:
            return
        self.work.mkdir(parents=True, exist_ok=True)
        self._compile()
        stamp_path(self.root).write_text(stamp)

    def _stamp(self) -> str:
        digest = hashlib.sha256(repr(self.toolchain).encode())
        for source in (Path(__file__), *self._inputs()):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return digest.hexdigest()

    def _former_stamp(self) -> str:
        stamp = stamp_path(self.root)
        return stamp.read_text() if stamp.exists() else ""

    def _inputs(self) -> Iterator[Path]:
        return iter(sorted([*self.native.glob("*.c"), *self.native.glob("*.h")]))

    def _compile(self) -> None:
        processor = PROCESSORS[platform.machine()]
        embedding = self.work / "embedded.S"
        embedding.write_text("".join(self._embedded(name, bpf_flags(processor)) for name in EMBEDDED))
        sources = [str(path) for path in sorted(self.native.glob("*.c")) if not path.name.endswith(".bpf.c")]
        fresh = self.work / "_native.so"
        self._run(*self.toolchain.native, *native_flags(), *sources, str(embedding), "-o", str(fresh))
        # A rename, because a process may have the old library mapped.
        fresh.replace(library_path(self.root))

    def _embedded(self, name: str, flags: tuple[str, ...]) -> str:
        """Compile the kernel half in one of its two forms; return what embeds it."""
        bpf_object = self.work / f"{name}.bpf.o"
        source = str(self.native / BPF_SOURCE)
        self._run(*self.toolchain.bpf, *flags, *EMBEDDED[name], "-c", source, "-o", str(bpf_object))
        return embedding_source(name, bpf_object)

    def _run(self, *command: str) -> None:
        result = subprocess.run(
            command, capture_output=True, text=True, env=self._environment(), cwd=self.root, check=False
        )
        if result.returncode != 0:
            raise CannotCompileError(f"{self.toolchain.name} could not compile native/:\n{result.stderr.strip()}")
        sys.stderr.write(result.stderr)

    def _environment(self) -> dict[str, str]:
        """Keep zig's caches in build/: its default is below HOME, which may be missing or belong to someone else."""
        caches = {name: str(self.work / "zig-cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
        return {**os.environ, **caches}


def bpf_flags(processor: str) -> tuple[str, ...]:
    """Return the flags of the kernel half; -g because BTF is made from the debug information."""
    return ("-target", "bpf", "-O2", "-g", "-Wall", "-Werror", f"-D{processor}", "-mcpu=v3")


def native_flags() -> tuple[str, ...]:
    """Return the flags of the process half."""
    warnings = ("-Wall", "-Wextra", "-Werror")
    return ("-shared", "-fPIC", "-O2", "-std=gnu11", *warnings, "-pthread", "-ldl")


def embedding_source(name: str, bpf_object: Path) -> str:
    """Return assembly that places an object between two symbols, aligned as libbpf wants its ELF.

    It names the object's hash, because zig's cache looks at the text of this file only, not at what it includes.
    """
    return f"""\
/* {hashlib.sha256(bpf_object.read_bytes()).hexdigest()} */
    .section .rodata
    .balign 16
    .global diffkeeper_bpf_{name}
    .hidden diffkeeper_bpf_{name}
diffkeeper_bpf_{name}:
    .incbin "{bpf_object}"
    .global diffkeeper_bpf_{name}_end
    .hidden diffkeeper_bpf_{name}_end
diffkeeper_bpf_{name}_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits
"""
