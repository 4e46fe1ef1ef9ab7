"""The baseline's batches as the first state of the tree: entries become nodes, their chunks become blobs."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from diffkeeper.baseline_format import (
    KIND_CONTENT,
    KIND_ENTRIES,
    KIND_PACK,
    KIND_SUPPLY,
    NO_PARENT,
    PACK_BYTES,
    BaselineEntry,
    ContentState,
    decode_content,
    decode_entries,
    decode_pack,
    decode_supply,
)
from diffkeeper.model.event import Meta
from diffkeeper.model.extents import ExtentMap
from diffkeeper.model.node import Node
from diffkeeper.model.observation import Inode
from diffkeeper.model.promised import has_promised, is_promised, is_whole, pack_blob, promised_blob
from diffkeeper.model.tree import Tree
from diffkeeper.store.content import ContentWriter
from diffkeeper.store.format import RootFacts
from diffkeeper.store.journal import Batch

_PACKED = (ContentState.PACKED, ContentState.PACKED_CHANGED)
_MISSING = (ContentState.NOT_KEPT, ContentState.VANISHED)
CHANGED = "changed while the baseline was read"


class BaselineLoader:
    """Fill a tree and a content store from the batches of the baseline, in their order."""

    def __init__(self, tree: Tree, content: ContentWriter, roots: Sequence[RootFacts]) -> None:
        self._tree = tree
        self._content = content
        self._roots = roots
        self._numbers: dict[int, int] = {}  # entry index to node
        self.promised: dict[int, int] = {}  # node to the blob that its bytes from before the command are to come in
        self.unread = 0  # files whose bytes should have been kept and were not

    def load(self, batch: Batch) -> None:
        """Take one batch; raises DamagedTraceError where it does not follow the format."""
        if batch.kind == KIND_ENTRIES:
            for entry in decode_entries(batch.payload):
                self._add(entry)
        elif batch.kind == KIND_CONTENT:
            for digest, value in decode_content(batch.payload):
                self._content.put_chunk(digest, value)
        elif batch.kind == KIND_PACK:
            number, length, digest, value = decode_pack(batch.payload)
            self._content.put_chunk(digest, value)
            self._content.new_blob_of_chunks([(digest, length)], pack_blob(number))
        elif batch.kind == KIND_SUPPLY:
            self._supplied(*decode_supply(batch.payload))

    def _supplied(self, index: int, state: ContentState, chunks: Sequence[tuple[bytes, int]]) -> None:
        """Keep the promise that was made for an entry, as far as its bytes are certain."""
        node = self._tree.nodes.get(self._numbers.get(index, 0))
        if node is None or node.content is None or not is_whole(node.content, promised_blob(index)):
            return
        length = sum(count for _, count in chunks)
        self._content.new_blob_of_chunks(chunks, promised_blob(index))
        node.content = ExtentMap(length, [(0, length, promised_blob(index), 0)] if length else [])
        if state == ContentState.CHANGED:
            node.inexact = CHANGED
            self.unread += 1

    def finish(self) -> None:
        """Add the roots that no batch brought, so that what follows has a place."""
        for root in self._roots[len(self._tree.roots) :]:
            meta = Meta(stat.S_IFDIR | 0o755, 0, 0, 0)
            self._tree.add_root(os.fsencode(root.label), (root.dev, root.ino, root.generation), meta)

    def _add(self, entry: BaselineEntry) -> None:
        meta = meta_of(entry.inode)
        if entry.parent == NO_PARENT:
            label = self._roots[len(self._tree.roots)].label if len(self._tree.roots) < len(self._roots) else ""
            node = self._tree.add_root(os.fsencode(label), entry.inode.identity, meta, dict(entry.xattrs))
        elif (known := self._tree.identities.get(entry.inode.identity)) is not None and not known.is_directory:
            self._tree.attach(known, self._numbers.get(entry.parent, 0), entry.name)
            self._supply(known, entry)
            node = known
        else:
            node = self._tree.add(
                self._numbers.get(entry.parent, 0),
                entry.name,
                entry.inode.identity,
                meta,
                content=self._content_of(entry),
                target=entry.target,
                xattrs=dict(entry.xattrs),
            )
            if entry.content in (ContentState.CHANGED, ContentState.PACKED_CHANGED):
                node.inexact = CHANGED
            self._note_promise(node)
        self._numbers[entry.index] = node.number

    def _supply(self, node: Node, entry: BaselineEntry) -> None:
        """Give bytes to a file whose first name was excluded, and this one is not."""
        if node.content is None or not node.content.size:
            return
        is_kept = entry.content in (ContentState.KEPT, *_PACKED)
        is_better = entry.content == ContentState.PROMISED and node.content.has_unknown
        if is_better or (is_kept and _lacks_bytes(node.content)):
            node.content = self._content_of(entry)
            self._note_promise(node)

    def _note_promise(self, node: Node) -> None:
        self.promised.pop(node.number, None)
        if node.content is not None and is_promised(node.content.first_blob):
            self.promised[node.number] = node.content.first_blob

    def _content_of(self, entry: BaselineEntry) -> ExtentMap | None:
        if not stat.S_ISREG(entry.inode.mode):
            return None
        if entry.content in _PACKED:
            return self._packed(entry)
        if entry.content not in (ContentState.KEPT, ContentState.CHANGED):
            self.unread += entry.content not in (ContentState.NOT_KEPT, ContentState.PROMISED)
            size = entry.inode.size
            if entry.content in _MISSING or not size:
                return ExtentMap.unknown(size)
            return ExtentMap(size, [(0, size, promised_blob(entry.index), 0)])
        size = sum(length for _, length in entry.chunks)
        blob = self._content.new_blob_of_chunks(entry.data_chunks())
        return ExtentMap(size, [(offset, length, blob, start) for offset, length, start in entry.extents()])

    def _packed(self, entry: BaselineEntry) -> ExtentMap:
        size, position = entry.inode.size, int.from_bytes(entry.chunks[0][0], "little") if entry.chunks else 0
        number, start = divmod(position, PACK_BYTES)
        self.unread += entry.content == ContentState.PACKED_CHANGED
        if start + size > PACK_BYTES or number >= 1 << 40:
            return ExtentMap.unknown(size)
        return ExtentMap(size, [(0, size, pack_blob(number), start)] if size else [])


def _lacks_bytes(content: ExtentMap) -> bool:
    return content.has_unknown or has_promised(content)


def meta_of(inode: Inode) -> Meta:
    """Return the metadata of an inode as a node holds it."""
    return Meta(inode.mode, inode.uid, inode.gid, inode.mtime_ns, inode.nlink, inode.rdev)
