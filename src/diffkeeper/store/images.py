"""Before-images as holders write them: files journal/iNNNNNN.img, each a row of images (native/images.h).

image, little endian, at a multiple of 4,096 bytes:
u32 magic "DKI1" | u32 state | u64 trace id | u64 index | u64 size | u64 span | u64 from_ns | u64 to_ns
| u32 crc of the bytes | u32 crc of all before | zeros up to 4,096 bytes | the bytes of the file
index is the number of the baseline's entry, span the distance to the next image.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

from diffkeeper import beneath
from diffkeeper.model.values import dataclass
from diffkeeper.positional import read_at
from diffkeeper.store.format import JOURNAL_NAME

MAGIC = 0x31494B44
PAGE = 4096
CHUNK_BYTES = 1 << 20

_HEAD = struct.Struct("<IIQQQQQQII")
_NAME = re.compile(r"i[0-9]{6}\.img")


class ImageState(IntEnum):
    """Say what became of an image; only sealed and cloned ones hold what the file was."""

    BEGUN = 1
    COPIED = 2
    SEALED = 3
    CLONED = 4
    TOO_SLOW = 5
    TOO_LARGE = 6
    NO_ROOM = 7
    LET_GO = 8
    CHANGED = 9
    FAILED = 10


@dataclass(frozen=True, slots=True)
class Image:
    """Say where the bytes of a file are, and whether they may be trusted; ``crc`` is None where there is none."""

    path: Path
    offset: int
    state: int
    index: int
    size: int
    crc: int | None

    @property
    def is_whole(self) -> bool:
        """Say whether it holds the file as it was, if its checksum is right."""
        return self.state in (ImageState.SEALED, ImageState.CLONED)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in chunks of CHUNK_BYTES; fewer than ``size`` in all if the file is cut short."""
        with self.path.open("rb", buffering=0) as file:
            for at in range(0, self.size, CHUNK_BYTES):
                data = read_at(file.fileno(), min(CHUNK_BYTES, self.size - at), self.offset + at)
                yield data
                if len(data) < min(CHUNK_BYTES, self.size - at):
                    return


def create_image_file(trace: str | os.PathLike[str], number: int) -> int:
    """Make an image file and return its descriptor."""
    path = Path(trace, JOURNAL_NAME, f"i{number:06}.img")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | beneath.CLOEXEC, 0o600)


def image_files(trace: str | os.PathLike[str]) -> list[Path]:
    """Return the image files of a trace."""
    try:
        names = sorted(os.listdir(Path(trace, JOURNAL_NAME)))
    except OSError:
        return []
    return [Path(trace, JOURNAL_NAME, name) for name in names if _NAME.fullmatch(name)]


def images(trace: str | os.PathLike[str], trace_id: int) -> Iterator[Image]:
    """Yield the images of a trace; what follows a head that cannot be read is passed over."""
    for path in image_files(trace):
        try:
            with path.open("rb", buffering=0) as file:
                yield from _images_in(path, file.fileno(), trace_id)
        except OSError:
            continue


def _images_in(path: Path, fd: int, trace_id: int) -> Iterator[Image]:
    at = 0
    while len(head := read_at(fd, _HEAD.size, at)) == _HEAD.size:
        magic, state, trace, index, size, span, _, _, crc, head_crc = _HEAD.unpack(head)
        if magic != MAGIC or trace != trace_id or zlib.crc32(head[:-4]) != head_crc or span < PAGE or span % PAGE:
            return
        if size <= span - PAGE:
            yield Image(path, at + PAGE, state, index, size, crc if state == ImageState.SEALED else None)
        else:
            yield Image(path, at + PAGE, state, index, 0, None)
        at += span
