"""A tree → a directory or a tar: what is asked for of it, and a report of what could not be done.

A trace may come from a stranger. Nothing is written outside of the place that the user named, whatever names and
symlinks the tree holds: ``export_folder`` goes from descriptor to descriptor and never follows a link.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

from diffkeeper import beneath
from diffkeeper.errors import DamagedTraceError, DiffkeeperError, UnknownContentError
from diffkeeper.export_tar import Tar
from diffkeeper.export_target import SkippedError, Target, check_name
from diffkeeper.model.answers import Entry, Exactness
from diffkeeper.model.exported import ExportReport, Remark
from diffkeeper.model.globs import PathFilter, UnmatchedPatterns

Chunks = Iterator[tuple[int, bytes]]

# After these every further entry would fail as well.
_HOPELESS = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EROFS, errno.EIO})

_NO_FILE_BYTES = 1 << 63  # what says that it is larger is left out in its turn


class Source(Protocol):
    """Give the tree; ``model.answers.TreeSource`` is one."""

    def entries(self) -> Iterator[Entry]:
        """Yield entries, parents before children."""

    def chunks(self, entry: Entry, *, allow_unknown: bool = False) -> Chunks:
        """Yield (offset, bytes) of a file, ascending, holes left out."""

    def data_bytes(self, entry: Entry) -> int:
        """Return how many bytes ``chunks`` yields at most."""


def export_tree(
    tree: Source,
    out: str | os.PathLike[str],
    paths: PathFilter | str | Iterable[str] = (),
    *,
    force: bool = False,
    stdout: BinaryIO | None = None,
    top: Entry | None = None,
) -> ExportReport:
    """Rebuild a tree at ``out``: a directory, ``….tar``, or ``-`` for a tar on standard output.

    ``top`` is the only watch root itself: if the whole tree is wanted, a directory that was new or empty gets its
    attributes.

    Raises, before anything is written, UsageError if ``out`` is not empty and not ``force``, and DiffkeeperError if
    there is not room enough for it. If no entry matches ``paths`` nothing is written at all. What cannot be rebuilt is
    left out and stands in the report.
    """
    wanted = paths if isinstance(paths, PathFilter) else PathFilter.of(paths)
    target = _target(os.fspath(out), force=force, stdout=stdout)
    report = ExportReport(os.fspath(out))
    if target.place is not None:
        _check_room(tree, wanted, target.place, keeps_holes=target.keeps_holes)
    unmatched = wanted.watcher()
    entries = _wanted(tree, wanted, target, unmatched)
    first = next(entries, None)
    if first is not None or wanted.is_everything:
        with target:
            if top is not None and wanted.is_everything:
                target.know_top(top)
            for entry in itertools.chain([] if first is None else [first], entries):
                _put(tree, entry, target, report)
            report.skipped += target.finish()
    report.unmatched = tuple(unmatched.left)
    report.owners_left = target.owners_left
    return report


def _target(out: str, *, force: bool, stdout: BinaryIO | None) -> Target:
    if out == "-":
        return Tar(None, stdout or sys.stdout.buffer)
    if out.endswith(".tar"):
        return Tar(out, None, force=force)
    if beneath.HAS_DESCRIPTORS:
        from diffkeeper.export_folder import Folder  # which Windows cannot import

        return Folder(out, force=force)
    from diffkeeper.export_paths import PathFolder

    return PathFolder(out, force=force)


def _check_room(tree: Source, wanted: PathFilter, place: str, *, keeps_holes: bool) -> None:
    """Refuse what the disk cannot hold, before it is full: a small trace may hold one block a million times."""
    files = {
        entry.links: entry
        for entry in tree.entries()
        if entry.kind == "f" and entry.size < _NO_FILE_BYTES and wanted.matches(entry.path)
    }
    needed = sum(tree.data_bytes(entry) if keeps_holes else entry.size for entry in files.values())
    free = _free_bytes(place)
    if needed > free:
        raise DiffkeeperError(
            f"the export would take {needed:,} bytes, and {free:,} are free at {place!r}: name another place with "
            "--out, or what of it you want with --path"
        )


def _free_bytes(place: str) -> int:
    """Return the bytes that are free where a file of that name would be made."""
    where = os.path.abspath(place)
    while not os.path.exists(where):
        where = os.path.dirname(where)
    return shutil.disk_usage(where).free


def _wanted(tree: Source, wanted: PathFilter, target: Target, unmatched: UnmatchedPatterns) -> Iterator[Entry]:
    for entry in tree.entries():
        unmatched.see(entry.path)
        if entry.kind == "d":
            target.know_directory(entry)
        if wanted.matches(entry.path):
            yield entry


def _put(tree: Source, entry: Entry, target: Target, report: ExportReport) -> None:
    try:
        check_name(entry.path)
        is_new = target.put(entry, _content(tree, entry))
    except (SkippedError, DamagedTraceError, UnknownContentError) as reason:
        report.skipped.append(Remark(entry.path, str(reason)))
        report.unknown += isinstance(reason, UnknownContentError)
    except BrokenPipeError:
        raise  # the reader of a stream has seen enough
    except OSError as error:
        if error.errno in _HOPELESS:
            raise DiffkeeperError(f"export stopped: {error.strerror} at {report.out}") from error
        report.skipped.append(Remark(entry.path, error.strerror or str(error)))
    except (ValueError, OverflowError) as error:  # a size, time or owner that no file can have
        report.skipped.append(Remark(entry.path, str(error)))
    else:
        report.entries += 1
        report.bytes += entry.size if is_new and entry.kind == "f" else 0
        if entry.content is not Exactness.EXACT:
            report.inexact.append(Remark(entry.path, entry.reason or entry.content.value))


def _content(tree: Source, entry: Entry) -> Chunks:
    if entry.kind != "f":
        return iter(())
    chunks = tree.chunks(entry, allow_unknown=True)
    if entry.content is not Exactness.UNKNOWN or not entry.size:
        return chunks
    first = next(chunks, None)
    if first is None:
        raise UnknownContentError(entry.reason or "its content is not in the trace")
    return itertools.chain([first], chunks)
