"""Change sizes and extents in every way there is: ROUNDS."""

import contextlib
import ctypes
import errno
import os
import random
import shutil
import sys

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
chance = random.Random(3)


def fallocate(handle: int, mode: int, offset: int, length: int) -> None:
    if libc.fallocate(handle, mode, offset, length) != 0 and ctypes.get_errno() not in (errno.EOPNOTSUPP, errno.EINVAL):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


for number in range(int(sys.argv[1])):
    path = f"shape{number % 6}"
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(handle, chance.randbytes(50_000), 0)
    os.pwrite(handle, b"island", chance.randrange(1 << 22))
    for mode in (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO, ZERO | KEEP_SIZE, COLLAPSE, INSERT):
        fallocate(handle, mode, 4096 * chance.randrange(1, 8), 4096 * chance.randrange(1, 8))
        os.pwrite(handle, b"after %d" % mode, chance.randrange(20_000))
    fallocate(handle, PUNCH_HOLE | KEEP_SIZE, chance.randrange(9000), chance.randrange(1, 9000))
    os.ftruncate(handle, chance.randrange(60_000))
    os.ftruncate(handle, 40_000)
    os.truncate(path, 30_000 + number)
    os.close(handle)
    shutil.copyfile(path, path + ".sendfile")
    with open(path, "rb") as source, open(path + ".range", "w+b") as target, contextlib.suppress(OSError):
        os.copy_file_range(source.fileno(), target.fileno(), 20_000, 100, 500)
        os.copy_file_range(target.fileno(), target.fileno(), 5_000, 600, 40_000)
    with open("vectors", "wb", buffering=0) as file:
        os.writev(file.fileno(), [chance.randbytes(chance.randrange(3000)) for _ in range(200)])
    with open("large", "wb", buffering=0) as file:
        file.write(chance.randbytes(3 << 20) if number % 10 == 0 else b"small again")
    read_end, write_end = os.pipe()
    os.write(write_end, b"through a pipe %d" % number)
    os.close(write_end)
    with open("spliced", "wb") as file:
        os.splice(read_end, file.fileno(), 100)
    os.close(read_end)
