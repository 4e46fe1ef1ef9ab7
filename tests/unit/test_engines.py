from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import pytest

from diffkeeper import engines, helper_start
from diffkeeper import helper_protocol as protocol
from diffkeeper.engines import ebpf
from diffkeeper.engines.protocol import EngineSurvey, ring_bytes_for
from diffkeeper.errors import EngineUnavailableError


def test_an_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(EngineUnavailableError, match="ebpf"):
        engines.choose("nonsense")


def test_every_engine_is_surveyed() -> None:
    assert [*(survey.name for survey in engines.survey()), engines.AUTO] == list(engines.names())


def test_a_refusal_names_cause_and_remedies() -> None:
    survey = EngineSurvey("ebpf", False, "there is no kernel", ("get a kernel",))
    assert survey.text().splitlines() == [
        "cannot record with ebpf: there is no kernel",
        "what would work:",
        "  get a kernel",
    ]


def test_choose_refuses_with_the_text_of_the_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper_start, "has_privileges", lambda: False)
    monkeypatch.setattr(helper_start, "has_program", lambda name: False)
    with pytest.raises(EngineUnavailableError) as refusal:
        engines.choose("ebpf")
    assert str(refusal.value) == ebpf.survey().text()
    assert "CAP_BPF" in str(refusal.value) or "built without" in str(refusal.value)


def test_without_password_and_terminal_the_refusal_shows_what_would_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ebpf, "_survey_platform", lambda: None)
    monkeypatch.setattr(helper_start, "has_privileges", lambda: False)
    monkeypatch.setattr(helper_start, "has_program", lambda name: True)
    monkeypatch.setattr(ebpf, "_sudo_works", lambda: False)
    monkeypatch.setattr(ebpf, "_has_terminal", lambda: False)
    survey = ebpf.survey()
    assert not survey.is_usable
    assert "password" in survey.reason
    assert "sudo diffkeeper record -- COMMAND" in survey.remedies


@pytest.mark.parametrize(("environment", "kind"), [({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes")])
def test_the_kind_of_container_is_named(environment: Mapping[str, str], kind: str) -> None:
    assert ebpf.container(environment) == kind


def test_the_helper_is_started_without_anything_that_a_user_can_slip_in() -> None:
    command = helper_start.helper_command(is_direct=False)
    assert command[:3] == ["sudo", "-n", "--"]
    assert {"-I", "-S", "-B"} <= set(command)
    assert command[-1] == "--detach"


@pytest.mark.parametrize(("gibibytes", "mebibytes"), [(0, 16), (1, 16), (4, 64), (7, 64), (24, 128), (500, 128)])
def test_the_ring_is_sized_from_the_machine(gibibytes: int, mebibytes: int) -> None:
    assert ring_bytes_for(gibibytes << 30) == mebibytes << 20


def test_a_helper_that_is_done_before_it_has_taken_more_segments_has_lost_nothing() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    engine, null = ebpf.EbpfEngine(), os.open(os.devnull, os.O_WRONLY)
    engine._connection = ours

    def feed(progress: ebpf.Progress) -> bool:
        theirs.close()
        engine.add_segments([(3, null)])
        return True

    protocol.send(theirs, protocol.progress_message("progress", ebpf.Progress(batches=1, filled=(1,))))
    protocol.send(theirs, protocol.progress_message("stopped", ebpf.Progress(batches=2, filled=(2,))))
    progress = engine.stop(feed)
    assert (progress.batches, tuple(progress.filled)) == (2, (1, 2))
    engine.close()
    os.close(null)
