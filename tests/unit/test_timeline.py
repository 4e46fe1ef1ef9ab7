"""Filters of the timeline: paths, operations, processes, ranges."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from diffkeeper.errors import UsageError
from diffkeeper.model.event import Event, Kind, Mark
from diffkeeper.model.timeline import EventFilter, PathFilter, parse_ops, parse_position


@dataclass
class Extent:
    count: int = 10
    end_ns: int = 10
    start_realtime_ns: int = 0
    exit_number: int | None = 10
    marks: dict[str, int] = field(default_factory=dict)

    def number_at(self, t_ns: int) -> int:
        return t_ns


def event(kind=Kind.WRITE, path=b"a", number=1, **more):
    return Event(number=number, t_ns=number, kind=kind, pid=more.pop("pid", 7), tid=7, process=1, path=path, **more)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("status.log", [b"status.log", b"status.log/x"], [b"d/status.log", b"status.logs", b"statusxlog"]),
        ("./status.log", [b"status.log"], [b"d/status.log"]),
        ("/status.log", [b"status.log"], [b"d/status.log"]),
        ("*.log", [b"a.log", b"d/e/a.log", b".log"], [b"a.logs", b"log"]),
        ("**/*.log", [b"a.log", b"d/e/a.log"], [b"a.txt"]),
        ("src/*.c", [b"src/a.c"], [b"src/d/a.c", b"x/src/a.c"]),
        ("src/**/*.c", [b"src/a.c", b"src/d/e/a.c"], [b"srca.c"]),
        ("dir/", [b"dir", b"dir/a", b"dir/a/b"], [b"dirs", b"x/dir/a"]),
        ("dir/**", [b"dir/a", b"dir/a/b"], [b"dir", b"dirs/a"]),
        ("cache*/", [b"cache1/x", b"d/cache2/y"], [b"ca/x"]),
        ("a?c", [b"abc", b"d/abc"], [b"a/c", b"ac"]),
        ("[ab].txt", [b"a.txt", b"b.txt"], [b"c.txt"]),
        ("[!ab].txt", [b"c.txt"], [b"a.txt", b"b.txt"]),
        ("[]-]x", [b"]x", b"-x"], [b"ax"]),
        ("a\\*", [b"a*"], [b"ab"]),
        ("[", [b"["], [b"a"]),
        (b"\xff*", [b"\xffa"], [b"a"]),
        ("a\nb", [b"a\nb"], [b"a"]),
        ("*x", [b"a\nx"], [b"a"]),
        (".", [b"a", b"a/b"], []),
        ("**", [b"a", b"a/b"], []),
    ],
)
def test_a_pattern_takes_the_paths_that_its_reader_expects(pattern, matching, other):
    paths = PathFilter.of(pattern)
    assert [path for path in matching + other if paths.matches(path)] == matching


def test_an_excluding_pattern_takes_out_of_what_the_others_take():
    paths = PathFilter.of(["*.log", "!tmp/"])
    assert paths.matches(b"a.log")
    assert not paths.matches(b"tmp/a.log")
    assert PathFilter.of("!*.pyc").matches(b"a.py")


def test_an_absolute_pattern_is_taken_below_the_watch_root():
    paths = PathFilter.of(["/home/me/app/logs/*.log"], roots=["/home/me/app", "/home/me"])
    assert paths.matches(b"logs/a.log")
    assert PathFilter.of("/home/me/app", roots=["/home/me/app"]).matches(b"any")


def test_no_pattern_takes_everything():
    assert PathFilter.of(()).matches(b"x")
    assert PathFilter.of(()).is_everything


@pytest.mark.parametrize("pattern", ["", "!", "[z-a]"])
def test_a_pattern_that_cannot_be_meant_is_refused(pattern):
    with pytest.raises(UsageError):
        PathFilter.of(pattern)


def test_the_patterns_that_matched_nothing_are_known():
    unmatched = PathFilter.of(["*.log", "nothing", "!x"]).watcher()
    unmatched.see(b"a.log")
    assert list(unmatched.left) == ["nothing"]


def test_operations_are_named_in_any_case_and_in_lists():
    assert parse_ops(["write,Rename", "MKDIR"]) == {Kind.WRITE, Kind.RENAME, Kind.MKDIR}
    assert parse_ops([Kind.GAP]) == {Kind.GAP}
    assert parse_ops(["all"]) == set(Kind)
    assert parse_ops([]) == set()


def test_an_unknown_operation_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="there is write"):
        parse_ops(["wriet"])


def test_the_life_of_processes_and_their_output_is_left_out_unless_asked_for():
    shown = EventFilter.of(Extent())
    for kind in Kind:
        is_hidden = kind in {Kind.CLOSE, Kind.FORK, Kind.EXEC, Kind.EXIT, Kind.OUTPUT, Kind.PENDING}
        assert shown.admits(event(kind)) is not is_hidden
    assert EventFilter.of(Extent(), output=True).admits(event(Kind.OUTPUT))
    assert EventFilter.of(Extent(), ops=["fork"]).admits(event(Kind.FORK))
    assert EventFilter.of(Extent(), ops=["write"], output=True).admits(event(Kind.OUTPUT))


def test_a_rename_is_found_by_either_name():
    for pattern in ("old", "new"):
        shown = EventFilter.of(Extent(), paths=PathFilter.of(pattern))
        assert shown.admits(event(Kind.RENAME, b"old", path2=b"new"))
    assert not EventFilter.of(Extent(), paths=PathFilter.of("other")).admits(event(Kind.RENAME, b"old", path2=b"new"))


def test_no_filter_but_the_range_hides_a_gap():
    shown = EventFilter.of(Extent(), paths=PathFilter.of("x"), ops=["write"], pids=[1], since=parse_position("@3"))
    assert shown.admits(event(Kind.GAP, b"", number=3, pid=0))
    assert not shown.admits(event(Kind.GAP, b"", number=2, pid=0))


def test_a_resync_of_the_path_is_shown_whatever_the_operations():
    shown = EventFilter.of(Extent(), paths=PathFilter.of("x"), ops=["write"])
    assert shown.admits(event(Kind.RESYNC, b"x"))
    assert not shown.admits(event(Kind.RESYNC, b"y"))


def test_an_unresolved_event_is_shown_whatever_the_paths():
    shown = EventFilter.of(Extent(), paths=PathFilter.of("x"))
    assert shown.admits(event(Kind.UNLINK, b"?", marks=Mark.UNRESOLVED))


def test_processes_and_ranges_narrow():
    shown = EventFilter.of(Extent(), pids=[7], since=parse_position("@2"), until=parse_position("@4"))
    assert [number for number in range(1, 7) if shown.admits(event(number=number))] == [2, 3, 4]
    assert not shown.admits(event(number=3, pid=8))


def test_a_filter_knows_whether_it_may_leave_events_out():
    assert not EventFilter.of(Extent()).is_narrow
    assert not EventFilter.of(Extent(), output=True).is_narrow
    assert EventFilter.of(Extent(), ops=["write"]).is_narrow
