"""Recording inside containers: with the capabilities that docs/how-to/containers.md names, and without them.

A container of runc's with this machine's files below an overlay, so that nothing needs to be downloaded.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
DOCKERS = [
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
]  # fmt: skip
NEEDED = ["BPF", "PERFMON", "DAC_READ_SEARCH", "SYS_PTRACE"]
PROGRAM = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from diffkeeper.__main__ import main; main()"
SCRIPT = "echo one > file; mv file kept; exit 3"

Container = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """Yield a function that runs ``diffkeeper`` in a container with given capabilities, as root, in ``/own``."""
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("runc is not installed, or this is not root")
    layers = tmp_path / "layers"  # an overlay cannot lie on another: a tmpfs of its own
    layers.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", layers], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for name in ("upper/own", "over", "root"):
            (layers / name).mkdir(parents=True)
        options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/over"
        if subprocess.run(["mount", "-t", "overlay", "none", "-o", options, layers / "root"], check=False).returncode:
            pytest.skip("no overlay can be mounted here")
        yield lambda *arguments, **settings: _run(layers, arguments, **settings)
    finally:
        subprocess.run(["umount", "--lazy", layers / "root"], check=False)
        subprocess.run(["umount", "--lazy", layers], check=True)


def _run(
    layers: Path, arguments: tuple[str, ...], *, added: list[str], in_user_namespace: bool = False
) -> subprocess.CompletedProcess[str]:
    (layers / "config.json").unlink(missing_ok=True)
    subprocess.run(["runc", "spec"], cwd=layers, check=True)
    config: dict[str, Any] = json.loads((layers / "config.json").read_text())
    capabilities = [f"CAP_{name}" for name in (*DOCKERS, *added)]
    config["process"] |= {
        "terminal": False,
        "args": [sys.executable, "-B", "-c", PROGRAM, *arguments],
        "cwd": "/own",
        "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root"],
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
    }
    config["root"] = {"path": str(layers / "root"), "readonly": False}
    # Where this checkout and its Python are not on the root's own file system.
    config["mounts"] += [
        {"destination": str(path), "source": str(path), "type": "bind", "options": ["rbind", "ro"]}
        for path in (SOURCE, *map(Path, {sys.prefix, sys.base_prefix} - {"/usr"}))
    ]
    if in_user_namespace:
        config["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 0, "size": 65536}]
        config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    (layers / "config.json").write_text(json.dumps(config))
    name = f"diffkeeper-test-{os.getpid()}"
    return subprocess.run(
        ["runc", "run", name],
        cwd=layers,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.ebpf
def test_with_the_capabilities_a_container_records_its_own_files(container: Container) -> None:
    result = container("record", "--", "sh", "-c", SCRIPT, added=NEEDED)
    assert result.returncode == 3, result.stderr
    assert "verified 1 file. Command exited 3." in result.stderr
    listed = container("timeline", "--format", "classic", added=[])
    assert [line.split()[1:3] for line in listed.stdout.splitlines()] == [
        ["CREATE", "file"], ["WRITE", "file"], ["RENAME", "file"],
    ]  # fmt: skip


@pytest.mark.ebpf
@pytest.mark.parametrize("missing", NEEDED)
def test_without_one_of_them_the_refusal_names_it(container: Container, missing: str) -> None:
    result = container("record", "--", "touch", "touched", added=[one for one in NEEDED if one != missing])
    assert result.returncode == 125, result.stderr
    assert missing in result.stderr
    assert not container("info", added=[]).stdout


@pytest.mark.ebpf
def test_best_effort_runs_the_command_all_the_same_and_says_why(container: Container) -> None:
    result = container("record", "--best-effort", "--", "sh", "-c", SCRIPT, added=[])
    assert result.returncode == 3, result.stderr
    assert "CAP_BPF" in result.stderr


@pytest.mark.ebpf
def test_capabilities_in_a_user_namespace_do_not_count(container: Container) -> None:
    result = container("record", "--", "true", added=NEEDED, in_user_namespace=True)
    if "runc run failed" in result.stderr:
        pytest.skip(result.stderr)
    assert result.returncode == 125, result.stderr
