"""Use names and paths at the edges of what is allowed: ROUNDS."""

import os
import sys

NAMES = [
    b"new\nline",
    b"tab\t",
    b" ",
    b"-rf",
    b"\xff\xfe\x80",
    b"caf\xe9",
    b"x" * 255,
    b"a\\b",
    b"'\"`$(x)",
    b"*?[!",
    b"\x01\x7f",
    "ü漢".encode(),
]


def long_path(length: int) -> bytes:
    """Return a path of exactly so many bytes, of folders that exist."""
    path = b"long"
    while length - len(path) > 250:
        path += b"/" + b"p" * 200
    folder = path
    os.makedirs(folder, exist_ok=True)
    return folder + b"/" + b"q" * (length - len(folder) - 1)


os.makedirs(b"deep/" + b"/".join([b"d"] * 400), exist_ok=True)
longest = long_path(4095)
for number in range(int(sys.argv[1])):
    for name in NAMES:
        os.makedirs(b"in", exist_ok=True)
        path = b"in/" + name
        with open(path, "wb") as file:
            file.write(name * number)
        os.rename(path, b"in/other " + name[:240])
        os.rename(b"in/other " + name[:240], path)
        if number % 3 == 0:
            os.unlink(path)
    with open(longest, "wb") as file:
        file.write(b"%d" % number)
    os.rename(longest, longest[:-1] + b"r")
    os.rename(longest[:-1] + b"r", longest)
    with open(b"deep/" + b"/".join([b"d"] * 400) + b"/bottom", "ab") as file:
        file.write(b"%d\n" % number)
    # Beyond PATH_MAX, reached by steps only.
    here = os.open(".", os.O_RDONLY)
    os.chdir(os.path.dirname(longest))
    os.makedirs("beyond/" * 3 + "y" * 250, exist_ok=True)
    with open("beyond/" * 3 + "y" * 250 + "/file", "ab") as file:
        file.write(b"%d\n" % number)
    os.fchdir(here)
    os.close(here)
    os.rename("in", f"in{number % 4}.old") if not os.path.exists(f"in{number % 4}.old") else None
