"""Write so many bytes in so many seconds, in place and anew: python long_writer.py FOLDER BYTES SECONDS."""

from __future__ import annotations

import os
import sys
import time

BLOCK = 1 << 16
LARGE = 1024  # blocks of the file that is written in place
SMALL = 200  # files that are replaced in turn


def main(folder: str, count: int, seconds: float) -> None:
    """Spread the writes evenly over the time."""
    begun, written, turn = time.monotonic(), 0, 0
    with open(f"{folder}/large", "wb", buffering=0) as large:
        while written < count:
            noise = memoryview(os.urandom(64 * BLOCK))  # what neither compresses nor comes again
            for part in range(64):
                block = noise[part * BLOCK : (part + 1) * BLOCK]
                written += os.pwrite(large.fileno(), block, turn % LARGE * BLOCK)
                turn += 1
            written += _replace(folder, turn)
            time.sleep(max(0.0, begun + written / count * seconds - time.monotonic()))


def _replace(folder: str, turn: int) -> int:
    text = b"%d of the log of a long run\n" % turn * 300
    with open(f"{folder}/new", "wb") as file:
        file.write(text)
    os.replace(f"{folder}/new", f"{folder}/small{turn // 64 % SMALL}")
    return len(text)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
