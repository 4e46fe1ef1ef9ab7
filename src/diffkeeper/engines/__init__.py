"""What catches the changes: the engines, and the choice of one with the reason for each refusal."""

from __future__ import annotations

from collections.abc import Callable

from diffkeeper import helper_start
from diffkeeper.engines import ebpf
from diffkeeper.engines.protocol import Engine, EngineSurvey
from diffkeeper.errors import EngineUnavailableError

_SURVEYS: dict[str, Callable[[], EngineSurvey]] = {ebpf.NAME: ebpf.survey}
_ENGINES: dict[str, Callable[[], Engine]] = {ebpf.NAME: ebpf.EbpfEngine}


def survey() -> list[EngineSurvey]:
    """Say of every engine whether it can record here, and if not why and what would help."""
    return [look() for look in _SURVEYS.values()]


def names() -> tuple[str, ...]:
    """Return what ``--engine`` takes."""
    return tuple(_ENGINES)


def choose(name: str) -> Engine:
    """Return the engine of that name, not started. Raises EngineUnavailableError with the text of its survey.

    An engine that only its start can refuse is returned; then the start raises the same.
    """
    if name not in _ENGINES:
        raise EngineUnavailableError(f"no such engine: {name!r}; there is {', '.join(_ENGINES)}")
    if name == ebpf.NAME and not helper_start.may_work():
        raise EngineUnavailableError(ebpf.survey().text())
    return _ENGINES[name]()
