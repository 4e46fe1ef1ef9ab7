"""Whether a trace is complete and, in words, what keeps it from being so: the one verdict, whoever gives it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from diffkeeper.model.values import dataclass

_LOSSES = {
    "unresolved": "events could not be placed in the tree",
    "mounts": "mounts appeared below a watch root, and what is in them is not recorded",
    "unknown_files": "changes were to files that the trace does not know",
}
_DOUBTS = {
    "ambiguous": "events are not certain as to file or offset",
    "inexact": "writes were read later than they were made",
    "unknown": "events have bytes that nobody read",
    "unlooked": "entries could not be looked at",
    "unexplained": "changes that no recorded call explains were read again",
    "unexplained_unread": "changes that no recorded call explains could not be read again",
    "late": "events were recorded out of order",
    "identity_conflicts": "files took the identity of others",
    "mapped_missed": "files that were mapped could not be looked at",
    "baseline_unread": "files could not be read for the baseline",
    "no_before_image": "files were changed, and their bytes from before were not kept",
}


_LOOKED = {**_DOUBTS, "inexact": "changes were seen by looking at the files: what was between two looks is not known"}
"""The same of a recording that was made by looking at the files."""

_ONLY_LOOKED = {"looks": "looks at all files found no change: what was between two of them is not known"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what keeps a trace from being complete; each reason is a sentence without an end, and counts.

    ``losses`` happened and are not in the trace; ``gaps`` are those of them that stand on the timeline, and touch only
    what a tree says of itself; ``doubts`` are in the trace and may not be exact; ``end`` says that it has none.
    """

    losses: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    end: str = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return all that keeps the trace from being complete."""
        return (*filter(None, [self.end]), *self.losses, *self.doubts)

    @property
    def is_complete(self) -> bool:
        """Say whether every change is in the trace, and as it was."""
        return not self.reasons


def judge(
    counters: Mapping[str, int],
    failures: Iterable[object] = (),
    *,
    is_broken: bool = False,
    said: bool | None = None,
    ended: str = "",
) -> Verdict:
    """Judge a trace by what was counted and by what failed while it was recorded.

    ``is_broken`` says that the recorder was killed, ``said`` what it wrote down itself, if anything; ``ended`` why
    nothing was recorded any more before the command's end.
    """
    gaps = tuple(_lost(counters))
    losses = [*gaps, *_counted(counters, _LOSSES), *dict.fromkeys(map(str, failures))]
    doubts = list(_counted(counters, _LOOKED if counters.get("looks") else _DOUBTS))
    doubts += [] if counters.get("inexact") else _counted(counters, _ONLY_LOOKED)
    end = "the recording broke off: what was not journaled by then is missing" if is_broken else ended
    if said is False and not losses and not doubts and not end:
        losses.append("the recorder could not observe everything")
    return Verdict(tuple(losses), gaps, tuple(doubts), end)


def _lost(counters: Mapping[str, int]) -> Iterator[str]:
    for name, count in counters.items():
        if count and name.startswith("lost_"):
            yield f"{count:,} changes were lost ({name.removeprefix('lost_')})"


def _counted(counters: Mapping[str, int], words: Mapping[str, str]) -> Iterator[str]:
    for name, what in words.items():
        if counters.get(name):
            yield f"{counters[name]:,} {what}"
