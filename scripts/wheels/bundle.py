"""Compile what a wheel bundles beside the engine: libbpf, and libelf, which it reads objects with."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from hatch_build import Target, name_musl

HERE = Path(__file__).parent
# Both are linked with the parts of zlib that they use: the one inflates sections, the other /proc/config.gz.
ZLIB_OF_LIBELF = ("adler32", "crc32", "deflate", "inffast", "inflate", "inftrees", "trees", "zutil")
ZLIB_OF_LIBBPF = (*ZLIB_OF_LIBELF, "gzclose", "gzlib", "gzread", "gzwrite")
COMMON = ("-shared", "-fPIC", "-O2", "-g0", "-std=gnu11", "-D_GNU_SOURCE", "-DHAVE_UNISTD_H")
SMALL = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-Wl,-s")
# What elfutils' configure would find out; {gnu} and {musl} are 1 where that is the C library.
CONFIG = """\
#define HAVE_DECL_MEMPCPY 1
#define HAVE_DECL_MEMRCHR 1
#define HAVE_DECL_POWEROF2 1
#define HAVE_DECL_RAWMEMCHR {gnu}
#define HAVE_DECL_REALLOCARRAY {musl}
#define HAVE_ERR_H 1
#define HAVE_STRERROR_R 1
#define HAVE_VISIBILITY 1
#define PACKAGE_NAME "elfutils"
#include <eu-config.h>
"""


class Source(NamedTuple):
    """Hold an entry of sources.toml."""

    name: str
    version: str
    file: str
    url: str
    sha256: str
    folder: str
    licence: str
    licence_files: tuple[str, ...]


def read_sources() -> list[Source]:
    """Return what is bundled."""
    entries: dict[str, dict[str, Any]] = tomllib.loads((HERE / "sources.toml").read_text())
    return [
        Source(name, **{**entry, "licence_files": tuple(entry["licence_files"])}) for name, entry in entries.items()
    ]


def fetch(source: Source, cache: Path) -> Path:
    """Return the archive, downloaded unless it is in the folder already; exits if its hash is not the one we know."""
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / source.file
    if not archive.exists():
        partial = archive.with_name(archive.name + ".part")
        with urllib.request.urlopen(source.url, timeout=60) as response, partial.open("wb") as file:
            shutil.copyfileobj(response, file)
        partial.replace(archive)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SystemExit(f"wheels: {archive} is not the {source.name} that sources.toml names: its SHA-256 is {found}")
    return archive


def unpack(sources: Iterable[Source], cache: Path, place: Path) -> None:
    """Unpack all archives, each into its folder."""
    for source in sources:
        if not (place / source.folder).exists():
            with tarfile.open(fetch(source, cache)) as archive:
                archive.extractall(place, filter="data")


class Bundle:
    """Compile the libraries for one target, from unpacked sources, into a folder that goes into the wheel."""

    def __init__(self, sources: list[Source], place: Path, target: Target, out: Path) -> None:
        self.sources = sources
        self.target = target
        self.out = out
        self.work = place / f"build-{target}"
        self.libbpf, self.elfutils, self.zlib = (place / source.folder for source in sources)
        self.place = place

    def build(self) -> None:
        """Compile, and put the licences beside."""
        for folder in (self.work, self.out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self._build_libelf()
        self._build_libbpf()
        if self.target.libc == "musl":
            for library in self.out.glob("*.so.1"):
                name_musl(library, self.target)
        self._copy_licences()

    def _build_libelf(self) -> None:
        is_musl = self.target.libc == "musl"
        (self.work / "config.h").write_text(CONFIG.format(gnu=int(not is_musl), musl=int(is_musl)))
        lib, libelf = self.elfutils / "lib", self.elfutils / "libelf"
        files = [*sorted(libelf.glob("*.c")), lib / "eu-search.c", lib / "next_prime.c", *self._zlib(ZLIB_OF_LIBELF)]
        folders = (self.work, lib, libelf, self.elfutils, self.zlib)
        flags = ("-DHAVE_CONFIG_H", f"-Wl,--version-script={libelf / 'libelf.map'}")
        self._compile("_libelf.so.1", flags, folders, files)

    def _build_libbpf(self) -> None:
        files = [*sorted((self.libbpf / "src").glob("*.c")), *self._zlib(ZLIB_OF_LIBBPF), self.out / "_libelf.so.1"]
        include = self.libbpf / "include"
        folders = (include, include / "uapi", self.libbpf / "src", self.elfutils / "libelf", self.zlib)
        wide = ("-D_LARGEFILE64_SOURCE", "-D_FILE_OFFSET_BITS=64")
        self._compile("_libbpf.so.1", ("-fvisibility=hidden", "-Wl,-rpath,$ORIGIN", *wide), folders, files)

    def _zlib(self, names: Iterable[str]) -> list[Path]:
        return [self.zlib / f"{name}.c" for name in names]

    def _compile(self, name: str, flags: Iterable[str], folders: Iterable[Path], files: Iterable[Path]) -> None:
        compiler = (sys.executable, "-m", "ziglang", "cc", "-target", self.target.zig)
        includes = (f"-I{folder}" for folder in folders)
        command = (*compiler, *COMMON, *SMALL, f"-Wl,-soname,{name}", *flags, *includes, *map(str, files))
        caches = {name: str(self.place / "zig-cache") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
        result = subprocess.run(
            (*command, "-o", str(self.out / name)), capture_output=True, text=True, env=os.environ | caches, check=False
        )
        if result.returncode:
            raise SystemExit(f"wheels: {name} for {self.target} does not compile:\n{result.stderr[-4000:]}")

    def _copy_licences(self) -> None:
        licences = self.out / "_licences"
        licences.mkdir()
        lines = ["Beside the engine (_native.so) this wheel bundles unchanged parts of:\n"]
        for source, folder in zip(self.sources, (self.libbpf, self.elfutils, self.zlib), strict=True):
            for name in source.licence_files:
                shutil.copy(folder / name, licences / f"{source.name}.{name}")
            lines.append(f"{source.name} {source.version}, {source.licence}")
            lines.append(f"  source: {source.url}\n  SHA-256: {source.sha256}\n")
        lines.append(
            "_libbpf.so.1 is libbpf, _libelf.so.1 the libelf of elfutils; each holds parts of zlib. How they are\n"
            "compiled: scripts/wheels/bundle.py in the source distribution. Libraries of the same names replace them.\n"
        )
        (licences / "README.txt").write_text("\n".join(lines))
