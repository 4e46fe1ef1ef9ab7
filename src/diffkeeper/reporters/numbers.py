"""Numbers as people read them."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def counted(number: int, one: str, many: str) -> str:
    """Return a number of things, as ``1 file`` or ``1,200 files``."""
    return f"{number:,} {one if number == 1 else many}"


def size(count: float) -> str:
    """Return a number of bytes, as ``812 B`` or ``4.1 MiB``."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{int(count)} {unit}" if unit == "B" else f"{count:.1f} {unit}"
