"""Any bytes into whatever reads a trace give a value or a clear error, and no export leaves its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.seeds import golden
from fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
SLOW = frozenset({"trace"})


def kept(target: str) -> list[Path]:
    return sorted((CORPUS / target).glob("*"))


@pytest.mark.parametrize("target", TARGETS)
def test_what_once_broke_a_reader_or_reached_new_code_gives_a_value_or_a_clear_error(target: str) -> None:
    for path in kept(target):
        TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_changed_bytes_of_the_corpus_give_a_value_or_a_clear_error(target: str) -> None:
    chance = random.Random(target)
    seeds = [path.read_bytes() for path in kept(target)] + golden(target)
    for seed in chance.choices(seeds, k=5 if target in SLOW else 300) if seeds else ():
        data = bytearray(seed)
        for _ in range(min(len(data), chance.randint(1, 4))):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
        TARGETS[target](bytes(data[: chance.choice((len(data), chance.randint(0, len(data))))]))


@pytest.mark.parametrize("target", ["decoder", "baseline", "journal", "session"])
def test_the_seeds_are_what_a_recording_wrote(target: str) -> None:
    assert len(golden(target)) > 0


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in SLOW])
@given(st.binary(max_size=1500))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_give_a_value_or_a_clear_error(target: str, data: bytes) -> None:
    TARGETS[target](data)


@given(st.binary(min_size=100, max_size=3000))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_trace_can_be_asked_and_exported_or_gives_a_clear_error(data: bytes) -> None:
    TARGETS["trace"](data)
