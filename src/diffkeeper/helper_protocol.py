"""What the recorder and the privileged helper say to each other: JSON messages on a SOCK_SEQPACKET pair.

    recorder → helper                              helper → recorder
    start     roots, then excluded directories     hello     the helper runs and has its privileges
              as descriptors; ring and trace id    started   facts of the capture
    segments  numbers, with descriptors            progress  see Progress; unasked, after segments were filled
    adopt     pid of the held command              adopted
    let_go    for how many ns nobody is held
    stop                                           stopped   see Progress; everything is in the segments
    hold      a holder's socket and its image       (no answer; a holder that cannot be had closes its socket)
              file, as descriptors
    enough    no more segments will come           failed    error class and message, instead of any answer

Descriptors travel with the message that names them, in its order. A closed socket ends the helper.
"""

from __future__ import annotations

import array
import json
import os
import socket
import stat
import sys

from diffkeeper.errors import RecordError
from diffkeeper.native import Progress

TYPE_CHECKING = False  # as in native.py
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

MAX_DESCRIPTORS = 64
MAX_MESSAGE_BYTES = 131_072
O_PATH = getattr(os, "O_PATH", 0)
_FS_IOC_GETVERSION = 0x80087601  # linux/fs.h; the kernel writes an int whatever the size in the number says
_INT_BYTES = array.array("i").itemsize

Message: TypeAlias = "dict[str, Any]"


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message; raises OSError when the other side is gone."""
    assert len(descriptors) <= MAX_DESCRIPTORS, "the receiver makes room for no more"
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([json.dumps(message, separators=(",", ":")).encode()], ancillary, socket.MSG_NOSIGNAL)


def _receive(connection: socket.socket) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
    """Receive one datagram.

    A peer that closed without having read all that was sent to it resets the connection. The kernel reports that once,
    before it hands out what the peer had still said: then the call is made again.
    """
    room = socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT_BYTES)
    try:
        return connection.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return connection.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)


def receive(connection: socket.socket) -> tuple[Message, list[int]] | None:
    """Return the next message and its descriptors (close-on-exec), or None when the other side is gone."""
    try:
        data, ancillary, flags, _ = _receive(connection)
    except ConnectionResetError:
        return None
    descriptors = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(rights[: len(rights) // _INT_BYTES * _INT_BYTES])
    if not data:
        return None
    assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC), "no message is longer than the receiver's room"
    message = json.loads(data)
    assert isinstance(message, dict), "every message is an object"
    return message, descriptors.tolist()


def progress_message(op: str, progress: Progress) -> Message:
    """Return the message that carries a Progress."""
    return {
        "op": op,
        "batches": progress.batches,
        "bytes": progress.bytes,
        "free_segments": progress.free_segments,
        "filled": list(progress.filled),
        "lost": progress.lost,
        "disturbed": progress.disturbed,
    }


def progress_of(message: Message) -> Progress:
    """Return the Progress that a message carries."""
    return Progress(
        message["batches"],
        message["bytes"],
        message["free_segments"],
        tuple(message["filled"]),
        message["lost"],
        message["disturbed"],
    )


def directory_identity(descriptor: int) -> tuple[int, int, int]:
    """Return (s_dev, inode, generation) of a directory; raise RecordError unless it was opened for reading.

    O_PATH descriptors need no right to read the directory, so they prove nothing.
    """
    import fcntl  # which Windows has not

    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & O_PATH:
        raise RecordError("a watch root must be opened for reading")
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode):
        raise RecordError("a watch root must be a directory")
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    return device, status.st_ino, _generation(descriptor)


def _generation(descriptor: int) -> int:
    """Return the inode's generation, 0 where the file system has none."""
    import fcntl  # which Windows has not

    try:
        answer = fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, b"\0" * 8)
    except OSError:
        return 0
    return int.from_bytes(answer[:4], sys.byteorder)
