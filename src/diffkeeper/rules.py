"""What is left out of a recording: patterns in gitignore syntax from ``--exclude`` and ``.diffkeeperignore``.

The only importer of pathspec, and it imports it only when there are patterns. As in git, what lies below an excluded
directory is excluded, whatever later patterns say. The same rules serve the baseline and the events:
``Rules.from_patterns(facts.excludes)``, with paths as the trace has them (with several roots: ``label/…``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffkeeper.errors import UsageError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = b".diffkeeperignore"
_CACHED_DIRECTORIES = 65536


class Rules:
    """Answer whether a path is left out."""

    def __init__(self, spec: GitIgnoreSpec | None) -> None:
        """Take compiled patterns, or None for rules that leave nothing out."""
        self._spec = spec
        self._directories: dict[bytes, bool] = {b"": False}

    @classmethod
    def from_patterns(cls, patterns: Sequence[str]) -> Rules:
        """Compile patterns, the later ones winning; raise UsageError for one that cannot be read."""
        if not any(line.strip() and not line.startswith("#") for line in patterns):
            return cls(None)
        from pathspec import GitIgnoreSpec

        try:
            return cls(GitIgnoreSpec.from_lines(patterns))
        except ValueError as error:
            raise UsageError(f"an exclude pattern cannot be read: {error}") from error

    def __bool__(self) -> bool:
        """Say whether anything at all can be left out."""
        return self._spec is not None

    def is_excluded(self, path: bytes, is_dir: bool) -> bool:
        """Say whether a path of the trace is left out, by itself or with a directory above it; the root never is."""
        if self._spec is None:
            return False
        if is_dir:
            return self._is_directory_excluded(path)
        parent = path.rpartition(b"/")[0]
        return self._is_directory_excluded(parent) or self._spec.match_file(os.fsdecode(path))

    def _is_directory_excluded(self, path: bytes) -> bool:
        """Answer for a directory, from the answers for those above it; loops, since paths may have 2,000 components."""
        known = self._directories.get(path)
        if known is not None:
            return known
        prefixes = [path[:end] for end in range(len(path)) if path[end : end + 1] == b"/"] + [path]
        excluded = False
        for prefix in prefixes:
            excluded = excluded or self._is_one_directory_excluded(prefix)
        self._remember(path, excluded)
        return excluded

    def _is_one_directory_excluded(self, path: bytes) -> bool:
        """Answer for a directory none of whose parents is excluded, and remember it."""
        assert self._spec is not None, "only rules with patterns look at directories"
        known = self._directories.get(path)
        if known is None:
            known = self._spec.match_file(os.fsdecode(path) + "/")
            self._remember(path, known)
        return known

    def _remember(self, path: bytes, excluded: bool) -> None:
        """Keep the answer for a directory, in bounded memory."""
        if len(self._directories) >= _CACHED_DIRECTORIES:
            self._directories = {b"": False}
        self._directories[path] = excluded


def collect_patterns(roots: Sequence[tuple[bytes, bytes]], excludes: Sequence[str]) -> list[str]:
    """Return the patterns of a recording: ``--exclude`` for every root, then each root's ignore file.

    ``roots`` are (label, path). With several roots the patterns are bound to their root's label, because the paths of
    such a trace begin with it.
    """
    if len(roots) == 1:
        return [*excludes, *_read_ignore_file(roots[0][1])]
    bound = []
    for label, path in roots:
        bound += [_bound(pattern, os.fsdecode(label)) for pattern in [*excludes, *_read_ignore_file(path)]]
    return bound


def _read_ignore_file(root: bytes) -> list[str]:
    """Return the patterns in a root's ignore file, none where there is no such file."""
    try:
        with open(os.path.join(root, IGNORE_FILE), encoding="utf-8", errors="surrogateescape") as file:
            return [line for line in file.read().splitlines() if line.strip() and not line.startswith("#")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{os.fsdecode(IGNORE_FILE)} cannot be read: {error.strerror}") from error


def _bound(pattern: str, label: str) -> str:
    """Bind a pattern to one root: one with an inner slash from the root itself, another at any depth below it."""
    negation, body = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    is_anchored = "/" in body.rstrip().rstrip("/")
    escaped = "".join(f"\\{char}" if char in "\\*?[]!#" else char for char in label)
    return f"{negation}/{escaped}/{body.lstrip('/')}" if is_anchored else f"{negation}/{escaped}/**/{body}"
