"""Make a tree of N files in nested folders: TREE N. Sizes from nothing to 64 KiB, a few larger, some links."""

import os
import random
import sys

root, count = sys.argv[1], int(sys.argv[2])
chance = random.Random(count)
for number in range(count):
    folder = os.path.join(root, f"d{number % 7}", f"e{number % 31}")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"f{number}")
    size = chance.choice((0, 1, 100, 3000, 4096, 10_000)) if number % 100 else 300_000
    with open(path, "wb") as file:
        file.write(chance.randbytes(size))
    os.chmod(path, chance.choice((0o644, 0o600, 0o755)))
    if number % 17 == 0:
        os.symlink(f"f{number}", path + ".symlink")
    if number % 23 == 0:
        os.link(path, path + ".hard")
