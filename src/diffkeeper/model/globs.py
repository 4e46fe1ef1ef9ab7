r"""Patterns of paths, as ``--path`` takes them: compiled once to regular expressions over bytes.

| pattern | paths |
|---|---|
| `status.log` | that path below the root and, if it is a directory, all below it |
| `build/` | that directory and all below it |
| `*.log` | a wildcard without a slash: at any depth |
| `src/*.c` | a wildcard with a slash: from the root on; `*` and `?` do not cross slashes, `**` does |
| `!*.tmp` | leaves out what matches |
| `\*` | a backslash takes the next character as it is |
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field

from diffkeeper.errors import UsageError
from diffkeeper.model.values import dataclass

_TOKEN = re.compile(
    rb"(?P<up>/\*\*/)|(?P<start>\A\*\*/)|(?P<below>/\*\*\Z)|(?P<any>\*\*+)|(?P<one>\*)|(?P<char>\?)"
    rb"|(?P<set>\[[!^]?\]?[^\]/]*\])|\\(?P<escaped>.)|(?P<plain>.)",
    re.DOTALL,
)
_FIXED = {
    "up": rb"/(?:.*/)?",
    "start": rb"(?:.*/)?",
    "below": rb"(?:/.*)",
    "any": rb".*",
    "one": rb"[^/]*",
    "char": rb"[^/]",
}


@dataclass(frozen=True, slots=True)
class PathFilter:
    """Say which paths were asked for; without patterns, all are."""

    patterns: tuple[str, ...] = ()
    _each: tuple[re.Pattern[bytes], ...] = field(default=(), repr=False)
    _wanted: re.Pattern[bytes] | None = field(default=None, repr=False)
    _unwanted: re.Pattern[bytes] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, patterns: str | bytes | Iterable[str | bytes], roots: Sequence[str] = ()) -> PathFilter:
        """Compile patterns; absolute ones are taken relative to the one of ``roots`` that they lie in."""
        if isinstance(patterns, str | bytes):
            patterns = (patterns,)
        texts = tuple(_below_a_root(os.fsencode(pattern), roots) for pattern in patterns)
        wanted = [_translate(text) for text in texts if not text.startswith(b"!")]
        unwanted = [_translate(text[1:]) for text in texts if text.startswith(b"!")]
        return cls(
            tuple(os.fsdecode(text) for text in texts),
            tuple(re.compile(each, re.DOTALL) for each in wanted),
            re.compile(b"|".join(wanted), re.DOTALL) if wanted else None,
            re.compile(b"|".join(unwanted), re.DOTALL) if unwanted else None,
        )

    @property
    def is_everything(self) -> bool:
        """Return whether no path is left out."""
        return self._wanted is None and self._unwanted is None

    def matches(self, path: bytes) -> bool:
        """Return whether a path below the root was asked for."""
        if self._unwanted is not None and self._unwanted.fullmatch(path):
            return False
        return self._wanted is None or self._wanted.fullmatch(path) is not None

    def watcher(self) -> UnmatchedPatterns:
        """Return a fresh record of the patterns that have matched nothing yet."""
        wanted = [pattern for pattern in self.patterns if not pattern.startswith("!")]
        return UnmatchedPatterns(dict(zip(wanted, (one.fullmatch for one in self._each), strict=True)))


@dataclass(slots=True)
class UnmatchedPatterns:
    """Strike off patterns as paths match them; what is left matched nothing."""

    left: dict[str, Callable[[bytes], object]]

    def see(self, path: bytes) -> None:
        """Strike off the patterns that match ``path``."""
        if self.left:
            self.left = {text: match for text, match in self.left.items() if not match(path)}


def _below_a_root(pattern: bytes, roots: Sequence[str]) -> bytes:
    sign, body = (b"!", pattern[1:]) if pattern.startswith(b"!") else (b"", pattern)
    for root in sorted(map(os.fsencode, roots), key=len, reverse=True):
        if body == root or body.startswith(root.rstrip(b"/") + b"/"):
            return sign + (body[len(root) :].lstrip(b"/") or b"**")
    return pattern


def _translate(pattern: bytes) -> bytes:
    is_anchored = b"/" in pattern.rstrip(b"/")
    body = re.sub(rb"/+", b"/", pattern)
    while body.startswith((b"./", b"/")):
        body = body.partition(b"/")[2]
    is_directory = body.endswith(b"/")
    body = body.rstrip(b"/")
    if body in (b"", b"."):
        if pattern in (b"", b"!"):
            raise UsageError("an empty pattern matches no path: leave --path out, or write '**' for everything")
        return rb".*"
    prefix = b"" if is_anchored or not re.search(rb"[*?\[]", body) else rb"(?:.*/)?"
    # A pattern that ends in a slash means the directory; a plain one may name it: both take what is below it.
    suffix = rb"(?:/.*)?" if is_directory or not body.endswith(b"**") else b""
    return prefix + b"".join(_piece(match) for match in _TOKEN.finditer(body)) + suffix


def _piece(match: re.Match[bytes]) -> bytes:
    kind = match.lastgroup or ""
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == "set":
        return _character_set(match["set"])
    return re.escape(match[kind])


def _character_set(text: bytes) -> bytes:
    inner = text[1:-1]
    negation = inner[:1] in (b"!", b"^")
    inner = inner[1:] if negation else inner
    escaped = re.sub(rb"([\\\[\]&~|^])", rb"\\\1", inner)
    piece = b"[" + (b"^/" if negation else b"") + escaped + b"]"
    try:
        re.compile(piece)
    except re.error as error:
        raise UsageError(f"cannot read {os.fsdecode(text)!r} in a pattern: {error}") from None
    return rb"(?!/)" + piece
