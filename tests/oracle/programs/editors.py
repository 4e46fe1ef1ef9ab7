"""Save a file as editors do: ROUNDS."""

import os
import shutil
import sys
import tempfile


def save_beside(path: str, text: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=".")
    os.write(handle, text)
    os.fchmod(handle, 0o644)
    os.fsync(handle)
    os.close(handle)
    os.replace(name, path)


def save_with_backup(path: str, text: bytes) -> None:
    if os.path.exists(path):
        os.rename(path, path + "~")
    with open(path, "wb") as file:
        file.write(text)
    if os.path.exists(path + "~"):
        shutil.copystat(path + "~", path)


def save_in_place(path: str, text: bytes) -> None:
    if os.path.exists(path):
        if os.path.exists(path + ".bak"):
            os.unlink(path + ".bak")
        shutil.copy2(path, path + ".bak")
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.write(text)
        file.truncate()


def save_by_link(path: str, text: bytes) -> None:
    with open(path + ".new", "wb") as file:
        file.write(text)
    if os.path.exists(path):
        os.link(path, path + ".old")
        os.unlink(path)
    os.link(path + ".new", path)
    os.unlink(path + ".new")
    if os.path.exists(path + ".old"):
        os.unlink(path + ".old")


for number in range(int(sys.argv[1])):
    text = b"".join(b"line %d of %d\n" % (line, number) for line in range(number % 97 * 5))
    for save in (save_beside, save_with_backup, save_in_place, save_by_link):
        save(save.__name__, text)
