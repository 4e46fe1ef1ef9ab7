"""The grammar of positions: what a user writes to name an instant, an event or a range of a trace.

A position means all that it prints: a duration covers its last written unit, so that the state at ``2m14s`` holds every
event that a timeline shows as ``02m:14s``. Times of day and event numbers are exact. What the forms mean is told in
``docs/positions.md``; parsing needs no trace, resolving asks one through ``Extent``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Protocol

from diffkeeper.errors import PositionError
from diffkeeper.model import clock
from diffkeeper.model.values import dataclass

FORMS = "2m14s, 02:14.350, @1281, @1281^, start, end, end-5s, exit, mark:NAME or 2026-08-22T10:17:16.464Z"
_LONGEST = 400  # more characters than any position needs; keeps int() far from its limit on digits


class Extent(Protocol):
    """What resolving a position asks of a trace. Events are numbered from 1 in the order of the timeline."""

    @property
    def count(self) -> int:
        """Return the number of the last event, 0 if there is none."""

    @property
    def end_ns(self) -> int:
        """Return when the recording ended (ns since its start); no event is later."""

    @property
    def start_realtime_ns(self) -> int:
        """Return the wall clock at the start, ns since the epoch."""

    @property
    def exit_number(self) -> int | None:
        """Return the last event up to the exit of the command, or None if its exit was not recorded."""

    @property
    def marks(self) -> Mapping[str, int]:
        """Return the event number of each mark."""

    def number_at(self, t_ns: int) -> int:
        """Return the last event with ``t_ns`` at or before the given one, 0 if there is none."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Name a state: just after event ``number``, 0 for the baseline; ``note`` says if it is not what was asked for."""

    number: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """Hold one parsed position; ``text`` is what the user wrote."""

    text: str

    def resolve(self, extent: Extent) -> Cut:
        """Return the state that the position names, with all events that it covers."""
        raise NotImplementedError

    def first(self, extent: Extent) -> int:
        """Return the first event that belongs to a range which starts here."""
        return max(self.resolve(extent).number, 1)


@dataclass(frozen=True, slots=True)
class Instant(Position):
    """A stretch [first_ns, last_ns] since the start; one nanosecond long when exact."""

    first_ns: int
    last_ns: int

    def resolve(self, extent: Extent) -> Cut:
        """Return the state after the last event that the stretch covers."""
        if self.first_ns > extent.end_ns:
            return Cut(extent.count, f"{self.text} is after the end of the recording: taken as end")
        return Cut(_number_at(extent, self.last_ns))

    def first(self, extent: Extent) -> int:
        """Return the first event at or after the beginning of the stretch."""
        return _number_at(extent, self.first_ns - 1) + 1


@dataclass(frozen=True, slots=True)
class WallClock(Position):
    """An exact instant of the wall clock, ns since the epoch."""

    realtime_ns: int

    def resolve(self, extent: Extent) -> Cut:
        """Return the state after the last event at or before the instant."""
        t_ns = self.realtime_ns - extent.start_realtime_ns
        if t_ns < 0:
            return Cut(0, f"{self.text} is before the start of the recording: taken as start")
        return Instant(self.text, t_ns, t_ns).resolve(extent)

    def first(self, extent: Extent) -> int:
        """Return the first event at or after the instant."""
        return _number_at(extent, self.realtime_ns - extent.start_realtime_ns - 1) + 1


@dataclass(frozen=True, slots=True)
class Numbered(Position):
    """Just after event ``number - back``."""

    number: int
    back: int

    def resolve(self, extent: Extent) -> Cut:
        """Return the state after the event, or the nearest one that exists."""
        if self.number > extent.count:
            note = f"@{self.number} is after the last event, @{extent.count}: taken as end"
            return Cut(max(extent.count - self.back, 0), note)
        return _stepped_back(self.text, self.number, self.back)


@dataclass(frozen=True, slots=True)
class Named(Position):
    """``start``, ``end`` or ``exit``, perhaps some events earlier."""

    name: str
    back: int

    def resolve(self, extent: Extent) -> Cut:
        """Return the state at the named point."""
        return _stepped_back(self.text, self._number(extent), self.back)

    def _number(self, extent: Extent) -> int:
        if self.name == "start":
            return 0
        if self.name == "end":
            return extent.count
        if extent.exit_number is None:
            raise PositionError("the exit of the command is not in this trace: write end instead of exit")
        return min(extent.exit_number, extent.count)


@dataclass(frozen=True, slots=True)
class BeforeEnd(Position):
    """An exact length of time before the end of the recording."""

    minus_ns: int

    def resolve(self, extent: Extent) -> Cut:
        """Return the state after the last event that is at least that much earlier."""
        if self.minus_ns > extent.end_ns:
            return Cut(0, f"{self.text} is before the start of the recording: taken as start")
        return Cut(_number_at(extent, extent.end_ns - self.minus_ns))

    def first(self, extent: Extent) -> int:
        """Return the first event within that much of the end."""
        return _number_at(extent, extent.end_ns - self.minus_ns - 1) + 1


@dataclass(frozen=True, slots=True)
class Marked(Position):
    """The point that was given a name while recording."""

    name: str

    def resolve(self, extent: Extent) -> Cut:
        """Return the state at the mark."""
        number = extent.marks.get(self.name)
        if number is None:
            raise PositionError(f"no mark {self.name!r} in this trace: {_marks_hint(self.name, extent.marks)}")
        return Cut(min(number, extent.count))


@dataclass(frozen=True, slots=True)
class Range:
    """Hold a range of events; an open end is None."""

    since: Position | None
    until: Position | None

    def numbers(self, extent: Extent) -> tuple[int, int]:
        """Return the numbers of the first and last event of the range; it is empty when first > last."""
        first = self.since.first(extent) if self.since else 1
        last = self.until.resolve(extent).number if self.until else extent.count
        return first, last


def parse_position(text: str) -> Position:
    """Parse one position, or raise PositionError with a hint."""
    stripped = text.strip()
    if len(stripped) > _LONGEST:
        raise PositionError(f"a position of {len(stripped)} characters cannot be read: write {FORMS}")
    for parse in (_parse_elapsed, _parse_numbered, _parse_named, _parse_marked, _parse_wall_clock):
        position = parse(stripped)
        if position is not None:
            return position
    raise PositionError(f"cannot read position {stripped!r}: {_hint(stripped)}")


def parse_range(text: str) -> Range:
    """Parse ``A..B``, ``A..``, ``..B``, or one position, which stands for all that it covers."""
    start, dots, end = text.strip().partition("..")
    if not dots:
        position = parse_position(text)
        return Range(position, position)
    if ".." in end or end.startswith("."):
        raise PositionError(f"cannot read range {text.strip()!r}: write A..B with one pair of dots")
    return Range(parse_position(start) if start else None, parse_position(end) if end else None)


# --- since the start -------------------------------------------------------------------------------------------------

_COMPONENT = re.compile(r"([0-9]+)(?:\.([0-9]+))?(h|ms|m|us|µs|ns|s)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:h|ms|m|us|µs|ns|s))+")
_CLOCK = re.compile(r"(?:([0-9]+):(?=[0-5]?[0-9]:))?([0-9]+):([0-5][0-9])(?:\.([0-9]{1,9}))?")
_PRINTED = re.compile(r"(\[)?(?:([0-9]+)h:(?=[0-5][0-9]m))?([0-9]+)m:([0-5][0-9])s(?(1)\])")


def _parse_elapsed(text: str) -> Position | None:
    stretch = _stretch(text)
    return None if stretch is None else Instant(text, stretch[0], stretch[0] + stretch[1] - 1)


def _stretch(text: str) -> tuple[int, int] | None:
    """Return (first_ns, width_ns) of a duration, clock or printed form."""
    if _DURATION.fullmatch(text):
        return _duration_stretch(text)
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds, fraction = match.groups()
    elif match := _PRINTED.fullmatch(text):
        _, hours, minutes, seconds = match.groups()
        fraction = None
    else:
        return None
    digits = fraction or ""
    first_ns = (int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)) * clock.SECOND_NS
    width_ns = clock.SECOND_NS // 10 ** len(digits)
    return first_ns + int(digits or 0) * width_ns, width_ns


def _duration_stretch(text: str) -> tuple[int, int]:
    components = _COMPONENT.findall(text)
    units_ns = [clock.UNITS_NS[unit] for _, _, unit in components]
    if sorted(set(units_ns), reverse=True) != units_ns or any(fraction for _, fraction, _ in components[:-1]):
        hint = "write units from large to small, each once, decimals in the last, as 1h2m3.5s"
        raise PositionError(f"cannot read position {text!r}: {hint}")
    fraction = components[-1][1]
    width_ns, rest = divmod(units_ns[-1], 10 ** len(fraction))
    if rest:
        raise PositionError(f"cannot read position {text!r}: nothing is finer than a nanosecond")
    whole_ns = sum(int(whole) * unit_ns for (whole, _, _), unit_ns in zip(components, units_ns, strict=True))
    return whole_ns + int(fraction or 0) * width_ns, width_ns


# --- events, names, wall clock ---------------------------------------------------------------------------------------

_NUMBERED = re.compile(r"@([0-9]+)(\^*|~[0-9]+)")
_NAMED = re.compile(r"(start|end|exit)(\^*|~[0-9]+|-.+)")
_MARKED = re.compile(r"mark:(.+)", re.DOTALL)


def _parse_numbered(text: str) -> Position | None:
    match = _NUMBERED.fullmatch(text)
    return Numbered(text, int(match[1]), _steps(match[2])) if match else None


def _parse_named(text: str) -> Position | None:
    match = _NAMED.fullmatch(text)
    if match is None:
        return None
    name, suffix = match.groups()
    if not suffix.startswith("-"):
        return Named(text, name, _steps(suffix))
    stretch = _stretch(suffix[1:]) if name == "end" else None
    return BeforeEnd(text, stretch[0]) if stretch else None


def _parse_marked(text: str) -> Position | None:
    match = _MARKED.fullmatch(text)
    return Marked(text, match[1]) if match and ".." not in text else None


def _parse_wall_clock(text: str) -> Position | None:
    realtime_ns = clock.parse_rfc3339(text)
    return None if realtime_ns is None else WallClock(text, realtime_ns)


def _steps(suffix: str) -> int:
    return int(suffix[1:]) if suffix.startswith("~") else len(suffix)


def _stepped_back(text: str, number: int, back: int) -> Cut:
    if back > number:
        return Cut(0, f"{text} is before the first event: taken as start")
    return Cut(number - back)


def _number_at(extent: Extent, t_ns: int) -> int:
    if t_ns < 0:
        return 0
    return extent.count if t_ns >= extent.end_ns else extent.number_at(t_ns)


# --- hints -----------------------------------------------------------------------------------------------------------


def _hint(text: str) -> str:
    if re.fullmatch(r"[0-9]+", text):
        return f"it has no unit; write {text}s for seconds since the start, or @{text} for event {text}"
    if re.fullmatch(r"[0-9]*\.[0-9]+", text):
        return f"it has no unit; write {text}s for seconds since the start"
    if re.match(r"[0-9]{4}-[0-9]{2}", text):
        return "write a wall clock time as RFC 3339 with its zone, as 2026-08-22T10:17:16.5Z or …+02:00"
    if ".." in text:
        return "it is a range, and one position is asked for"
    if text.startswith(("-", "+")):
        return "positions count from the start; for one before the end write end-5s"
    return f"write {FORMS}"


def _marks_hint(name: str, marks: Mapping[str, int]) -> str:
    if not marks:
        return "it has no marks"
    near = difflib.get_close_matches(name, marks, 3) or sorted(marks)[:5]
    return "there is " + ", ".join(f"mark:{mark}" for mark in near)
