"""Be a load beside what a test looks at: for some seconds write, rename and remove files in ``load``."""

import os
import sys
import time


def main(seconds: str) -> None:
    os.mkdir("load")
    end, number = time.monotonic() + float(seconds), 0
    while time.monotonic() < end:
        number += 1
        with open(f"load/{number % 50}.tmp", "wb") as file:
            file.write(bytes(20_000))
        os.rename(f"load/{number % 50}.tmp", f"load/{number % 50}")
        if number % 3 == 0:
            os.unlink(f"load/{number % 50}")
        time.sleep(0.0005)


if __name__ == "__main__":
    main(*sys.argv[1:])
