"""Exclude patterns work as git's do, for the baseline and for events alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from diffkeeper.errors import UsageError
from diffkeeper.rules import Rules, collect_patterns


@pytest.mark.parametrize(
    ("patterns", "path", "is_dir", "expected"),
    [
        (["*.o"], b"deep/x.o", False, True),
        (["*.o"], b"x.c", False, False),
        (["build/"], b"build", True, True),
        (["build/"], b"build", False, False),  # a file of that name
        (["build/"], b"a/build/x/y", False, True),
        (["/build"], b"a/build", True, False),
        (["*.log", "!keep.log"], b"keep.log", False, False),
        (["build/", "!build/keep"], b"build/keep", False, True),  # git: not below an excluded directory
        (["a/**/z"], b"a/b/c/z", False, True),
        (["caf\udce9*"], b"caf\xe9.txt", False, True),
        (["# only a comment", "", "  "], b"x", False, False),
        (["*"], b"", True, False),  # the root itself stays
    ],
)
def test_patterns_mean_what_they_mean_to_git(patterns: list[str], path: bytes, is_dir: bool, expected: bool) -> None:
    assert Rules.from_patterns(patterns).is_excluded(path, is_dir) is expected


def test_paths_of_two_thousand_components_are_answered() -> None:
    rules = Rules.from_patterns(["*.o"])
    assert rules.is_excluded(b"/".join([b"d"] * 2000) + b"/x.o", False)


def test_a_pattern_that_cannot_be_read_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="exclude pattern"):
        Rules.from_patterns(["!"])


def test_the_ignore_file_follows_the_options(tmp_path: Path) -> None:
    (tmp_path / ".diffkeeperignore").write_text("# comment\n*.tmp\n\n!keep.tmp\n")
    assert collect_patterns([(b"", bytes(tmp_path))], ["a"]) == ["a", "*.tmp", "!keep.tmp"]


def test_patterns_of_several_roots_bind_to_their_labels(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two[x]"
    one.mkdir()
    two.mkdir()
    (one / ".diffkeeperignore").write_text("/build\n*.o\n!b.o\n")
    (two / ".diffkeeperignore").write_text("out/\n")
    rules = Rules.from_patterns(collect_patterns([(b"one", bytes(one)), (b"two[x]", bytes(two))], ["*.log"]))
    assert rules.is_excluded(b"one/build", True)
    assert not rules.is_excluded(b"one/sub/build", True)
    assert not rules.is_excluded(b"two[x]/build", True)
    assert rules.is_excluded(b"one/sub/a.o", False)
    assert not rules.is_excluded(b"one/sub/b.o", False)
    assert rules.is_excluded(b"two[x]/sub/out", True)
    assert rules.is_excluded(b"two[x]/sub/x.log", False)


def test_without_patterns_pathspec_is_not_imported() -> None:
    program = (
        "import sys; from diffkeeper.rules import Rules; "
        "assert not Rules.from_patterns([]).is_excluded(b'x', False); sys.exit('pathspec' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
