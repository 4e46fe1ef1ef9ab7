"""RocksDB as an ordered map of bytes to bytes; the only file that knows rocksdict.

Always raw mode: rocksdict's default mode unpickles what it reads, and a trace from a stranger must not run code.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import rocksdict

from diffkeeper.errors import DamagedTraceError, NoSuchTraceError, TraceError

WRITE_BUFFER_BYTES = 32 << 20
BLOCK_CACHE_MIB = 16
# With up to this many sorted files nothing is compacted: most traces are written once and never rewritten.
COMPACTION_TRIGGER = 32

# Of a store whose oldest values go away all the time: values lie in files of their own, by age, so that what is freed
# is mostly whole files, and only what is left of the oldest quarter of them is copied (docs/decisions/0025).
BLOB_FILE_BYTES = 8 << 20
_LEAST_IN_A_BLOB_FILE = 512
_COPIED_SHARE = 0.25

_LINKED = re.compile(r"[0-9]{1,20}\.(?:sst|blob)")
_COPIED = re.compile(r"CURRENT|(MANIFEST|OPTIONS)-[0-9]{1,20}")
_MAX_COPIED_BYTES = 256 << 20
_GALLOP_BYTES = 16  # keys of the store have at most this many bytes of numbers after their prefix


def _options(is_bounded: bool = False) -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    # The only setting of rocksdict 0.3 that yields a working bloom filter: with BlockBasedOptions.set_bloom_filter
    # filters are written and never consulted, and to miss a key among 100 values of 1 MiB takes 700 us instead of 1.
    options.optimize_for_point_lookup(BLOCK_CACHE_MIB)
    options.set_compression_type(rocksdict.DBCompressionType.none())  # values are zstd already
    options.set_compaction_style(rocksdict.DBCompactionStyle.universal())
    options.set_level_zero_file_num_compaction_trigger(COMPACTION_TRIGGER)
    options.set_level_zero_slowdown_writes_trigger(4 * COMPACTION_TRIGGER)
    options.set_level_zero_stop_writes_trigger(8 * COMPACTION_TRIGGER)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_background_jobs(2)
    options.set_max_file_opening_threads(1)  # else 16 are started each time a store is opened
    options.set_keep_log_file_num(1)
    options.set_manifest_preallocation_size(1 << 16)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    if is_bounded:
        _keep_by_age(options)
    return options


def _keep_by_age(options: rocksdict.Options) -> None:
    options.set_write_buffer_size(BLOB_FILE_BYTES)  # what is in memory is not seen when the size is looked at
    options.set_enable_blob_files(True)
    options.set_min_blob_size(_LEAST_IN_A_BLOB_FILE)
    options.set_blob_file_size(BLOB_FILE_BYTES)
    options.set_blob_compression_type(rocksdict.DBCompressionType.none())
    options.set_enable_blob_gc(True)
    options.set_blob_gc_age_cutoff(_COPIED_SHARE)


def _write_options() -> rocksdict.WriteOptions:
    options = rocksdict.WriteOptions()
    options.disable_wal = True  # type: ignore[method-assign,assignment,unused-ignore]  # its stub calls it a method
    return options


class RocksStore:
    """Map bytes to bytes on disk, in the order of the keys.

    What is put is safe after flush(), and always in order: after a kill the store holds a prefix of what was put. Never
    fork a process that has a store open for writing (RocksDB's threads do not survive it): start others by exec.
    ``damage`` says in words what was found to be unreadable, ``is_new`` that there was no store before this one.
    """

    def __init__(self, database: rocksdict.Rdict, links: str | None = None, is_new: bool = False) -> None:
        self.damage: list[str] = []
        self.is_new = is_new
        self._database = database
        self._write_options = _write_options()
        self._cleanup = weakref.finalize(self, shutil.rmtree, links, ignore_errors=True) if links else None

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, is_bounded: bool = False) -> RocksStore:
        """Open the store at ``path`` for writing, making it where there is none.

        In one that ``is_bounded`` much will be removed again.
        """
        options = _options(is_bounded)
        options.create_if_missing(True)
        os.makedirs(path, mode=0o700, exist_ok=True)
        is_new = not os.path.exists(os.path.join(path, "CURRENT"))
        with _failures_as(TraceError, "cannot open the store for writing"):
            return cls(rocksdict.Rdict(os.fspath(path), options), is_new=is_new)

    @classmethod
    def open_readonly(cls, path: str | os.PathLike[str]) -> RocksStore:
        """Open the store at ``path`` without changing a byte, or an inode, of it.

        RocksDB writes logs and options even where it only reads, so what is opened is a temporary directory of links.
        """
        if not os.path.isdir(path):
            raise NoSuchTraceError(f"There is no store at {os.fspath(path)}.")
        import tempfile  # which a recording does not need

        with _failures_as(TraceError, "cannot open the store"):
            links = tempfile.mkdtemp(prefix="diffkeeper-")
        try:
            with _failures_as(TraceError, "cannot open the store"):
                _link_files(Path(path), Path(links))
            database, damage = _open_links(links)
        except BaseException:
            shutil.rmtree(links, ignore_errors=True)
            raise
        store = cls(database, links)
        store.damage += damage
        return store

    def get(self, key: bytes) -> bytes | None:
        """Return the value of ``key``, None where there is none; raise DamagedTraceError where it cannot be read."""
        try:
            value: bytes | None = self._database.get(key)
        except Exception as error:  # as _failures_as does, without its cost: this is called for every chunk
            raise DamagedTraceError(f"Cannot read {_name(key)}: {_one_line(error)}") from error
        return value

    def contains(self, key: bytes) -> bool:
        """Say whether ``key`` has a value."""
        with _failures_as(DamagedTraceError, f"cannot read {_name(key)}"):
            return key in self._database

    def put_many(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Put all ``items``, or after a kill none of them."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in items:
            batch[key] = value
        self._write(batch)

    def delete_many(self, keys: Iterable[bytes]) -> None:
        """Remove all ``keys``, those that have no value too."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key in keys:
            del batch[key]
        self._write(batch)

    def replace_many(self, keys: Iterable[bytes], items: Iterable[tuple[bytes, bytes]]) -> None:
        """Remove all ``keys``, then put all ``items``; or after a kill neither."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key in keys:
            del batch[key]
        for key, value in items:
            batch[key] = value
        self._write(batch)

    def _write(self, batch: rocksdict.WriteBatch) -> None:
        with _failures_as(TraceError, "cannot write to the store"):
            self._database.write(batch, self._write_options)

    def last(self, prefix: bytes, at_most: bytes | None = None) -> tuple[bytes, bytes] | None:
        """Return the last item whose key starts with ``prefix`` and is not above ``at_most``."""
        cursor = self._database.iter()
        with _failures_as(DamagedTraceError, f"cannot search {_name(prefix)}"):
            cursor.seek_for_prev(prefix + b"\xff" * (_GALLOP_BYTES + 32) if at_most is None else at_most)
            if not cursor.valid():
                cursor.status()
                return None
            key: bytes = cursor.key()
            return (key, cursor.value()) if key.startswith(prefix) else None

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yield the items whose key starts with ``prefix``, in order, from key ``start`` on.

        Items that cannot be read are passed over and told of in ``damage``.
        """
        reached = start or prefix
        first = self._database.iter()
        first.seek(reached)
        cursor: rocksdict.RdictIter | None = first
        while cursor is not None:
            while cursor.valid():
                key = cursor.key()
                if not key.startswith(prefix):
                    return
                reached = key
                yield key, cursor.value()
                cursor.next()
            failure = _failure(cursor)
            if failure is None:
                return
            self._note(f"cannot read all of {_name(prefix)}: {failure}")
            cursor = self._past_damage(prefix, reached)

    def _note(self, words: str) -> None:
        if words not in self.damage:
            self.damage.append(words)

    def _past_damage(self, prefix: bytes, reached: bytes) -> rocksdict.RdictIter | None:
        """Return a cursor at the first readable key after ``reached``: gallop over the damage, then find its end.

        A damaged block ends a RocksDB cursor for good and does not say where the next block begins.
        """
        base = int.from_bytes(reached[len(prefix) :][:_GALLOP_BYTES].ljust(_GALLOP_BYTES, b"\0"), "big")
        bad, step = base, 1
        found = None
        while found is None and base + step < 1 << 8 * _GALLOP_BYTES:
            found = self._readable_from(prefix, base + step)
            bad, step = (bad, step) if found else (base + step, step * 2)
        good = base + step
        while found is not None and good - bad > 1:
            middle = (good + bad) // 2
            closer = self._readable_from(prefix, middle)
            good, bad, found = (middle, bad, closer) if closer else (good, middle, found)
        return found

    def _readable_from(self, prefix: bytes, number: int) -> rocksdict.RdictIter | None:
        """Return a cursor at the first key of ``prefix`` from ``number`` on, None where what is there is damaged.

        Each time a new one: a cursor that has met damage does not always meet it again.
        """
        cursor = self._database.iter()
        cursor.seek(prefix + number.to_bytes(_GALLOP_BYTES, "big"))
        return cursor if cursor.valid() or _failure(cursor) is None else None

    def flush(self) -> None:
        """Write all that was put to disk and wait for it."""
        with _failures_as(TraceError, "cannot write to the store"):
            self._database.flush(True)

    def compact(self) -> None:
        """Give back the room of what was removed."""
        with _failures_as(TraceError, "cannot write to the store"):
            self._database.compact_range(None, None)

    def close(self) -> None:
        """Close the store; a second call does nothing.

        What is to stay was flushed: a flush that failed has said so, and closing says it again.
        """
        with contextlib.suppress(Exception):  # rocksdict raises nothing more particular
            self._database.close()
        if self._cleanup is not None:
            self._cleanup()


def remove_logs(path: str | os.PathLike[str]) -> None:
    """Remove RocksDB's own log of what it did from the closed store at ``path``."""
    for log in Path(path).glob("LOG*"):
        log.unlink(missing_ok=True)


def _link_files(store: Path, links: Path) -> None:
    """Fill ``links`` with links to the tables of ``store`` and copies of what RocksDB opens for writing.

    Symbolic links: a hard link would change the trace's inode (ctime, link count), and other users may not make one.
    """
    for entry in os.scandir(store):
        if not entry.is_file(follow_symlinks=False):
            continue  # a link in a trace from a stranger may lead anywhere
        if _LINKED.fullmatch(entry.name):
            _link(Path(entry.path).absolute(), links / entry.name)
        elif _COPIED.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_size <= _MAX_COPIED_BYTES:
            with contextlib.suppress(OSError):  # the store is then opened as a damaged one
                shutil.copyfile(entry.path, links / entry.name)


def _link(table: Path, link: Path) -> None:
    try:
        link.symlink_to(table)
    except OSError:
        shutil.copyfile(table, link)


def _open_links(links: str) -> tuple[rocksdict.Rdict, list[str]]:
    """Open the directory of links; where that fails, rebuild in it what its tables still hold."""
    read_only = rocksdict.AccessType.read_only(False)
    try:
        return rocksdict.Rdict(links, _options(), access_type=read_only), []
    except Exception as error:
        damage = [f"the store is damaged: {_one_line(error, links)}"]
    tables = {name for name in os.listdir(links) if name.endswith(".sst")}
    with _failures_as(DamagedTraceError, "the store is damaged beyond repair"):
        rocksdict.Rdict.repair(links, _options())
        database = rocksdict.Rdict(links, _options(), access_type=read_only)
    damage += [f"table {name} of the store cannot be read" for name in sorted(tables - set(os.listdir(links)))]
    return database, damage


@contextlib.contextmanager
def _failures_as(kind: type[TraceError], words: str) -> Iterator[None]:
    """Turn what rocksdict raises, which is bare Exception, into ``kind``."""
    try:
        yield
    except TraceError:
        raise
    except Exception as error:
        raise kind(f"{words[:1].upper()}{words[1:]}: {_one_line(error)}") from error


def _one_line(error: Exception, directory: str = "") -> str:
    text = " ".join(str(error).split())
    return text.replace(directory + "/", "") if directory else text


def _name(key: bytes) -> str:
    """Return a key for people: its prefix as text, the rest in hexadecimal."""
    head = key[:2] if key.startswith(b"c:") else key[:3]
    return f"{head.decode('ascii', 'replace')}{key[len(head) :].hex()}"


def _failure(cursor: rocksdict.RdictIter) -> str | None:
    """Return why a cursor stopped, None where it came to the end."""
    try:
        cursor.status()
    except Exception as error:
        return _one_line(error)
    return None
