"""A tree → a directory or a tar: what is asked for of it, and a report of what could not be done.

A trace may come from a stranger. Nothing is written outside of the place that the user named, whatever names and
symlinks the tree holds: ``export_folder`` goes from descriptor to descriptor and never follows a link.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

from diffkeeper.errors import DamagedTraceError, DiffkeeperError, UnknownContentError
from diffkeeper.export_folder import Folder
from diffkeeper.export_tar import Tar
from diffkeeper.export_target import SkippedError, Target, check_name
from diffkeeper.model.answers import Entry, Exactness
from diffkeeper.model.exported import ExportReport, Remark
from diffkeeper.model.globs import PathFilter, UnmatchedPatterns

Chunks = Iterator[tuple[int, bytes]]

# After these every further entry would fail as well.
_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class Source(Protocol):
    """Give the tree; ``model.answers.TreeSource`` is one."""

    def entries(self) -> Iterator[Entry]:
        """Yield entries, parents before children."""

    def chunks(self, entry: Entry, *, allow_unknown: bool = False) -> Chunks:
        """Yield (offset, bytes) of a file, ascending, holes left out."""


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

    Raises UsageError, before anything is written, if ``out`` is not empty and not ``force``. If no entry matches
    ``paths`` nothing is written at all. What cannot be rebuilt is left out and stands in the report.
    """
    wanted = paths if isinstance(paths, PathFilter) else PathFilter.of(paths)
    target = _target(os.fspath(out), force=force, stdout=stdout)
    report = ExportReport(os.fspath(out))
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
    return Tar(out, None, force=force) if out.endswith(".tar") else Folder(out, force=force)


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
