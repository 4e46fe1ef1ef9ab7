"""Make, rename, exchange and write through hard links: ROUNDS."""

import ctypes
import os
import random
import sys

RENAME_NOREPLACE, RENAME_EXCHANGE, AT_FDCWD = 1, 2, -100
libc = ctypes.CDLL(None, use_errno=True)
chance = random.Random(7)
os.makedirs("a/b", exist_ok=True)
names = [f"{folder}/n{number}" for folder in ("a", "a/b", ".") for number in range(5)]
for number in range(int(sys.argv[1])):
    one, two = chance.sample(names, 2)
    step = chance.randrange(7)
    try:
        if step == 0:
            with open(one, "wb") as file:
                file.write(b"first %d\n" % number)
        elif step == 1:
            os.link(one, two)
        elif step == 2:
            os.rename(one, two)  # does nothing where both are names of one file
        elif step == 3:
            with open(one, "ab") as file:
                file.write(b"more %d\n" % number)
        elif step == 4:
            os.unlink(one)
        elif step == 5:
            libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, two.encode(), RENAME_EXCHANGE)
        else:
            libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, two.encode(), RENAME_NOREPLACE)
    except OSError:
        pass
