import json
import os
import re
import stat
from pathlib import Path

import pytest

from diffkeeper.errors import (
    DamagedTraceError,
    FormatTooNewError,
    NoSuchTraceError,
    StateDirectoryError,
)
from diffkeeper.model.event import Kind, Mark
from diffkeeper.model.verdict import _DOUBTS, _LOSSES
from diffkeeper.native import _LOST_CHANNELS
from diffkeeper.processing.totals import Totals
from diffkeeper.store import format as trace_format
from diffkeeper.store.format import (
    FORMAT_VERSION,
    Key,
    RootFacts,
    SessionFacts,
    TraceLock,
    parse_session,
    read_session,
    trace_state,
    write_session,
)
from diffkeeper.verification.result import Verification

DOCUMENT = Path(__file__).parents[2] / "docs" / "trace-format.md"
FACTS = SessionFacts(
    trace_id=2**64 - 1,
    argv=["cc", "-o", "a\udcff"],
    roots=[RootFacts("", "/work", 8 << 20 | 1, 2, 3)],
    counters={"events": 7},
    end_monotonic_ns=9,
)


def test_facts_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_session(tmp_path, FACTS)
    assert read_session(tmp_path) == FACTS


def test_a_key_that_this_release_does_not_know_is_kept(tmp_path: Path) -> None:
    document = json.loads(trace_format.dump_session(FACTS)) | {"colour": [1, 2]}
    (tmp_path / "session.json").write_text(json.dumps(document))
    facts = read_session(tmp_path)
    assert facts.extra == {"colour": [1, 2]}
    write_session(tmp_path, facts)
    assert json.loads((tmp_path / "session.json").read_bytes())["colour"] == [1, 2]


def test_session_json_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    write_session(tmp_path, FACTS)
    assert stat.S_IMODE((tmp_path / "session.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["session.json"]


def test_a_directory_without_session_json_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(NoSuchTraceError, match="diffkeeper record"):
        read_session(tmp_path)
    with pytest.raises(NoSuchTraceError):
        read_session(tmp_path / "missing")


def test_a_newer_format_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(FormatTooNewError, match="newer diffkeeper"):
        parse_session(json.dumps({"format": FORMAT_VERSION + 1, "other": "things"}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b"{}",
        b'{"format": "1"}',
        b'{"format": true}',
        b'{"format": 1, "state": "sealed"}',
        b'{"format": 1, "state": "eaten", "trace_id": 1}',
        b'{"format": 1, "state": "sealed", "trace_id": "1"}',
        b'{"format": 1, "state": "sealed", "trace_id": 1, "roots": [{"label": 1}]}',
        b'{"format": 1, "state": "sealed", "trace_id": 1, "counters": {"a": "b"}}',
    ],
)
def test_a_session_that_makes_no_sense_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedTraceError):
        parse_session(data)


def test_a_trace_is_recording_while_the_lock_is_held_and_broken_after(tmp_path: Path) -> None:
    write_session(tmp_path, FACTS)
    assert trace_state(tmp_path) == "broken"
    with TraceLock(tmp_path):
        assert trace_state(tmp_path) == "recording"
    assert trace_state(tmp_path) == "broken"
    FACTS_SEALED = SessionFacts(trace_id=1, state="sealed")
    write_session(tmp_path, FACTS_SEALED)
    assert trace_state(tmp_path) == "sealed"


def test_a_trace_that_is_being_recorded_cannot_be_locked_again(tmp_path: Path) -> None:
    with TraceLock(tmp_path), pytest.raises(StateDirectoryError, match="another process"):
        TraceLock(tmp_path)
    TraceLock(tmp_path).release()


def test_no_prefix_of_a_key_begins_another() -> None:
    prefixes = [value for name, value in vars(Key).items() if name.isupper()]
    assert len(prefixes) == 11
    for prefix in prefixes:
        assert not any(other.startswith(prefix) for other in prefixes if other is not prefix)


def test_the_document_of_the_format_names_every_key_and_fact() -> None:
    text = DOCUMENT.read_text()
    source = Path(trace_format.__file__).read_text()
    for line in re.findall(r'^    [A-Z]+ = b"[^"]+"  # (m:|c:)(\S+)', source, re.MULTILINE):
        assert "`" + "".join(line) in text, line
    for name in [*SessionFacts.__dataclass_fields__, *RootFacts.__dataclass_fields__]:
        assert name == "extra" or f"`{name}`" in text, name
    assert f"format {FORMAT_VERSION}" in text


def test_the_document_of_the_format_names_every_kind_and_mark_with_its_number() -> None:
    text = DOCUMENT.read_text()
    for member in (*Kind, *Mark):
        assert re.search(rf"\b{member.value} {member.name}\b", text), member


def test_the_document_of_the_format_names_every_counter() -> None:
    text = DOCUMENT.read_text()
    source = "".join(path.read_text() for path in Path(trace_format.__file__).parents[1].rglob("*.py"))
    named = set(re.findall(r'count(?:er)?s\[f?"([a-z_]+)"\] \+?=', source))
    counted = {*Totals().summary(), *Verification().counters(), *(f"lost_{channel}" for channel in _LOST_CHANNELS)}
    for name in named | counted | set(_LOSSES) | set(_DOUBTS):
        assert f"`{name}`" in text, name
