"""Make fifos, sockets, device nodes, symlinks, extended attributes, modes and owners: ROUNDS."""

import contextlib
import os
import socket
import stat
import sys

for number in range(int(sys.argv[1])):
    folder = f"s{number % 9}"
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.mkfifo(f"{folder}/fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
    if os.geteuid() == 0:
        os.mknod(f"{folder}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(f"{folder}/block", stat.S_IFBLK | 0o600, os.makedev(7, 200 + number))
    os.mknod(f"{folder}/plain", stat.S_IFREG | 0o600)
    os.symlink("/nowhere/" + "x" * number, f"{folder}/dangling")
    os.symlink("plain", f"{folder}/symlink")
    with open(f"{folder}/symlink", "wb") as file:
        file.write(b"through a link %d" % number)
    with contextlib.suppress(OSError):
        os.setxattr(f"{folder}/plain", "user.note", b"\0" * number)
        os.setxattr(f"{folder}/plain", "user.gone", b"x")
        os.removexattr(f"{folder}/plain", "user.gone")
        os.setxattr(folder, "user.folder", b"%d" % number)
    os.chmod(f"{folder}/plain", (0o4755, 0o2711, 0o000, 0o1777, 0o444)[number % 5])
    if os.geteuid() == 0:
        os.chown(f"{folder}/plain", number, number + 1)  # clears set-id bits
        os.lchown(f"{folder}/dangling", 7, 8)
        os.chown(f"{folder}/fifo", 5, -1)
    os.utime(f"{folder}/plain", ns=(10**18 + number, 10**18 + 7 * number))
    os.utime(f"{folder}/dangling", ns=(number, number * 10**9 + 5), follow_symlinks=False)
    os.utime(folder, ns=(1, 2))
    os.chmod(folder, 0o700 | number % 64)
    with open(f"{folder}/plain", "r+b") as file:
        file.write(b"w")  # clears set-id bits for others than root
