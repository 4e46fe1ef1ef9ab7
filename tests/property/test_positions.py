"""Properties of positions: what is printed parses back and covers the event; any text is one or an error."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffkeeper.errors import PositionError
from diffkeeper.model import clock
from diffkeeper.model.positions import parse_position, parse_range

HOUR_NS = 3600 * clock.SECOND_NS
instants = st.one_of(st.integers(0, 10 * clock.SECOND_NS), st.integers(0, 400 * HOUR_NS))


@dataclass
class Events:
    """A trace as positions see it: the sorted times of its events."""

    times: list[int]
    after_ns: int = 0
    start_realtime_ns: int = 1_787_393_702_114_000_000
    exit_number: int | None = None
    marks: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def end_ns(self) -> int:
        return (self.times[-1] if self.times else 0) + self.after_ns

    def number_at(self, t_ns: int) -> int:
        return bisect_right(self.times, t_ns)


traces = st.builds(Events, st.lists(instants, min_size=1, max_size=30).map(sorted), st.integers(0, 5 * HOUR_NS))
printers = st.sampled_from(
    [
        lambda trace, t_ns: clock.bracketed(t_ns),
        lambda trace, t_ns: clock.bracketed(t_ns).strip("[]"),
        lambda trace, t_ns: clock.precise(t_ns),
        lambda trace, t_ns: clock.rfc3339(trace.start_realtime_ns + t_ns),
    ]
)


@given(traces, printers, st.data())
def test_the_state_at_what_is_printed_holds_the_event_and_all_printed_alike_or_earlier(trace, printer, data):
    number = data.draw(st.integers(1, trace.count))
    printed = printer(trace, trace.times[number - 1])

    cut = parse_position(printed).resolve(trace)

    assert cut.number >= number
    assert cut.note == ""
    assert all(printer(trace, t_ns) != printed for t_ns in trace.times[cut.number :])


@given(traces, printers, st.data())
def test_a_range_from_what_is_printed_begins_with_the_first_event_printed_alike(trace, printer, data):
    number = data.draw(st.integers(1, trace.count))
    printed = printer(trace, trace.times[number - 1])

    first, last = parse_range(printed).numbers(trace)

    assert first <= number <= last
    assert {printer(trace, t_ns) for t_ns in trace.times[first - 1 : last]} == {printed}


@given(traces, st.integers(0, 40), st.integers(0, 5))
def test_event_numbers_are_exact(trace, number, back):
    cut = parse_position(f"@{number}~{back}").resolve(trace)
    assert cut.number == max(min(number, trace.count) - back, 0)


@given(instants, st.sampled_from(["ns", "us", "ms", "s", "m", "h"]))
def test_a_duration_covers_its_unit_and_not_a_nanosecond_more(t_ns, unit):
    text = f"{t_ns // clock.UNITS_NS[unit]}{unit}"
    position = parse_position(text)
    assert position.first_ns <= t_ns <= position.last_ns
    assert position.last_ns - position.first_ns == clock.UNITS_NS[unit] - 1


@given(instants, st.integers(0, 9))
def test_each_written_digit_narrows_a_duration(t_ns, digits):
    seconds, fraction = divmod(t_ns, clock.SECOND_NS)
    text = f"{seconds}.{f'{fraction:09d}'[:digits]}s" if digits else f"{seconds}s"
    position = parse_position(text)
    assert position.first_ns <= t_ns <= position.last_ns
    assert position.last_ns - position.first_ns == 10 ** (9 - digits) - 1


@given(st.integers(0, 9_000_000_000 * clock.SECOND_NS))
def test_rfc_3339_keeps_every_nanosecond(realtime_ns):
    assert clock.parse_rfc3339(clock.rfc3339(realtime_ns)) == realtime_ns


fragments = st.sampled_from([*"@^~.:-1hms[]Z", "..", "59", "60", "ms", "end", "start", "exit", "mark:"])
texts = st.one_of(
    st.text(max_size=40), st.lists(fragments, max_size=8).map("".join), st.text("0123456789", max_size=6000)
)


def refusal_or_number(text, trace):
    try:
        return parse_position(text).resolve(trace).number
    except PositionError as error:
        return str(error)


@given(texts, traces)
def test_any_text_is_a_position_or_an_error_that_hints(text, trace):
    answer = refusal_or_number(text, trace)
    if isinstance(answer, str):
        assert any(hint in answer for hint in ("write", "it is a range", "nothing is finer", "no mark"))
    else:
        assert 0 <= answer <= trace.count


@given(st.lists(fragments, max_size=8).map("".join), traces)
def test_any_text_is_a_range_or_an_error(text, trace):
    try:
        first, last = parse_range(text).numbers(trace)
    except PositionError:
        return
    assert first >= 1
    assert last <= trace.count


@pytest.mark.parametrize("text", ["14", "0", "1.5", ".5"])
def test_a_bare_number_is_refused_with_what_to_write(text):
    with pytest.raises(PositionError, match=f"{text}s"):
        parse_position(text)
