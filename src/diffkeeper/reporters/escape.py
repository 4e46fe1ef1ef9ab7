r"""Names and text from a trace, made safe to print: a trace is untrusted, and a terminal obeys what it is shown.

A name of printable characters is shown as it is. Any other is put in double quotes with C escapes, as git does:
``"a\nb"``, ``"\033[2J"``, bytes that are not UTF-8 as ``"\377"``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from functools import lru_cache

_PLAIN = re.compile(rb"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
_SHORT = {"\a": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r", "\\": "\\\\"}
_COLOURS = re.compile(rb"\x1b\[[0-9;:]*m")
_ARROWS = (" -> ", " <-> ")  # stand between two names of one line


@lru_cache(maxsize=65_536)
def name(raw: bytes) -> str:
    """Return a path for people: as it is, or quoted if anything in it could mislead them or the terminal."""
    text = raw.decode("utf-8", "surrogateescape")
    if any(arrow in text for arrow in _ARROWS) or not (_PLAIN.fullmatch(raw) or _is_harmless(text)):
        return '"' + escaped(text).replace('"', '\\"') + '"'
    return text


def escaped(text: str) -> str:
    """Return text in which every character that is not printable, and the backslash, is a C escape."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_character(character) for character in text)


def output(raw: bytes) -> str:
    """Return what a command printed as one line: colours left out, control characters escaped, no line end."""
    return escaped(_COLOURS.sub(b"", raw).removesuffix(b"\n").decode("utf-8", "surrogateescape"))


def message(text: str) -> str:
    """Return a message with its lines and backslashes, but without control characters that came in with names."""
    if text.isprintable():
        return text
    return "".join(one if one in "\n\\" else _character(one) for one in text)


def command(argv: Iterable[str]) -> str:
    """Return a command line for people, quoted for a shell where it can be."""
    return escaped(shlex.join(argv))


def _is_harmless(text: str) -> bool:
    return bool(text) and text.isprintable() and '"' not in text and "\\" not in text and text == text.strip()


def _character(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
