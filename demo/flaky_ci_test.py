"""A test that fails now and then: something overwrites its status file, and afterwards nobody can tell what it was."""

import sys
import time
from pathlib import Path

STATUS = Path("status.log")
LOCK = Path("db.lock")


def main() -> int:
    STATUS.write_text("INIT: System OK")
    time.sleep(1)
    LOCK.write_text("LOCKED")
    time.sleep(1)
    STATUS.write_text("ERROR: Connection Lost")  # silently: nothing is printed, and the first state is gone
    time.sleep(1)
    if STATUS.read_text() != "INIT: System OK":
        print("FAIL: the system is not OK", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
