"""The forms of positions, one by one; their properties are in ``tests/property``."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import pytest

from diffkeeper.errors import PositionError
from diffkeeper.model import clock
from diffkeeper.model.positions import Cut, Instant, parse_position, parse_range

MS = 1_000_000
S = 1000 * MS


@dataclass
class Events:
    times: list[int]
    end_ns: int
    start_realtime_ns: int = 1_787_393_702_114_000_000  # 2026-08-22T10:15:02.114Z
    exit_number: int | None = 5
    marks: dict[str, int] = field(default_factory=lambda: {"login": 2})

    @property
    def count(self) -> int:
        return len(self.times)

    def number_at(self, t_ns: int) -> int:
        return bisect_right(self.times, t_ns)


TRACE = Events([3 * MS, S + 4 * MS, 2 * S, 2 * S + 999 * MS, 3 * S, 6 * S], 7 * S)


@pytest.mark.parametrize(
    ("text", "first_ns", "last_ns"),
    [
        ("2s", 2 * S, 3 * S - 1),
        ("2.0s", 2 * S, 2 * S + 100 * MS - 1),
        ("2000ms", 2 * S, 2 * S + MS - 1),
        ("1.5s", 1500 * MS, 1600 * MS - 1),
        ("350ms", 350 * MS, 351 * MS - 1),
        ("2m14s", 134 * S, 135 * S - 1),
        ("1h2m", 3720 * S, 3780 * S - 1),
        ("1h", 3600 * S, 7200 * S - 1),
        ("1h0m0s", 3600 * S, 3601 * S - 1),
        ("90m", 5400 * S, 5460 * S - 1),
        ("7us", 7000, 7999),
        ("7µs", 7000, 7999),
        ("7ns", 7, 7),
        ("1s5ns", S + 5, S + 5),
        ("2:14", 134 * S, 135 * S - 1),
        ("02:14.350", 134_350 * MS, 134_351 * MS - 1),
        ("1:02:14", 3734 * S, 3735 * S - 1),
        ("[02m:14s]", 134 * S, 135 * S - 1),
        ("02m:14s", 134 * S, 135 * S - 1),
        ("[01h:02m:14s]", 3734 * S, 3735 * S - 1),
        (" 2s\n", 2 * S, 3 * S - 1),
    ],
)
def test_an_elapsed_time_covers_its_last_written_unit(text, first_ns, last_ns):
    position = parse_position(text)
    assert isinstance(position, Instant)
    assert (position.first_ns, position.last_ns) == (first_ns, last_ns)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("start", 0),
        ("end", 6),
        ("end^", 5),
        ("end~2", 4),
        ("end-5s", 3),
        ("end-1s", 6),
        ("end-1.001s", 5),
        ("exit", 5),
        ("exit^", 4),
        ("mark:login", 2),
        ("@0", 0),
        ("@3", 3),
        ("@3^", 2),
        ("@3^^", 1),
        ("@3~3", 0),
        ("0s", 1),
        ("1s", 2),
        ("2s", 4),
        ("2.0s", 3),
        ("7s", 6),
        ("2026-08-22T10:15:04.114Z", 3),
        ("2026-08-22T10:15:04.113999999Z", 2),
        ("2026-08-22T12:15:04.114+02:00", 3),
        ("2026-08-22t05:15:04.114-05:00", 3),
    ],
)
def test_a_position_names_the_state_after_an_event(text, number):
    assert parse_position(text).resolve(TRACE) == Cut(number)


@pytest.mark.parametrize(
    ("text", "number", "note"),
    [
        ("8s", 6, "8s is after the end of the recording: taken as end"),
        ("@7", 6, "@7 is after the last event, @6: taken as end"),
        ("2027-01-01T00:00:00Z", 6, "2027-01-01T00:00:00Z is after the end of the recording: taken as end"),
        ("2020-01-01T00:00:00Z", 0, "2020-01-01T00:00:00Z is before the start of the recording: taken as start"),
        ("end-8s", 0, "end-8s is before the start of the recording: taken as start"),
        ("@3~4", 0, "@3~4 is before the first event: taken as start"),
        ("start^", 0, "start^ is before the first event: taken as start"),
    ],
)
def test_outside_of_the_recording_the_nearest_state_is_taken_and_said(text, number, note):
    assert parse_position(text).resolve(TRACE) == Cut(number, note)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("1s..2s", 2, 4),
        ("2s", 3, 4),
        ("2s..", 3, 6),
        ("..2s", 1, 4),
        ("..", 1, 6),
        ("@2..@4", 2, 4),
        ("@3", 3, 3),
        ("start..end", 1, 6),
        ("end-4s..", 5, 6),
        ("mark:login..exit", 2, 5),
        ("2026-08-22T10:15:04.114Z..", 3, 6),
        ("2020-01-01T00:00:00Z..", 1, 6),
        ("5s..1s", 6, 2),
        ("8s..", 7, 6),
    ],
)
def test_a_range_holds_both_its_ends(text, first, last):
    assert parse_range(text).numbers(TRACE) == (first, last)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("14", "write 14s for seconds since the start, or @14 for event 14"),
        ("1.5", "write 1.5s"),
        ("2026-08-22T10:17:16", "with its zone"),
        ("2026-08-22", "RFC 3339"),
        ("2026-13-22T10:17:16Z", "RFC 3339"),
        ("2026-08-22T10:17:16.1234567891Z", "RFC 3339"),
        ("1s..2s", "it is a range"),
        ("-5s", "end-5s"),
        ("5s1m", "from large to small"),
        ("1.5m3s", "from large to small"),
        ("1.0000000001s", "nothing is finer"),
        ("[02m:14s", "write 2m14s"),
        ("2:5", "write 2m14s"),
        ("1:60:00", "write 2m14s"),
        ("soon", "write 2m14s"),
        ("", "write 2m14s"),
        ("٣s", "write 2m14s"),
        ("start-5s", "write 2m14s"),
        ("9" * 5000 + "s", "5001 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_hint(text, hint):
    with pytest.raises(PositionError) as refusal:
        parse_position(text)
    assert hint in str(refusal.value)


@pytest.mark.parametrize("text", ["1s...2s", "1s..2s..3s", "1s..x"])
def test_a_range_that_cannot_be_read_is_refused(text):
    with pytest.raises(PositionError):
        parse_range(text)


def test_an_unknown_mark_is_refused_with_the_nearest_ones():
    with pytest.raises(PositionError, match="there is mark:login"):
        parse_position("mark:logni").resolve(TRACE)


def test_exit_is_refused_where_the_exit_was_not_recorded():
    with pytest.raises(PositionError, match="write end"):
        parse_position("exit").resolve(Events([], 0, exit_number=None))


@pytest.mark.parametrize(
    ("t_ns", "bracketed", "precise"),
    [
        (0, "[00m:00s]", "00:00.000"),
        (134_350 * MS + 999_999, "[02m:14s]", "02:14.350"),
        (3600 * S - 1, "[59m:59s]", "59:59.999"),
        (3600 * S, "[01h:00m:00s]", "01:00:00.000"),
        (101 * 3600 * S, "[101h:00m:00s]", "101:00:00.000"),
        (-1, "[00m:00s]", "00:00.000"),
    ],
)
def test_times_are_cut_and_never_rounded(t_ns, bracketed, precise):
    assert clock.bracketed(t_ns) == bracketed
    assert clock.precise(t_ns) == precise


@pytest.mark.parametrize(
    ("length_ns", "text"),
    [(0, "0ms"), (350 * MS, "350ms"), (1500 * MS, "1.5s"), (134_650 * MS, "2m14.6s"), (3734 * S, "1h02m14s")],
)
def test_lengths_are_short(length_ns, text):
    assert clock.duration(length_ns) == text


def test_wall_clocks_are_printed_to_the_digit_that_was_asked_for():
    assert clock.rfc3339(1_787_393_702_114_000_007) == "2026-08-22T10:15:02.114000007Z"
    assert clock.rfc3339(1_787_393_702_114_000_007, 3) == "2026-08-22T10:15:02.114Z"


def test_wall_clocks_beyond_the_calendar_do_not_fail():
    assert clock.rfc3339(10**30).startswith("9999-12-31")
    assert clock.rfc3339(-(10**30)).startswith("1970-01-01")


def test_a_leap_second_is_read():
    assert clock.parse_rfc3339("2016-12-31T23:59:60Z") == clock.parse_rfc3339("2017-01-01T00:00:00Z")
