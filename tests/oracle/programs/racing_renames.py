"""Create, rename, exchange and remove the same few names from several processes: PROCESSES ROUNDS."""

import contextlib
import ctypes
import os
import random
import sys

RENAME_EXCHANGE, AT_FDCWD = 2, -100
libc = ctypes.CDLL(None, use_errno=True)
processes, rounds = int(sys.argv[1]), int(sys.argv[2])
names = [f"{folder}n{number}" for folder in ("", "x/", "y/") for number in range(4)]
folders = ["x", "y", "x/sub", "y/sub", "sub"]


def step(chance: random.Random, text: bytes) -> None:
    one, two = chance.sample(names, 2)
    choice = chance.randrange(9)
    if choice <= 2:
        with open(one, "wb") as file:
            file.write(text)
    elif choice <= 4:
        os.rename(one, two)
    elif choice == 5:
        os.unlink(one)
    elif choice == 6:
        libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, two.encode(), RENAME_EXCHANGE)
    elif choice == 7:
        os.link(one, two)
    else:
        move_folder(chance)


def move_folder(chance: random.Random) -> None:
    one, two = chance.sample(folders[2:], 2)
    if chance.random() < 0.5:
        os.mkdir(one)
    elif chance.random() < 0.5:
        os.rename(one, two)
    else:
        os.rmdir(one)


for folder in folders[:2]:
    os.makedirs(folder, exist_ok=True)
for number in range(processes):
    if os.fork() == 0:
        chance = random.Random(number)
        for each in range(rounds):
            with contextlib.suppress(OSError):
                step(chance, b"%d %d\n" % (number, each))
        os._exit(0)
for _ in range(processes):
    os.wait()
