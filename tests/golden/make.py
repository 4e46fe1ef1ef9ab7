"""Make the golden trace of this release's format: ``python tests/golden/make.py``, needs unshare and root.

``vN.tar.gz`` holds two traces of one made-up run: ``sealed``, as a recording leaves it, and ``broken``, whose recorder
was killed, so that only its journal is there. ``vN/`` holds what every later release must say of them; with
``--expectations`` only that is written anew, for a release that says more than former ones did.

Once a format is released its archive is never made again: traces of it are in the hands of users. The host's name is
in the tables that RocksDB writes, therefore the traces are made where it is ``somewhere``.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]

from diffkeeper.model.observation import (  # noqa: E402  # as a script it has to say first where they are
    AttributeChanged,
    AttributeOp,
    DataOp,
    DataWritten,
    EventsLost,
    Flag,
    LateData,
    NameOp,
    SizeChanged,
    SizeOp,
)
from diffkeeper.processing import process  # noqa: E402
from diffkeeper.store.format import FORMAT_VERSION  # noqa: E402
from diffkeeper.store.journal import remove_journal  # noqa: E402
from golden.expectations import TRACES, write_expectations  # noqa: E402
from scripts import COMMAND, Script, begin_trace, seal, write_ring  # noqa: E402

PUNCH_HOLE = 3  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
FACTS = {"hostname": "somewhere", "kernel": "6.1.0", "diffkeeper": "0.1.0", "cwd": "/w", "uid": 1000}


class Run(Script):
    """Do what Script has no words for."""

    def mknod(self, path: str, mode: int) -> None:
        self.files[path] = self._new(mode)
        self._name(NameOp.MKNOD, path, "", self._touch(self._parent(path), self.files[path]))

    def rmdir(self, path: str) -> None:
        self.files.pop(path).nlink = 0
        self._name(NameOp.RMDIR, path, "", self._touch(self._parent(path)))

    def attribute(self, op: AttributeOp, path: str, name: bytes = b"", value: bytes = b"") -> None:
        inode = self.files[path].inode()
        self.observations.append(AttributeChanged(*self._common(), op, inode, name, value))

    def punch(self, path: str, offset: int, length: int) -> None:
        file = self.files[path]
        file.data[offset : offset + length] = bytes(length)
        self._touch(file)
        self.observations.append(
            SizeChanged(*self._common(), SizeOp.FALLOCATE, file.inode(), PUNCH_HOLE, offset, length)
        )

    def copy(self, path: str, path2: str) -> None:
        """Copy a whole file in the kernel to an empty one."""
        source, file = self.files[path], self.files[path2]
        file.data[:] = source.data
        self._touch(file)
        length = len(source.data)
        self.observations.append(
            DataWritten(*self._common(), DataOp.COPY_RANGE, file.inode(), 0, length, (), source.inode(), 0)
        )

    def write_unseen(self, path: str, data: bytes, *, is_read: bool) -> None:
        """Write bytes that are read back a moment later, or never."""
        file = self.files[path]
        offset = len(file.data)
        file.data += data
        self._touch(file)
        sequence, *rest = self._common()
        rest[5] = Flag.BY_REFERENCE if is_read else Flag.FAULT
        inode = file.inode()
        self.observations.append(DataWritten(sequence, *rest, DataOp.WRITE, inode, offset, len(data), ()))
        if is_read:
            common = self._common()
            times = (common[1] - 100, common[1])
            self.observations.append(LateData(*common, sequence, inode, offset, data, *times, False))

    def lose(self, count: int) -> None:
        from_ns = self.t_ns
        self.observations.append(EventsLost(*self._common(), "ring", count, from_ns))


def play(run: Run) -> None:
    """Let everything happen that the format has a way to say."""
    chance = random.Random(1)
    big = bytearray(chance.randbytes(12_000))
    run.starts(COMMAND, b"sh")
    run.at(1).save("status.log", b"INIT: System OK")
    run.output(b"working\n")
    run.save("big", bytes(big))
    run.save("program", b"\x7fELF" + chance.randbytes(8_000))
    run.chmod("program", 0o755)
    run.at(2).save("status.log", b"ERROR: Connection Lost")
    big[5_000:5_010] = b"0123456789"
    run.save("big.new", bytes(big))
    run.rename("big.new", "big")
    run.create("sparse")
    run.write("sparse", b"begin")
    run.write("sparse", b"end", 100_000)
    run.punch("sparse", 0, 4_096)
    run.truncate("sparse", 150_000)
    run.at(3).mkdir("d")
    run.mkdir("d/e")
    run.save("d/e/\udcff\udcfe not text", b"named by bytes")
    run.rename("d", "moved")
    run.link("status.log", "moved/again")
    run.symlink("points", "moved/again")
    run.mknod("pipe", stat.S_IFIFO | 0o600)
    run.mkdir("short")
    run.rmdir("short")
    run.at(4).create("copied")
    run.copy("big", "copied")
    run.close("copied")
    run.unlink("gone")
    run.attribute(AttributeOp.SETXATTR, "old", b"user.kept", b"\x00value")
    run.attribute(AttributeOp.SETXATTR, "old", b"user.gone", b"")
    run.attribute(AttributeOp.REMOVEXATTR, "old", b"user.gone")
    run.attribute(AttributeOp.CHOWN, "old")
    run.attribute(AttributeOp.UTIME, "old")
    run.at(5).create("late")
    run.write_unseen("late", b"read back. ", is_read=True)
    run.write_unseen("late", b"never read.", is_read=False)
    run.by(200, outsider=True).save("theirs", b"by someone else")
    run.by(COMMAND).lose(3)
    run.output(b"it failed\n", 2)
    run.exits(1 << 8)


def make_traces(home: Path) -> None:
    """Make both traces."""
    for name in TRACES:
        run, place = Run(), home / name
        run.put("old", b"there before")
        run.put("gone", b"soon gone")
        run.put("folder", mode=stat.S_IFDIR | 0o750)
        run.put("folder/empty")
        is_sealed = name == "sealed"
        facts = begin_trace(place, run, **FACTS, **({} if is_sealed else _KILLED))
        play(run)
        write_ring(place, run.observations, end=is_sealed)
        (place / "lock").touch()
        if is_sealed:
            process(place)
            facts.counters = {"lost_ring": 3}
            seal(place, facts)
            remove_journal(place)


_KILLED = {"end_monotonic_ns": None, "exit_code": None, "wait_status": None}


def pack(home: Path, archive: Path) -> None:
    """Pack the traces so that nothing in the archive is of this machine."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 1000
        member.uname = member.gname = "someone"
        member.mtime = 1_700_000_000
        return member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in TRACES:
            tar.add(home / name, name, filter=anonymous)
    archive.write_bytes(buffer.getvalue())


def main(arguments: list[str]) -> int:
    version = f"v{FORMAT_VERSION}"
    if "--expectations" in arguments:
        for archive in sorted(HERE.glob("v*.tar.gz")):
            write_expectations(archive)
        return 0
    if "--elsewhere" not in arguments:
        return subprocess.run(["unshare", "--uts", sys.executable, __file__, "--elsewhere"], check=False).returncode
    socket.sethostname("somewhere")
    home = Path(tempfile.mkdtemp(prefix="golden-"))
    try:
        make_traces(home)
        pack(home, HERE / f"{version}.tar.gz")
    finally:
        shutil.rmtree(home)
    write_expectations(HERE / f"{version}.tar.gz")
    os.sync()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
