"""The processes of a trace as the store keeps them, one value each.

value, little endian:
i64 pid | i64 parent key | i64 parent pid | i64 start_ns | i64 end_ns | i64 status | u8 bits | u32 number of strings,
then the length (u32) of each string and their bytes: comm, exe, cwd, then argv
bits: 1 end_ns is known, 2 status is known, 4 outsider
"""

from __future__ import annotations

import struct
from itertools import accumulate

from diffkeeper.errors import DamagedTraceError
from diffkeeper.model.process import Process

_HEADER = struct.Struct("<6qBI")
_ENDED, _STATUS_KNOWN, _OUTSIDER = 1, 2, 4
_NAMES = 3  # comm, exe, cwd


def encode_process(process: Process) -> bytes:
    """Return the value of a process; its key is not part of it."""
    bits = (process.end_ns is not None) * _ENDED | (process.status is not None) * _STATUS_KNOWN
    bits |= process.is_outsider * _OUTSIDER
    strings = [process.comm, process.exe, process.cwd, *process.argv]
    header = _HEADER.pack(
        process.pid,
        process.parent_key,
        process.parent_pid,
        process.start_ns,
        process.end_ns or 0,
        process.status or 0,
        bits,
        len(strings),
    )
    return header + struct.pack(f"<{len(strings)}I", *map(len, strings)) + b"".join(strings)


def decode_process(key: int, value: bytes) -> Process:
    """Return the process of that key and value; raise DamagedTraceError where the value is none."""
    if len(value) < _HEADER.size:
        raise DamagedTraceError("A process is cut short.")
    pid, parent_key, parent_pid, start_ns, end_ns, status, bits, _ = _HEADER.unpack_from(value)
    comm, exe, cwd, *argv = _strings(value)
    return Process(
        key=key,
        pid=pid,
        parent_key=parent_key,
        parent_pid=parent_pid,
        comm=comm,
        exe=exe,
        cwd=cwd,
        argv=tuple(argv),
        start_ns=start_ns,
        end_ns=end_ns if bits & _ENDED else None,
        status=status if bits & _STATUS_KNOWN else None,
        is_outsider=bool(bits & _OUTSIDER),
    )


def _strings(value: bytes) -> list[bytes]:
    count = _HEADER.unpack_from(value)[-1]
    begin = _HEADER.size + 4 * count
    if count < _NAMES or begin > len(value):
        raise DamagedTraceError("A process is cut short.")
    sizes = struct.unpack_from(f"<{count}I", value, _HEADER.size)
    ends = list(accumulate(sizes, initial=begin))
    if ends[-1] != len(value):
        raise DamagedTraceError("A process has not the length that it should have.")
    return [value[end - size : end] for end, size in zip(ends[1:], sizes, strict=True)]
