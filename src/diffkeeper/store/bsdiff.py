"""Binary patches in the manner of bsdiff: bsdiff4 finds them, in a process that can be killed; they are applied here.

    patch, little endian:
    u32 number of steps n | u32 length of differences d | n x (i64 add, i64 copy, i64 seek)
    | d bytes of differences | extra bytes
    Each step takes `add` bytes of the base plus as many differences (modulo 256), then `copy` extra bytes, then moves
    `seek` bytes within the base.

A trace may come from a stranger, so bsdiff4's own `patch` is never given one: what it does not check, it does in C.
"""

from __future__ import annotations

import struct
import sys

from diffkeeper.errors import DamagedTraceError

_HEADER = struct.Struct("<II")
_STEP = struct.Struct("<qqq")
_LENGTHS = struct.Struct("<QQ")
_MAX_SPAN = 1 << 40  # of a seek: keeps the arithmetic of a hostile patch small
_MAGICS = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


def is_executable(data: bytes) -> bool:
    """Say whether ``data`` begins as an ELF, PE or Mach-O file does: there bsdiff wins over zstd."""
    return data.startswith(_MAGICS)


def make_patch(base: bytes, raw: bytes, seconds: float) -> bytes | None:
    """Return a patch that turns ``base`` into ``raw``, None where none was found within ``seconds``.

    Another process looks for it: on hostile bytes bsdiff takes minutes for a MiB, and C code cannot be interrupted.
    """
    import subprocess  # only where there is an executable to store

    question = _LENGTHS.pack(len(base), len(raw)) + base + raw
    command = [sys.executable, "-I", "-c", _WORKER, *sys.path]
    try:
        answer = subprocess.run(command, input=question, capture_output=True, timeout=seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout or None


# -I keeps the recorded command's environment out of it; what this process imports from is handed over.
_WORKER = "import sys; sys.path[:] = sys.argv[1:]; from diffkeeper.store import bsdiff; bsdiff.answer()"


def answer() -> None:
    """Read two byte strings from standard input, write the patch between them to standard output."""
    import bsdiff4.core  # here alone: a reader of traces never needs it

    base_length, raw_length = _LENGTHS.unpack(sys.stdin.buffer.read(_LENGTHS.size))
    base = sys.stdin.buffer.read(base_length)
    raw = sys.stdin.buffer.read(raw_length)
    sys.stdout.buffer.write(pack_patch(*bsdiff4.core.diff(base, raw)))


def pack_patch(control: bytes, differences: bytes, extra: bytes) -> bytes:
    """Return a patch of what bsdiff4.core.diff returns; its control block holds sign and magnitude."""
    numbers = [_signed(number) for (number,) in struct.iter_unpack("<Q", control)]
    steps = struct.pack(f"<{len(numbers)}q", *numbers)
    return _HEADER.pack(len(numbers) // 3, len(differences)) + steps + differences + extra


def _signed(number: int) -> int:
    magnitude = number & (1 << 63) - 1
    return -magnitude if number >> 63 else magnitude


def apply_patch(base: bytes, patch: bytes, length: int) -> bytes:
    """Return the ``length`` bytes that ``patch`` makes of ``base``; raise DamagedTraceError where it makes others."""
    steps, differences, extra = _parts(patch)
    added, parts, position, total = 0, [], 0, 0
    copied = 0
    for add, copy, seek in steps:
        total += add + copy
        if add < 0 or copy < 0 or abs(seek) > _MAX_SPAN or total > length:
            raise DamagedTraceError("A patch of content makes no sense.")
        parts.append(_sum(differences[added : added + add], base, position))
        parts.append(extra[copied : copied + copy])
        added, copied, position = added + add, copied + copy, position + add + seek
    return b"".join(parts)


def _parts(patch: bytes) -> tuple[list[tuple[int, int, int]], bytes, bytes]:
    if len(patch) < _HEADER.size:
        raise DamagedTraceError("A patch of content is cut short.")
    count, added = _HEADER.unpack_from(patch)
    middle = _HEADER.size + count * _STEP.size
    if middle + added > len(patch):
        raise DamagedTraceError("A patch of content is cut short.")
    steps = list(_STEP.iter_unpack(patch[_HEADER.size : middle]))
    return steps, patch[middle : middle + added], patch[middle + added :]


def _sum(differences: bytes, base: bytes, position: int) -> bytes:
    """Return ``differences`` plus the base from ``position`` on, byte for byte modulo 256; beyond the base is 0."""
    if not differences:
        return b""
    window = b"\0" * min(max(-position, 0), len(differences))
    window += base[max(position, 0) : max(position + len(differences), 0)]
    left = int.from_bytes(differences, "little")
    right = int.from_bytes(window[: len(differences)], "little")
    low = int.from_bytes(b"\x7f" * len(differences), "little")
    # The lower seven bits add without carrying into the next byte; the eighth is their exclusive or.
    total = ((left & low) + (right & low)) ^ ((left ^ right) & ~low)
    return total.to_bytes(len(differences), "little")
