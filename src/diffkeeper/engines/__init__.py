"""What catches the changes: the engines, and the choice of one with the reason for each refusal."""

from __future__ import annotations

from collections.abc import Callable

from diffkeeper import helper_start
from diffkeeper.engines import ebpf
from diffkeeper.engines.protocol import Engine, EngineSurvey
from diffkeeper.errors import EngineUnavailableError
from diffkeeper.model.values import dataclass

AUTO = "auto"
"""Have the most exact engine that can run here."""

WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold engines that may run, the most exact first, and why those that would have come before them cannot."""

    engines: tuple[Engine, ...]
    refused: tuple[EngineSurvey, ...] = ()


def _survey_watch() -> EngineSurvey:
    from diffkeeper.engines.watch import survey  # no other recording loads it

    return survey()


def _watch_engine() -> Engine:
    from diffkeeper.engines.watch import WatchEngine

    return WatchEngine()


_SURVEYS: dict[str, Callable[[], EngineSurvey]] = {ebpf.NAME: ebpf.survey, WATCH: _survey_watch}
_ENGINES: dict[str, Callable[[], Engine]] = {ebpf.NAME: ebpf.EbpfEngine, WATCH: _watch_engine}


def survey() -> list[EngineSurvey]:
    """Say of every engine whether it can record here, and if not why and what would help."""
    return [look() for look in _SURVEYS.values()]


def names() -> tuple[str, ...]:
    """Return what ``--engine`` takes."""
    return *_ENGINES, AUTO


def choose(name: str) -> Choice:
    """Return the engines to try for a name, not started. Raises EngineUnavailableError with the text of the survey.

    An engine that only its start can refuse is among them; then the start raises the same, and the next one is tried.
    """
    if name not in names():
        raise EngineUnavailableError(f"no such engine: {name!r}; there is {', '.join(names())}")
    if name == WATCH or helper_start.may_work():
        wanted = tuple(_ENGINES) if name == AUTO else (name,)
        return Choice(tuple(_ENGINES[one]() for one in wanted))
    refusal = ebpf.survey()
    if name == AUTO:
        return Choice((_watch_engine(),), (refusal,))
    raise EngineUnavailableError(refusal.text())
