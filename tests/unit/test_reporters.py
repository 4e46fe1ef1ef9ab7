"""Reporters: the fixed prefix, what stands to its right, JSON, and that nothing of a trace reaches a terminal raw."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffkeeper.model.answers import Change, Entry, TraceInfo
from diffkeeper.model.event import Event, Kind, Mark, Meta
from diffkeeper.reporters import changes, escape, jsonl, output, terminal
from diffkeeper.reporters.describe import prefix
from diffkeeper.reporters.info import report_info, size
from diffkeeper.reporters.output import Output, wants_colour
from diffkeeper.reporters.values import Line, Page, Timeline

MS = 1_000_000
FILE = stat.S_IFREG | 0o644


def info(**more):
    values = {
        "path": "trace",
        "trace_id": 0xAB,
        "state": "sealed",
        "version": "0.1.0",
        "argv": ("pytest", "-x", "tests/"),
        "cwd": "/work",
        "user": "me",
        "hostname": "here",
        "kernel": "6.18",
        "roots": (("work", "/work"),),
        "engine": "ebpf",
        "baseline": "full",
        "excludes": (),
        "start_realtime_ns": 1_787_393_702_114_000_000,
        "duration_ns": 134_600 * MS,
        "exit_code": 1,
        "wait_status": 256,
        "timed_out": False,
        "events": 1284,
        "files": 37,
        "processes": 12,
        "bytes_written": 4_300_000,
        "journal_bytes": 0,
        "store_bytes": 812,
        "kinds": {"write": 1000},
        "counters": {},
        "is_complete": True,
    }
    return TraceInfo(**(values | more))


def line(kind, path=b"status.log", number=1, t_ns=1003 * MS, pid=4301, comm=b"worker.py", shown=b"", **more):
    event = Event(number=number, t_ns=t_ns, kind=kind, pid=pid, tid=pid, process=1, path=path, **more)
    return Line(event, comm, shown)


def text_of(report, value, **more):
    stream = io.StringIO()
    report(value, Output(stream, **more))
    return stream.getvalue()


def test_the_timeline_reads_as_promised():
    lines = [
        line(Kind.CREATE, number=3, size=0),
        line(Kind.WRITE, number=4, t_ns=1004 * MS, length=13, size=13),
        line(
            Kind.RENAME, b"db.tmp", 1280, 134_349 * MS, 4390, b"sync", path2=b"db.json", size=812, marks=Mark.OUTSIDER
        ),
        line(Kind.WRITE, number=1281, t_ns=134_350 * MS, pid=4312, length=22, size=22),
    ]
    assert text_of(terminal.report_timeline, Timeline(info(), lines, last_change=1281)) == (
        "Session Start: 2026-08-22T10:15:02.114Z   pytest -x tests/   exit 1   2m14.6s   complete\n"
        "[00m:01s] CREATE   status.log (0B)                       @3     00:01.003  worker.py[4301]\n"
        "[00m:01s] WRITE    status.log (13B)                      @4     00:01.004  worker.py[4301]\n"
        "[02m:14s] RENAME   db.tmp -> db.json (812B)              @1280  02:14.349  sync[4390] OUTSIDER\n"
        "[02m:14s] WRITE    status.log (22B)                      @1281  02:14.350  worker.py[4312]"
        "   <-- last change before exit 1\n"
    )


def test_the_classic_timeline_is_the_prefix_alone():
    lines = [line(Kind.WRITE, t_ns=134_350 * MS, length=22)]
    assert text_of(terminal.report_classic, Timeline(info(), lines)) == "[02m:14s] WRITE    status.log (22B)\n"


@pytest.mark.parametrize(
    ("described", "text"),
    [
        (line(Kind.CREATE, size=7), "CREATE   status.log (7B)"),
        (line(Kind.WRITE, length=5, size=900), "WRITE    status.log (5B)"),
        (line(Kind.COPY, length=5, size=900), "COPY     status.log (5B)"),
        (line(Kind.TRUNCATE, size=3), "TRUNCATE status.log (3B)"),
        (line(Kind.FALLOCATE, length=4096), "FALLOCATE status.log (4096B)"),
        (line(Kind.RENAME, b"a", path2=b"b", size=1), "RENAME   a -> b (1B)"),
        (line(Kind.RENAME, b"a", path2=b"b", meta=Meta(stat.S_IFDIR | 0o755, 0, 0, 0)), "RENAME   a -> b"),
        (line(Kind.EXCHANGE, b"a", path2=b"b"), "EXCHANGE a <-> b"),
        (line(Kind.LINK, b"a", path2=b"b"), "LINK     a -> b"),
        (line(Kind.SYMLINK, b"a", text=b"../t"), "SYMLINK  a -> ../t"),
        (line(Kind.UNLINK), "UNLINK   status.log"),
        (line(Kind.MKDIR, b"d"), "MKDIR    d"),
        (line(Kind.RMDIR, b"d"), "RMDIR    d"),
        (line(Kind.MKNOD, b"p", meta=Meta(stat.S_IFIFO | 0o644, 0, 0, 0)), "MKNOD    p (fifo)"),
        (line(Kind.MKNOD, b"s", meta=Meta(stat.S_IFSOCK | 0o644, 0, 0, 0)), "MKNOD    s (socket)"),
        (line(Kind.MKNOD, b"n", meta=Meta(stat.S_IFCHR, 0, 0, 0, 1, 1 << 20 | 3)), "MKNOD    n (device 1:3)"),
        (line(Kind.MKNOD, b"n"), "MKNOD    n"),
        (line(Kind.CHMOD, meta=Meta(FILE, 0, 0, 0)), "CHMOD    status.log (0644)"),
        (line(Kind.CHOWN, meta=Meta(FILE, 10, 20, 0)), "CHOWN    status.log (10:20)"),
        (line(Kind.UTIME, meta=Meta(FILE, 0, 0, 5)), "UTIME    status.log (1970-01-01T00:00:00.000000005Z)"),
        (line(Kind.SETXATTR, text=b"user.x", value=b"abc"), "SETXATTR status.log user.x (3B)"),
        (line(Kind.REMOVEXATTR, text=b"user.x"), "REMOVEXATTR status.log user.x"),
        (line(Kind.CLOSE, size=9), "CLOSE    status.log (9B)"),
        (line(Kind.OUTPUT, b"", detail=1, shown=b"\x1b[31mred\x1b[0m\n"), "OUTPUT   stdout: red"),
        (line(Kind.OUTPUT, b"", detail=2, shown=b"a\r\n\x1b]0;x\a"), "OUTPUT   stderr: a\\r\\n\\033]0;x\\a"),
        (line(Kind.FORK, b""), "FORK     pid 4301"),
        (line(Kind.EXEC, b"", text=b"/bin/sh", value=b"sh\0-c\0echo hi"), "EXEC     sh -c 'echo hi'"),
        (line(Kind.EXEC, b"", text=b"/bin/sh"), "EXEC     /bin/sh"),
        (line(Kind.EXIT, b"", detail=256), "EXIT     exit 1"),
        (line(Kind.EXIT, b"", detail=9), "EXIT     SIGKILL"),
        (line(Kind.IMPORT, size=4), "IMPORT   status.log (4B)"),
        (line(Kind.EXPORT), "EXPORT   status.log"),
        (line(Kind.GAP, b"", detail=12, text=b"ring"), "GAP      12 lost (ring)"),
        (line(Kind.RESYNC, size=4), "RESYNC   status.log (4B)"),
        (line(Kind.RESYNC, b"", node=1, meta=Meta(stat.S_IFDIR | 0o755, 0, 0, 0)), "RESYNC   ."),
        (line(Kind.IMPORT, b"", node=1, marks=Mark.UNRESOLVED), 'IMPORT   "" (0B)'),
        (line(Kind.SETFLAGS, text=b"flags", detail=0x20), "SETFLAGS status.log (flags 0x20)"),
        (line(Kind.HELD, b"", enter_ns=983 * MS), "HELD     20.0 ms"),
        (line(Kind.MOUNT, b"d", detail=1, text=b"tmpfs"), "MOUNT    d (tmpfs)"),
    ],
)
def test_every_operation_says_what_it_did(described, text):
    assert prefix(described) == f"[00m:01s] {text}"


class Columns:
    """Events as columns, as the store gives them."""

    def __init__(self, events):
        self.first = events[0].number
        self._events = events
        self.strings = sorted({text for event in events for text in (event.path, event.path2)})

    def column(self, name):
        values = [getattr(event, name) for event in self._events]
        return [self.strings.index(value) for value in values] if name in ("path", "path2") else values

    def take(self, rows):
        return [self._events[row] for row in rows]

    def metas(self, rows):
        return [self._events[row].meta for row in rows]


@pytest.mark.parametrize("report", [terminal.report_timeline, terminal.report_classic])
@pytest.mark.parametrize("is_coloured", [False, True])
def test_a_page_of_columns_reads_as_its_events_do(report, is_coloured):
    file, folder = Meta(FILE, 1, 2, 3), Meta(stat.S_IFDIR | 0o755, 1, 2, 3)
    events = [
        line(kind, path, number, number * 77 * MS, number % 3, path2=b"b", meta=meta, size=4, length=5, detail=256,
             text=b"x", value=b"y", marks=marks).event
        for number, (kind, meta, path, marks) in enumerate(
            itertools.product(Kind, (None, file, folder), (b"a", b"\x1b", b""), (0, 5, Mark.MAPPED)), 10
        )
        if meta is not folder or kind not in {Kind.CREATE, Kind.TRUNCATE, Kind.CLOSE}
    ]  # fmt: skip
    events = [dataclasses.replace(event, number=number, process=number % 2) for number, event in enumerate(events, 10)]
    comms = {0: b"zero", 1: b"o\nne"}
    rows = range(1, len(events), 2)
    lines = Timeline(info(), [Line(events[row], comms[events[row].process], b"out") for row in rows], 12)
    pages = Timeline(
        info(), (), 12, [Page(Columns(events), rows)], lambda event: Line(event, b"", b"out"), lambda key: comms[key]
    )
    assert text_of(report, pages, is_coloured=is_coloured) == text_of(report, lines, is_coloured=is_coloured)


def test_marks_are_shouted_at_the_end_of_a_line():
    marks = Mark.OUTSIDER | Mark.AMBIGUOUS | Mark.INEXACT | Mark.UNKNOWN_DATA | Mark.UNRESOLVED | Mark.LATE
    shown = text_of(terminal.report_timeline, Timeline(info(), [line(Kind.WRITE, marks=marks)]))
    assert shown.endswith("worker.py[4301] OUTSIDER AMBIGUOUS INEXACT UNKNOWN UNRESOLVED LATE\n")


def test_what_was_found_in_a_mapping_says_since_when_it_may_have_stood_there():
    stored = line(Kind.WRITE, t_ns=5000 * MS, enter_ns=4902 * MS, marks=Mark.MAPPED)
    assert text_of(terminal.report_timeline, Timeline(info(), [stored])).endswith(" MAPPED within 98ms\n")


def test_a_long_name_is_never_cropped():
    shown = text_of(terminal.report_timeline, Timeline(info(), [line(Kind.WRITE, b"d/" * 500 + b"f", length=1)]))
    assert "d/" * 500 + "f (1B)  @1 " in shown


def test_a_gap_has_no_process():
    shown = text_of(terminal.report_timeline, Timeline(info(), [line(Kind.GAP, b"", pid=0, detail=3, text=b"ring")]))
    assert shown.endswith("@1     00:01.003\n")


@pytest.mark.parametrize(
    ("more", "ending"),
    [
        ({"exit_code": 0, "wait_status": 0}, "exit 0"),
        ({"exit_code": 137, "wait_status": 9}, "SIGKILL"),
        ({"exit_code": 139, "wait_status": 11 | 128}, "SIGSEGV"),
        ({"exit_code": 205, "wait_status": 77}, "signal 77"),
        ({"exit_code": 124, "wait_status": 15, "timed_out": True}, "timeout"),
        ({"exit_code": None, "wait_status": None}, "end of the recording"),
    ],
)
def test_the_last_change_is_marked_with_how_the_command_ended(more, ending):
    shown = text_of(terminal.report_timeline, Timeline(info(**more), [line(Kind.WRITE)], last_change=1))
    assert shown.endswith(f"   <-- last change before {ending}\n")
    assert f"   {ending}   " in shown.splitlines()[0]


def test_a_header_says_what_is_missing():
    shown = text_of(terminal.report_timeline, Timeline(info(is_complete=False, defects=("12 lost", "2 late")), []))
    assert shown.endswith("2m14.6s   12 lost; 2 late\n")


def test_colours_change_nothing_but_the_colours():
    value = Timeline(info(), [line(Kind.WRITE, marks=Mark.OUTSIDER), line(Kind.GAP, b"", pid=0)], last_change=1)
    plain = text_of(terminal.report_timeline, value)
    coloured = text_of(terminal.report_timeline, value, is_coloured=True)
    assert "\x1b[" in coloured
    assert escape._COLOURS.sub(b"", coloured.encode()).decode() == plain


@pytest.mark.parametrize(
    ("choice", "environ", "is_terminal", "answer"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colours_are_decided_by_option_environment_and_terminal(choice, environ, is_terminal, answer):
    class Stream(io.StringIO):
        def isatty(self):
            return is_terminal

    assert wants_colour(choice, Stream(), environ) is answer


def test_there_is_no_pager_where_there_is_no_terminal():
    place = Output(io.StringIO())
    with output.paged(place) as paged:
        assert paged is place


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("pager", "shown"), [("head -2", "0\n1\n"), ("sed s/^/>/", ">0\n>1\n>2\n")])
def test_a_terminal_has_the_users_pager_before_it(pager, shown, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setenv("DIFFKEEPER_PAGER", pager)
    with output.paged(Output(Terminal())) as paged:
        for number in range(3):
            paged.line(str(number))
    assert capfd.readouterr().out == shown


def test_leaving_the_pager_early_is_no_error(monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setenv("DIFFKEEPER_PAGER", "head -1")
    with output.paged(Output(Terminal())) as paged:
        for number in range(200_000):
            paged.line(str(number))
    assert capfd.readouterr().out == "0\n"


@pytest.mark.parametrize("pager", ["cat", "", "no-such-pager"])
def test_without_a_pager_that_runs_the_terminal_is_written_to(pager, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setenv("DIFFKEEPER_PAGER", pager)
    place = Output(Terminal())
    with output.paged(place) as paged:
        assert paged is place


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain-name_1.txt", "plain-name_1.txt"),
        (b"with space", "with space"),
        ("grüße.txt".encode(), "grüße.txt"),
        (b"a\nb", '"a\\nb"'),
        (b"\x1b[2J", '"\\033[2J"'),
        ("\u009b31m".encode(), '"\\302\\23331m"'),
        ("\u202egpj.exe".encode(), '"\\342\\200\\256gpj.exe"'),
        (b"\xff\xfe", '"\\377\\376"'),
        (b'say "hi"', '"say \\"hi\\""'),
        (b"back\\slash", '"back\\\\slash"'),
        (b" edge", '" edge"'),
        (b"a -> b", '"a -> b"'),
        (b"", '""'),
    ],
)
def test_a_name_is_shown_as_it_is_or_quoted(raw, shown):
    assert escape.name(raw) == shown


@given(st.binary())
def test_no_name_reaches_the_terminal_raw_and_no_two_look_alike(raw):
    shown = escape.name(raw)
    assert shown.isprintable()
    unquoted = shown
    if shown.startswith('"'):
        unquoted = shown[1:-1].replace('\\"', '"')
        assert unquoted.encode().decode("unicode_escape").encode("latin-1", "ignore") is not None
    else:
        assert unquoted.encode() == raw


@given(st.binary(), st.sampled_from(list(Kind)))
def test_no_event_reaches_the_terminal_raw(raw, kind):
    described = line(kind, raw, comm=raw, shown=raw, path2=raw, text=raw, value=raw)
    shown = text_of(terminal.report_timeline, Timeline(info(argv=("x", "\x1b[2J")), [described]))
    assert shown.count("\n") == 2
    assert all(part.isprintable() for part in shown.split("\n"))
    for record in text_of(jsonl.report_timeline, Timeline(info(), [described])).splitlines():
        assert record.isascii()
        assert json.loads(record)["v"] == 1


def test_json_lines_hold_the_session_and_every_event():
    lines = [
        line(Kind.WRITE, number=4, offset=9, length=13, size=22, meta=Meta(FILE, 1, 2, 3), marks=Mark.OUTSIDER),
        line(Kind.RENAME, b"\xff", number=5, path2=b"new"),
    ]
    session, write, rename = map(json.loads, text_of(jsonl.report_timeline, Timeline(info(), lines, 4)).splitlines())
    assert (session["v"], session["type"], session["exit_code"]) == (1, "session", 1)
    assert session["time"] == "2026-08-22T10:15:02.114000000Z"
    assert session["roots"] == [{"label": "work", "path": "/work"}]
    assert write == {
        "v": 1,
        "type": "event",
        "number": 4,
        "t_ns": 1_003_000_000,
        "time": "2026-08-22T10:15:03.117000000Z",
        "op": "write",
        "path": "status.log",
        "size": 22,
        "offset": 9,
        "length": 13,
        "mode": "0644",
        "uid": 1,
        "gid": 2,
        "mtime_ns": 3,
        "nlink": 1,
        "pid": 4301,
        "tid": 4301,
        "comm": "worker.py",
        "flags": ["outsider"],
        "is_last_change": True,
    }
    assert rename["path"] == "\ufffd"
    assert base64.b64decode(rename["path_b64"]) == b"\xff"
    assert rename["path2"] == "new"
    assert "path2_b64" not in rename
    assert "is_last_change" not in rename


@pytest.mark.parametrize(
    ("described", "fields"),
    [
        (line(Kind.OUTPUT, b"", detail=2, shown=b"hi\n"), {"stream": "stderr", "text": "hi\n"}),
        (line(Kind.EXEC, b"", text=b"/bin/sh", value=b"sh\0-c"), {"exe": "/bin/sh", "argv": ["sh", "-c"]}),
        (line(Kind.EXIT, b"", detail=512), {"exit_code": 2}),
        (line(Kind.EXIT, b"", detail=9), {"signal": 9}),
        (line(Kind.GAP, b"", detail=5, text=b"ring"), {"channel": "ring", "lost": 5}),
        (line(Kind.SYMLINK, text=b"t"), {"target": "t"}),
        (line(Kind.SETXATTR, text=b"user.x", value=b"v"), {"xattr": "user.x", "value": "v"}),
        (line(Kind.REMOVEXATTR, text=b"user.x"), {"xattr": "user.x"}),
        (line(Kind.SETFLAGS, text=b"flags", detail=32), {"inode_flags": 32, "sort": "flags", "flags": []}),
        (line(Kind.HELD, b"", t_ns=30, enter_ns=10), {"duration_ns": 20}),
        (line(Kind.MOUNT, text=b"xfs", detail=4), {"mounted": True, "recorded": False, "other_namespace": True}),
        (line(Kind.MOUNT, text=b"xfs", detail=2), {"mounted": True, "recorded": True, "file_system": "xfs"}),
        (line(Kind.RESYNC, detail=1), {"what": "gone"}),
        (line(Kind.RESYNC, detail=4, text=b"user.x"), {"what": "xattr_gone", "xattr": "user.x"}),
        (line(Kind.RESYNC, detail=6, offset=3, length=4), {"what": "extent", "offset": 3, "length": 4}),
    ],
)
def test_json_lines_hold_what_is_particular_to_an_operation(described, fields):
    record = json.loads(text_of(jsonl.report_timeline, Timeline(info(), [described])).splitlines()[1])
    assert fields.items() <= record.items()


def test_differences_are_letters_and_paths():
    entry = Entry(b"a", "f", Meta(FILE, 1, 2, 3), 5, b"", {}, 1)
    found = [Change("M", b"a", before=entry, after=entry), Change("R", b"old", b"new"), Change("D", b"x\ny")]
    assert text_of(changes.report_changes, found) == 'M  a\nR  old -> new\nD  "x\\ny"\n'
    records = [json.loads(one) for one in text_of(jsonl.report_changes, found).splitlines()]
    assert [(one["letter"], one["path"]) for one in records] == [("M", "a"), ("R", "old"), ("D", "x\ny")]
    assert records[0]["after"] == {
        "kind": "f",
        "size": 5,
        "mode": "0644",
        "uid": 1,
        "gid": 2,
        "mtime_ns": 3,
        "content": "exact",
    }


def test_info_tells_the_facts_and_then_what_is_wrong():
    shown = text_of(report_info, info(is_complete=False, defects=("3 events lost",), counters={"lost_ring": 3}))
    assert "command       pytest -x tests/\n" in shown
    assert "end           exit 1 after 2m14.6s\n" in shown
    assert "written       4.1 MiB\n" in shown
    assert "counted       lost_ring 3\n" in shown
    assert shown.endswith("complete      no\n              3 events lost\n")
    assert text_of(report_info, info()).endswith("complete      yes\n")


def test_info_says_how_mapped_files_were_sampled():
    counters = {"mapped_files": 2, "mapped_interval_ns": 100 * MS, "mapped_rounds": 30}
    assert "mapped        2 files, sampled every 100ms\n" in text_of(report_info, info(counters=counters))
    counters |= {"mapped_late_rounds": 4, "mapped_longest_ns": 1300 * MS}
    late = "mapped        2 files, sampled every 100ms; 4 of 30 samples came later, after 1.3s at most\n"
    assert late in text_of(report_info, info(counters=counters))


def test_info_shows_nothing_raw():
    shown = text_of(report_info, info(cwd="/\x1b[2J", argv=("a\nb",), defects=("\x07",), hostname="\udcff"))
    assert all(part.isprintable() for part in shown.split("\n"))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (4_300_000, "4.1 MiB"), (1 << 50, "1024.0 TiB")],
)
def test_sizes_are_short(count, text):
    assert size(count) == text


def test_a_resync_says_what_was_found():
    def shown(detail: int, text: bytes = b"") -> str:
        return prefix(line(Kind.RESYNC, detail=detail, text=text, size=4)).partition("] ")[2]

    assert shown(0) == shown(2) == "RESYNC   status.log (4B)"
    assert shown(1) == "RESYNC   status.log (gone)"
    assert shown(3, b"user.x") == shown(4, b"user.x") == "RESYNC   status.log (user.x)"
    assert shown(5) == "RESYNC   status.log (as recorded)"
