"""How instants are printed, and the arithmetic of printed units; ``positions`` reads back all that is printed here.

Printing cuts, it never rounds: an instant lies within the unit that it is shown as.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

SECOND_NS = 1_000_000_000
UNITS_NS = {
    "h": 3600 * SECOND_NS,
    "m": 60 * SECOND_NS,
    "s": SECOND_NS,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can write
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def bracketed(t_ns: int) -> str:
    """Return the time of a timeline line, ``[02m:14s]``, or ``[01h:02m:14s]`` from an hour on."""
    return _bracketed(max(t_ns, 0) // SECOND_NS)


def precise(t_ns: int) -> str:
    """Return the precise time of a timeline line, ``02:14.350``, or ``01:02:14.350`` from an hour on."""
    milliseconds = max(t_ns, 0) // 1_000_000
    return f"{_clock(milliseconds // 1000)}.{milliseconds % 1000:03d}"


# A timeline prints thousands of events of one second: what a second looks like is made once.


@lru_cache(maxsize=1024)
def _bracketed(second: int) -> str:
    minutes, seconds = divmod(second, 60)
    if minutes < 60:
        return f"[{minutes:02d}m:{seconds:02d}s]"
    return f"[{minutes // 60:02d}h:{minutes % 60:02d}m:{seconds:02d}s]"


@lru_cache(maxsize=1024)
def _clock(second: int) -> str:
    minutes, seconds = divmod(second, 60)
    return f"{minutes:02d}:{seconds:02d}" if minutes < 60 else f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"


@lru_cache(maxsize=1024)
def _calendar(second: int) -> str:
    return f"{_EPOCH + timedelta(seconds=min(max(second, 0), _LAST_SECOND)):%Y-%m-%dT%H:%M:%S}"


def duration(length_ns: int) -> str:
    """Return a length of time for people, ``2m14.6s``, ``350ms`` or ``1h02m14s``."""
    length_ns = max(length_ns, 0)
    if length_ns < SECOND_NS:
        return f"{length_ns // 1_000_000}ms"
    tenths = length_ns // (SECOND_NS // 10)
    minutes, rest = divmod(tenths, 600)
    seconds = f"{rest // 10}.{rest % 10}s"
    if not minutes:
        return seconds
    return f"{minutes}m{seconds}" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m{rest // 10:02d}s"


def rfc3339(realtime_ns: int, digits: int = 9) -> str:
    """Return an instant since the epoch as RFC 3339 in UTC with ``digits`` (1 to 9) digits of the second."""
    seconds, fraction = divmod(realtime_ns, SECOND_NS)
    return f"{_calendar(seconds)}.{f'{fraction:09d}'[:digits]}Z"


def parse_rfc3339(text: str) -> int | None:
    """Return ns since the epoch for an RFC 3339 time with a zone, or None if it is not one."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, clock, second, fraction, zone = match.groups()
    is_leap = second == "60"
    try:
        instant = datetime.fromisoformat(f"{day}T{clock}:{'59' if is_leap else second}").replace(tzinfo=_zone(zone))
    except ValueError:
        return None
    seconds = (instant - _EPOCH) // timedelta(seconds=1) + is_leap
    return seconds * SECOND_NS + int((fraction or "0").ljust(9, "0"))


def _zone(text: str) -> timezone:
    if text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    if minutes > 59:
        raise ValueError(text)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)
