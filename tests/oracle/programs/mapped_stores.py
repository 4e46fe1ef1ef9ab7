"""Store into shared mappings of a few files, beside writes, truncations and renames: PROCESSES STEPS SEED.

Files `s0` to `s2` are everybody's: all map them, store into them and write to them, and they only grow. Each process
has one of its own besides, which it also cuts, replaces, renames and removes, mapped or not.
"""

import mmap
import os
import random
import sys
import time

PAGE = mmap.PAGESIZE
SHARED = [f"s{number}" for number in range(3)]


class Mapped:
    """Hold an open file and a mapping of all of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.file = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(self.file).st_size < PAGE:
            os.ftruncate(self.file, PAGE)
        self.map = mmap.mmap(self.file, os.fstat(self.file).st_size)

    def close(self) -> None:
        self.map.close()
        os.close(self.file)

    def again(self) -> None:
        self.close()
        self.__init__(self.name)


def common(one: Mapped, chance: random.Random) -> None:
    """Do what may be done to a file that others have mapped."""
    at = chance.randrange(len(one.map))
    data = chance.randbytes(chance.choice((1, 8, 60, 700, 5000)))[: len(one.map) - at]
    what = chance.randrange(12)
    if what < 7:
        one.map[at : at + len(data)] = data
    elif what < 9:
        os.pwrite(one.file, data, at)
    elif what == 9:
        one.map.flush()
    elif what == 10:
        one.again()
    elif len(one.map) < 200 * PAGE:
        os.ftruncate(one.file, max(os.fstat(one.file).st_size, len(one.map) + chance.randrange(5 * PAGE)))
        one.again()


def alone(one: Mapped, chance: random.Random) -> None:
    """Do what would kill another process that has the file mapped, or take its name away."""
    what = chance.randrange(5)
    if what == 0:
        os.ftruncate(one.file, chance.randrange(PAGE, 30 * PAGE))
        one.again()
    elif what == 1:
        os.rename(one.name, one.name + ".old")
        one.again()
    elif what == 2:
        os.unlink(one.name)
        one.map[:5] = b"after"
        one.again()
    elif what == 3:
        one.close()
        with open(one.name, "wb") as file:
            file.write(chance.randbytes(chance.randrange(20 * PAGE)))
        one.__init__(one.name)
    else:
        one.map[-9:] = b"last nine"
        os.fsync(one.file)


def work(number: int, steps: int, seed: int) -> None:
    chance = random.Random(seed * 100 + number)
    files, own = [Mapped(name) for name in SHARED], Mapped(f"own{number}")
    for _ in range(steps):
        if chance.randrange(3):
            common(chance.choice(files), chance)
        elif chance.randrange(3):
            common(own, chance)
        else:
            alone(own, chance)
        time.sleep(chance.choice((0, 0, 0, 0.001, 0.004)))
    os._exit(0)  # with everything mapped


processes, steps, seed = map(int, sys.argv[1:])
for number in range(processes):
    if os.fork() == 0:
        work(number, steps, seed)
for _ in range(processes):
    assert os.wait()[1] == 0
