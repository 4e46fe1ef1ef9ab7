"""What goes into the source distribution and the wheels, and what the wheels bundle."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatch_build import Target, wanted_target

import diffkeeper
from wheels.bundle import Source, fetch, read_sources

ROOT = Path(__file__).resolve().parents[2]
BUILD = (sys.executable, "-m", "hatchling", "build", "-d")

pytest.importorskip("hatchling", reason="the build back-end is not installed")


def build(kind: str, tree: Path, out: Path, **environment: str) -> Path:
    command = (*BUILD, str(out), "-t", kind)
    subprocess.run(command, cwd=tree, env=os.environ | environment, check=True, capture_output=True)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (tree,) = place.iterdir()
    return tree


@pytest.fixture(scope="module")
def pure(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    wheel = build("wheel", unpacked, tmp_path_factory.mktemp("pure"), DIFFKEEPER_COMPILER="none")
    with zipfile.ZipFile(wheel) as opened:
        yield opened


def test_the_source_distribution_holds_what_builds_and_tests_it(unpacked: Path) -> None:
    for name in ("hatch_build.py", "Makefile", "native/recorder.bpf.c", "scripts/setup", "scripts/wheels/sources.toml"):
        assert (unpacked / name).exists(), name
    assert not list(unpacked.rglob("*.so"))


def test_it_builds_a_wheel_without_the_engine_for_any_system(pure: zipfile.ZipFile) -> None:
    assert Path(pure.filename or "").name == f"diffkeeper-{diffkeeper.__version__}-py3-none-any.whl"
    assert not [name for name in pure.namelist() if ".so" in name]
    assert "diffkeeper/py.typed" in pure.namelist()


def test_a_wheel_has_the_licences_and_asks_for_nothing_to_compile(pure: zipfile.ZipFile) -> None:
    names = " ".join(pure.namelist())
    assert "licenses/LICENSE" in names
    assert "licenses/native/LICENSE.GPL-2.0-only" in names
    (metadata,) = [name for name in pure.namelist() if name.endswith("METADATA")]
    required = [line for line in pure.read(metadata).decode().splitlines() if line.startswith("Requires-Dist")]
    assert not [line for line in required if "ziglang" in line or "hatchling" in line]


def test_a_wheel_installs_and_imports_in_a_fresh_environment(pure: zipfile.ZipFile, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index")
    subprocess.run((*pip, "--target", str(tmp_path), str(pure.filename)), check=True, capture_output=True)
    program = "import diffkeeper; print(diffkeeper.__version__, diffkeeper.__file__)"
    command = (sys.executable, "-S", "-c", program)
    result = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert result.stdout.split() == [diffkeeper.__version__, str(tmp_path / "diffkeeper" / "__init__.py")]


@pytest.mark.parametrize(
    ("target", "wheel_platform", "zig"),
    [
        (Target("x86_64", "gnu"), "manylinux_2_17_x86_64", "x86_64-linux-gnu.2.17"),
        (Target("aarch64", "musl"), "musllinux_1_2_aarch64", "aarch64-linux-musl"),
    ],
)
def test_a_target_names_its_wheel_and_its_compiler_s_target(target: Target, wheel_platform: str, zig: str) -> None:
    assert (target.wheel_platform, target.zig) == (wheel_platform, zig)


def test_a_target_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFKEEPER_TARGET", "aarch64-linux-musl")
    assert wanted_target() == Target("aarch64", "musl")
    monkeypatch.setenv("DIFFKEEPER_TARGET", "riscv64-linux-gnu")
    with pytest.raises(SystemExit, match="not one of x86_64-linux-gnu"):
        wanted_target()


def source(tmp_path: Path, content: bytes) -> Source:
    (tmp_path / "there").write_bytes(content)
    digest = hashlib.sha256(b"the true bytes").hexdigest()
    return Source("lib", "1", "lib.tar", (tmp_path / "there").as_uri(), digest, "lib-1", "Zlib", ())


def test_a_bundled_source_is_fetched_once(tmp_path: Path) -> None:
    wanted = source(tmp_path, b"the true bytes")
    assert fetch(wanted, tmp_path / "cache").read_bytes() == b"the true bytes"
    (tmp_path / "there").unlink()
    assert fetch(wanted, tmp_path / "cache").read_bytes() == b"the true bytes"


def test_a_bundled_source_with_other_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"is not the lib that sources\.toml names"):
        fetch(source(tmp_path, b"other bytes"), tmp_path / "cache")


def test_the_sources_are_pinned_by_hash_and_named_with_their_licences() -> None:
    for entry in read_sources():
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.version in entry.file
        assert entry.licence
        assert entry.licence_files
