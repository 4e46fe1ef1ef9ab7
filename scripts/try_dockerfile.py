#!/usr/bin/env python3
"""Prove the Dockerfile's steps one by one where there is no container engine: each stage is a tree for chroot.

    sudo scripts/try_dockerfile.py BASE PLACE

BASE is a Debian tree that stands for the image in FROM (debootstrap --variant=minbase bookworm BASE), PLACE a folder
for the stages. Of the language it knows what the Dockerfile uses. At the end the entry point runs: with --help, and to
record with eBPF.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND": "noninteractive",
}
# What a container engine's network settings would bring in.
CARRIED = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL")
MOUNTED = ("proc", "sys")  # a container engine gives both, to RUN as well
CA = "/usr/local/share/ca-bundle.pem"


class Stage:
    """Hold a stage: its tree, and what was set in it."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.environment = ENVIRONMENT | {name: os.environ[name] for name in CARRIED if name in os.environ}
        self.folder = "/"
        if "BARE_CA" in os.environ:
            shutil.copy(os.environ["BARE_CA"], self.inside(CA))
            self.environment |= {"PIP_CERT": CA, "SSL_CERT_FILE": CA}

    def inside(self, path: str) -> Path:
        """Return where a path of the stage lies."""
        return self.tree / path.lstrip("/")

    def run(self, *command: str) -> None:
        """Run a command in it; exits where that fails."""
        script = f'cd {shlex.quote(self.folder)} && exec "$@"'
        for name in MOUNTED:
            subprocess.run(("mount", "--rbind", "--make-rslave", f"/{name}", str(self.tree / name)), check=True)
        try:
            arguments = ("chroot", str(self.tree), "sh", "-c", script, "sh", *command)
            code = subprocess.run(arguments, env=self.environment, check=False).returncode
        finally:
            for name in MOUNTED:
                subprocess.run(("umount", "-l", str(self.tree / name)), check=True)
        if code:
            raise SystemExit(f"FAILED with {code}: {' '.join(command)}")


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each a word and the rest."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def build(base: Path, place: Path) -> tuple[Stage, list[str]]:
    """Carry all instructions out; return the last stage, and its entry point with the default arguments."""
    stages: dict[str, Stage] = {}
    stage, started = Stage.__new__(Stage), {"ENTRYPOINT": [""], "CMD": [""]}
    for word, rest in instructions():
        print(f"=== {word} {rest}", flush=True)
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(copied(base, place / name))
        elif word == "RUN":
            stage.run("sh", "-ec", rest)
        elif word == "COPY":
            copy(rest.split(), stage, stages)
        elif word == "ENV":
            name, _, value = rest.partition("=")
            stage.environment[name] = value
        elif word == "WORKDIR":
            stage.folder = rest
            stage.inside(rest).mkdir(parents=True, exist_ok=True)
        else:
            started[word] = json.loads(rest)
    return stage, started["ENTRYPOINT"]


def copied(base: Path, tree: Path) -> Path:
    """Return a fresh copy of a tree, in which names can be looked up."""
    subprocess.run(("rm", "-rf", "--one-file-system", str(tree)), check=True)
    subprocess.run(("cp", "-a", str(base), str(tree)), check=True)
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    return tree


def copy(words: list[str], stage: Stage, stages: dict[str, Stage]) -> None:
    """Carry out COPY, from another stage or from what .dockerignore leaves of this folder."""
    if words[0].startswith("--from="):
        shutil.copytree(stages[words[0][7:]].inside(words[1]), stage.inside(words[2]), symlinks=True)
        return
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in kept:
        source, to = ROOT / name, stage.inside(words[1]) / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, ignore=_ignored)
        else:
            shutil.copy(source, to)


def _ignored(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if fnmatch(name, "__pycache__") or fnmatch(name, "_native.so")]


def main() -> None:
    """Build, say how large the last stage became, and try it."""
    base, place = map(Path, sys.argv[1:])
    place.mkdir(parents=True, exist_ok=True)
    stage, entry = build(base, place)
    for tree in (base, stage.tree):
        print(f"=== {tree}: {subprocess.check_output(('du', '-smx', str(tree)), text=True).split()[0]} MB", flush=True)
    stage.run(*entry, "--help")
    stage.run(*entry, "record", "--strict", "-s", "/tmp/trace", "--", "touch", "f")
    stage.run(*entry, "timeline", "-s", "/tmp/trace")


if __name__ == "__main__":
    main()
