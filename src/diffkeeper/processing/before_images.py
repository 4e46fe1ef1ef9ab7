"""Put before-images into the store: each keeps the promise that was made for its file's bytes when it was indexed."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable

from diffkeeper.model.promised import promised_blob
from diffkeeper.store import deltas
from diffkeeper.store.content import ContentWriter
from diffkeeper.store.images import Image, ImageState, images


def load_images(
    trace: str | os.PathLike[str],
    trace_id: int,
    content: ContentWriter,
    is_needed: Callable[[int], bool] = lambda blob: True,
) -> Counter[str]:
    """Store what the holders copied, as far as it is needed; return counts of what they did, by name."""
    counts: Counter[str] = Counter()
    for image in images(trace, trace_id):
        if image.is_whole and not is_needed(promised_blob(image.index)):
            continue
        if image.is_whole and _store(image, content):
            counts["before_images"] += 1
            counts["before_image_bytes"] += image.size
        else:
            counts[f"no_image_{_word(image.state)}"] += 1
    return counts


def _word(state: int) -> str:
    """Return why there is no image, as a part of a counter's name."""
    try:
        kind = ImageState(state)
    except ValueError:
        return "damaged"
    return "damaged" if kind in (ImageState.SEALED, ImageState.CLONED) else kind.name.lower()


def _store(image: Image, content: ContentWriter) -> bool:
    blob = promised_blob(image.index)
    if content.has(blob) or not image.size:
        return True
    chunks: list[tuple[bytes, int]] = []
    crc = length = 0
    for data in image.chunks():
        digest = hashlib.sha256(data).digest()
        if not content.has_chunk(digest):
            content.put_chunk(digest, deltas.encode(data))
        chunks.append((digest, len(data)))
        length += len(data)
        crc = zlib.crc32(data, crc) if image.crc is not None else 0
    if length != image.size or (image.crc is not None and crc != image.crc):
        return False
    content.new_blob_of_chunks(chunks, blob)
    return True
