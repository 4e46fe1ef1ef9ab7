"""Append numbered lines to ``log``, and tell a file outside of the root when each began and ended. Exits with 7."""

import os
import sys
import time

LINE = b"%08d\n"


def main(count: str, truth: str) -> int:
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with open(truth, "w", buffering=1) as told:
        for number in range(int(count)):
            before = time.monotonic_ns()
            os.write(log, LINE % number)
            told.write(f"{before} {time.monotonic_ns()}\n")
            time.sleep(0.0005)
    return 7


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
