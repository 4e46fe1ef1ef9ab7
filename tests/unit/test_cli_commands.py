"""timeline, export and info as commands, over a trace made by hand."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from bisect import bisect_right

import pytest

from diffkeeper import cli
from diffkeeper.cli import export_cmd, info_cmd, timeline_cmd
from diffkeeper.errors import FormatTooNewError, NoSuchTraceError, StillRecordingError
from diffkeeper.export import export_tree
from diffkeeper.model.answers import Entry, Exactness, TraceInfo
from diffkeeper.model.event import Event, Kind, Mark, Meta
from diffkeeper.model.timeline import EventFilter, PathFilter, parse_position
from diffkeeper.model.verdict import judge

MS = 1_000_000
S = 1000 * MS
META = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 5 * S)


def event(number, t_ns, kind=Kind.WRITE, path=b"status.log", **more):
    return Event(number=number, t_ns=t_ns, kind=kind, pid=7, tid=7, process=1, path=path, **more)


EVENTS = [
    event(1, 3 * MS, Kind.CREATE),
    event(2, 4 * MS, length=13, size=13),
    event(3, 4 * MS, Kind.CLOSE),
    event(4, 1003 * MS, Kind.CREATE, b"db.lock"),
    event(5, 1500 * MS, Kind.OUTPUT, b"", detail=1, length=6),
    event(6, 2003 * MS, length=22, size=22, marks=Mark.OUTSIDER),
]
INFO = TraceInfo(
    path="trace",
    trace_id=1,
    state="sealed",
    version="0.1.0",
    argv=("python", "demo.py"),
    cwd="/work",
    user="me",
    hostname="here",
    kernel="6.18",
    roots=(("work", "/work"),),
    engine="ebpf",
    baseline="full",
    excludes=(),
    start_realtime_ns=1_787_393_702_114_000_000,
    duration_ns=3 * S,
    exit_code=1,
    wait_status=256,
    timed_out=False,
    events=6,
    files=2,
    processes=1,
    bytes_written=35,
    journal_bytes=0,
    store_bytes=0,
    kinds={"write": 2},
    counters={},
    is_complete=True,
)


class Columns:
    first = 1
    strings = sorted({text for one in EVENTS for text in (one.path, one.path2)})

    def column(self, name):
        values = [getattr(one, name) for one in EVENTS]
        return [self.strings.index(value) for value in values] if name in ("path", "path2") else values

    def take(self, rows):
        return [EVENTS[row] for row in rows]

    def metas(self, rows):
        return [EVENTS[row].meta for row in rows]


class Trace:
    """Answers as a Trace does, out of lists."""

    info_now = INFO
    failure: Exception | None = None
    content = Exactness.EXACT
    failures: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()

    def answered(self, number, text):
        return number

    count = len(EVENTS)
    end_ns = 3 * S
    start_realtime_ns = INFO.start_realtime_ns
    exit_number = len(EVENTS)
    marks: dict[str, int] = {}  # noqa: RUF012  # an empty answer

    def number_at(self, t_ns):
        return bisect_right([one.t_ns for one in EVENTS], t_ns)

    @classmethod
    def open(cls, path, base=None, announce=None):
        cls.opened = path
        if cls.failure:
            raise cls.failure
        return cls()

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        pass

    @property
    def extent(self):
        return self

    def info(self):
        return self.info_now

    @property
    def losses(self):
        said = self.info_now.is_complete or self.info_now.state == "broken"
        verdict = judge(self.info_now.counters, self.failures, said=said)
        return [*verdict.losses, *self.info_now.damage]

    is_touched = False  # by a loss: the tree that is asked for

    def losses_at(self, position):
        gaps = judge(self.info_now.counters).gaps
        return [words for words in self.losses if self.is_touched or words not in gaps]

    def filter(self, paths, ops, pids, since, until, output):
        return EventFilter.of(
            self,
            paths=PathFilter.of(paths),
            ops=ops,
            pids=pids,
            since=since and parse_position(since),
            until=until and parse_position(until),
            output=output,
        )

    def events(self, wanted, last):
        found = [one for one in EVENTS if wanted.admits(one)]
        return iter(found[-last:] if last else found)

    def pages(self, wanted, last):
        rows = [one.number - 1 for one in self.events(wanted, last)]
        yield Columns(), rows

    def last_change(self):
        return EVENTS[-1]

    def comm(self, key):
        return b"python"

    def data(self, one):
        return b"hello\n"

    def export(self, position, out, paths=(), force=False):
        self.number = parse_position(position).resolve(self).number
        return export_tree(self, out, paths, force=force)

    def entries(self):
        yield Entry(b"db.lock", "f", META, 0, b"", {}, 1, self.content, "" if self.content == "exact" else "read late")
        yield Entry(b"status.log", "f", META, 6, b"", {}, 2)

    def chunks(self, entry, *, allow_unknown=False):
        yield 0, f"at {self.number:3}".encode()[: entry.size]

    def data_bytes(self, entry):
        return entry.size


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    class Fake(Trace):
        pass

    for module in (timeline_cmd, export_cmd, info_cmd):
        monkeypatch.setattr(module, "Trace", Fake)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFKEEPER_STATE_DIR", raising=False)
    return Fake


def lossy(**more):
    return dataclasses.replace(INFO, is_complete=False, defects=("12 events lost",), **more)


# --- timeline ---


def test_the_timeline_is_on_standard_output_and_nothing_else_is(capsys):
    assert cli.run(["timeline"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].startswith("Session Start: 2026-08-22T10:15:02.114Z   python demo.py   exit 1   3.0s   complete")
    assert [line[:19].strip() for line in lines[1:]] == [
        "[00m:00s] CREATE",
        "[00m:00s] WRITE",
        "[00m:01s] CREATE",
        "[00m:02s] WRITE",
    ]
    assert lines[-1].endswith("python[7] OUTSIDER   <-- last change before exit 1")
    assert captured.err == ""


@pytest.mark.parametrize(
    ("args", "numbers"),
    [
        ("", [1, 2, 4, 6]),
        ("--all", [1, 2, 3, 4, 5, 6]),
        ("--output", [1, 2, 4, 5, 6]),
        ("--op write", [2, 6]),
        ("--op write,create --op close", [1, 2, 3, 4, 6]),
        ("--path *.lock", [4]),
        ("--path status.log --last 1", [6]),
        ("--since 1s", [4, 6]),
        ("--until 1s", [1, 2, 4]),
        ("--since 1s --until 1s", [4]),
        ("--time 1s", [4]),
        ("--time 1s..", [4, 6]),
        ("--time ..1s", [1, 2, 4]),
        ("--time 0s..1s --last 2", [2, 4]),
        ("--pid 7", [1, 2, 4, 6]),
    ],
)
def test_options_choose_events(args, numbers, capsys):
    assert cli.run(["timeline", "--json", *args.split()]) == 0
    session, *found = map(json.loads, capsys.readouterr().out.splitlines())
    assert session["type"] == "session"
    assert [one["number"] for one in found] == numbers


def test_the_output_of_the_command_stands_on_the_timeline(capsys):
    cli.run(["timeline", "--op", "output"])
    assert "[00m:01s] OUTPUT   stdout: hello  " in capsys.readouterr().out


def test_the_classic_format_is_the_prefix_alone(capsys):
    cli.run(["timeline", "--format", "classic", "--last", "1"])
    assert capsys.readouterr().out == "[00m:02s] WRITE    status.log (22B)\n"


@pytest.mark.parametrize("args", ["--path nothing", "--pid 8", "--op unlink", "--time 1m"])
def test_no_match_is_one(args, capsys):
    assert cli.run(["timeline", *args.split()]) == 1
    assert "no event matches" in capsys.readouterr().err


def test_a_trace_without_events_is_no_failure(fake, monkeypatch):
    monkeypatch.setattr(fake, "pages", lambda self, wanted, last: iter(()))
    assert cli.run(["timeline"]) == 0


@pytest.mark.parametrize(
    "info",
    [
        lossy(counters={"lost_ring": 12}),
        lossy(counters={"unresolved": 1}),
        lossy(damage=("segment 3 is damaged",)),
        lossy(state="broken"),
        lossy(),
    ],
)
def test_a_timeline_with_events_missing_is_three_and_says_so(info, fake, capsys):
    fake.info_now = info
    assert cli.run(["timeline"]) == 3
    assert "the timeline is not complete" in capsys.readouterr().err


def test_a_failure_of_the_engine_is_a_loss(fake, capsys):
    fake.info_now, fake.failures = lossy(counters={"inexact": 3}), ("the helper died",)
    assert cli.run(["timeline"]) == 3
    assert "the helper died" in capsys.readouterr().err


def test_inexact_content_does_not_make_a_timeline_incomplete(fake):
    fake.info_now = lossy(counters={"inexact": 3})
    assert cli.run(["timeline"]) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--since", "14"], "write 14s"),
        (["--until", "soon"], "cannot read position"),
        (["--time", "1s..2s..3s"], "one pair of dots"),
        (["--time", "1s", "--since", "1s"], "give it alone"),
        (["--op", "wriet"], "there is write"),
        (["--path", ""], "an empty pattern"),
        (["--since", "mark:x"], "it has no marks"),
    ],
)
def test_what_cannot_be_meant_is_two_with_a_hint(args, message, capsys):
    assert cli.run(["timeline", *args]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_position_after_the_end_is_noted_unless_quiet(capsys):
    assert cli.run(["timeline", "--until", "9s"]) == 0
    assert "9s is after the end" in capsys.readouterr().err
    assert cli.run(["timeline", "--until", "9s", "-q"]) == 0
    assert capsys.readouterr().err == ""


# --- which trace ---


@pytest.mark.parametrize(
    ("args", "environ", "opened"),
    [
        ([], None, "diffkeeper-trace"),
        ([], "from-env", "from-env"),
        (["-s", "given"], "from-env", "given"),
        (["given"], "from-env", "given"),
        (["--state-dir=given", "given"], None, "given"),
    ],
)
def test_the_trace_is_named_by_argument_option_or_variable(args, environ, opened, fake, monkeypatch):
    if environ:
        monkeypatch.setenv("DIFFKEEPER_STATE_DIR", environ)
    assert cli.run(["info", *args]) == 0
    assert fake.opened == opened


def test_two_traces_are_one_too_many(capsys):
    assert cli.run(["info", "-s", "one", "two"]) == 2
    assert "two traces were given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [(NoSuchTraceError("no trace"), 10), (StillRecordingError("not yet"), 11), (FormatTooNewError("too new"), 12)],
)
@pytest.mark.parametrize("command", [["timeline"], ["info"], ["export", "--out", "out"]])
def test_a_trace_that_cannot_be_opened_has_its_code_and_its_message(failure, exit_code, command, fake, capsys):
    fake.failure = failure
    assert cli.run(command) == exit_code
    assert capsys.readouterr().err == f"diffkeeper: {failure}\n"
    assert not os.path.exists("out")


# --- export ---


@pytest.mark.parametrize(
    ("time", "content"), [("1s", "at   5"), ("@2^", "at   1"), ("start", "at   0"), ("", "at   6")]
)
def test_an_export_is_the_state_at_its_position(time, content, tmp_path, capsys):
    args = ["export", "--out", "out", *(["--time", time] if time else [])]
    assert cli.run(args) == 0
    assert (tmp_path / "out/status.log").read_text() == content
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("diffkeeper: 2 entries, 6 B, ")


def test_an_export_as_json_is_one_object(capsys):
    assert cli.run(["export", "--out", "out", "--json", "-q"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "v": 1,
        "type": "export",
        "out": "out",
        "entries": 2,
        "bytes": 6,
        "skipped": [],
        "inexact": [],
        "owners_left": 0,
        "unknown": 0,
        "from_base": 0,
        "unmatched": [],
        "number": 6,
        "is_complete": True,
    }
    assert captured.err == ""


def test_an_export_of_a_pattern_that_matches_nothing_is_one(tmp_path, capsys):
    assert cli.run(["export", "--out", "out", "--path", "nothing"]) == 1
    assert "nothing matches 'nothing'; to look in all folders write '**/nothing'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.run(["export", "--out", "out", "--path", "nothing", "--path", "*.log"]) == 1
    assert os.listdir(tmp_path / "out") == ["status.log"]


def test_an_export_of_inexact_content_is_three_and_names_it(fake, capsys):
    fake.content = Exactness.INEXACT
    assert cli.run(["export", "--out", "out", "-q"]) == 3
    assert "  db.lock: read late" in capsys.readouterr().err


def test_an_export_that_a_loss_touches_is_three_and_another_is_not(fake, capsys):
    fake.info_now = lossy(counters={"lost_ring": 12})
    assert cli.run(["export", "--out", "before"]) == 0
    fake.is_touched = True
    assert cli.run(["export", "--out", "after"]) == 3
    assert "12 changes were lost (ring)" in capsys.readouterr().err


def test_an_export_from_a_broken_trace_is_exact_before_its_end(fake):
    fake.info_now = lossy(state="broken")
    assert cli.run(["export", "--out", "a", "--time", "1s"]) == 0
    assert cli.run(["export", "--out", "b"]) == 3


def test_an_export_into_a_folder_that_is_not_empty_is_two_unless_forced(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert cli.run(["export", "--out", "out"]) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.run(["export", "--out", "out", "--force"]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["db.lock", "mine", "status.log"]


@pytest.mark.parametrize("out", ["trace", "trace/inner", "link"])
def test_an_export_never_goes_into_the_trace(out, tmp_path, capsys):
    (tmp_path / "trace").mkdir()
    (tmp_path / "link").symlink_to("trace")
    assert cli.run(["export", "-s", "trace", "--out", out, "--force"]) == 2
    assert "in the trace itself" in capsys.readouterr().err


def test_an_export_as_tar_on_standard_output_has_no_json(capsys):
    assert cli.run(["export", "--out", "-", "--json"]) == 2


# --- info ---


def test_info_tells(fake, capsys):
    assert cli.run(["info"]) == 0
    assert "complete      yes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("info", "exit_code"),
    [
        (lossy(damage=("segment 3 is damaged",)), 3),
        (lossy(state="broken"), 3),
        (lossy(counters={"lost_ring": 12}), 3),
        (lossy(counters={"inexact": 3}), 0),
    ],
)
def test_info_exits_with_three_if_changes_are_missing_and_names_why(info, exit_code, fake, capsys):
    fake.info_now = info
    assert cli.run(["info"]) == exit_code
    shown = capsys.readouterr().out
    assert all(words in shown for words in (*info.damage, *info.defects))


def test_info_as_json_is_one_object(capsys):
    assert cli.run(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["v"], found["type"], found["argv"]) == (1, "trace", ["python", "demo.py"])
