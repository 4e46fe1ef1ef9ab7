from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffkeeper import helper_protocol as protocol
from diffkeeper.engines.protocol import RING_BYTES
from diffkeeper.errors import RecordError
from diffkeeper.helper_service import check_command, check_ring, check_segment
from diffkeeper.helper_start import helper_command
from diffkeeper.native import Progress


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_message_arrives_with_its_descriptors_close_on_exec(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("text")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    protocol.send(pair[0], {"op": "start", "numbers": [1]}, [descriptor])
    received = protocol.receive(pair[1])
    assert received is not None
    message, (twin,) = received
    assert message == {"op": "start", "numbers": [1]}
    assert os.pread(twin, 9, 0) == b"text"
    assert not os.get_inheritable(twin)
    os.close(descriptor)
    os.close(twin)


def test_a_closed_socket_is_no_message(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    assert protocol.receive(pair[1]) is None


def test_progress_survives_the_socket() -> None:
    progress = Progress(3, 4096, 2, (7, 8), {"ring": 1})
    message = protocol.progress_message("progress", progress)
    assert protocol.progress_of(message) == progress


def test_a_root_must_have_been_opened_for_reading(tmp_path: Path) -> None:
    path_only = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(RecordError, match="opened for reading"):
        protocol.directory_identity(path_only)
    os.close(path_only)


def test_a_root_must_be_a_directory(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(RecordError, match="must be a directory"):
        protocol.directory_identity(file.fileno())


def test_a_root_is_identified_by_its_inode(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    device, inode, _ = protocol.directory_identity(descriptor)
    status = tmp_path.stat()
    assert (device, inode) == (os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino)
    os.close(descriptor)


def test_a_segment_must_be_open_for_writing(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(b"")
    with path.open("rb") as file, pytest.raises(RecordError, match="opened for writing"):
        check_segment(file.fileno(), os.geteuid())
    with path.open("r+b") as file:
        check_segment(file.fileno(), os.geteuid())


def test_a_segment_must_belong_to_the_user(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    with path.open("wb") as file, pytest.raises(RecordError, match="of the user's"):
        check_segment(file.fileno(), os.geteuid() + 1)


def test_a_pipe_is_no_segment() -> None:
    reading, writing = os.pipe()
    with pytest.raises(RecordError, match="regular file"):
        check_segment(writing, os.geteuid())
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("size_bytes", [0, -4096, 1 << 28])
def test_a_user_gets_no_ring_of_any_size(size_bytes: int) -> None:
    assert check_ring(RING_BYTES) == RING_BYTES
    with pytest.raises(RecordError, match="are the most"):
        check_ring(size_bytes)


def test_only_a_child_of_the_recorder_may_be_recorded() -> None:
    child = subprocess.Popen(["sleep", "9"])
    try:
        check_command(child.pid, os.getpid(), os.getuid())
        with pytest.raises(RecordError, match="not the recorder's"):
            check_command(child.pid, 1, os.getuid())
        with pytest.raises(RecordError, match="not the recorder's"):
            check_command(child.pid, os.getpid(), os.getuid() + 1)
    finally:
        child.kill()
        child.wait()


def test_the_helper_ends_with_its_socket(pair: tuple[socket.socket, socket.socket]) -> None:
    process = subprocess.Popen(helper_command(is_direct=True), stdin=pair[1].fileno())
    pair[1].close()
    received = protocol.receive(pair[0])
    assert received is not None
    assert received[0] == {"op": "hello", "pid": process.pid}
    pair[0].close()
    assert process.wait(timeout=5) == 0


@pytest.mark.parametrize("message", [{"op": "nonsense"}, {"op": "adopt", "pid": 1}, {"op": "stop"}])
def test_the_helper_says_why_it_fails(pair: tuple[socket.socket, socket.socket], message: protocol.Message) -> None:
    process = subprocess.Popen(helper_command(is_direct=True), stdin=pair[1].fileno())
    pair[1].close()
    protocol.receive(pair[0])
    protocol.send(pair[0], message)
    received = protocol.receive(pair[0])
    assert received is not None
    assert received[0]["op"] == "failed"
    assert received[0]["error"] == "RecordError"
    assert process.wait(timeout=5) == 1


def test_the_helper_outlives_the_signals_of_a_terminal(pair: tuple[socket.socket, socket.socket]) -> None:
    process = subprocess.Popen(helper_command(is_direct=True), stdin=pair[1].fileno())
    pair[1].close()
    protocol.receive(pair[0])
    for number in (1, 2, 3, 15):
        process.send_signal(number)
    protocol.send(pair[0], {"op": "nonsense"})
    assert protocol.receive(pair[0]) is not None
    process.wait(timeout=5)


def test_the_last_words_of_a_peer_that_left_things_unread_are_heard() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        protocol.send(ours, {"op": "segments", "numbers": []})
        protocol.send(theirs, {"op": "stopped"})
        theirs.close()
        received = protocol.receive(ours)
        assert received is not None
        assert received[0] == {"op": "stopped"}
        assert protocol.receive(ours) is None
