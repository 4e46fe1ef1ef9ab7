"""The Markdown of a trace: what it says, and that nothing in it is interpreted."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from diffkeeper.cli import run as diffkeeper
from diffkeeper.reporters.markdown import block, code
from scripts import Script, begin_trace, seal, write_ring

HOSTILE = ["`", "``` x", "a`b``c", "<b>", "[x](y)", "# h", "a\nb", "````\n# out", "~~~", "", "`" * 50]


@pytest.mark.parametrize("text", HOSTILE)
def test_code_in_a_line_is_one_piece_of_code(text: str) -> None:
    (paragraph,) = [token for token in MarkdownIt().parse(f"see {code(text)} there") if token.type == "inline"]
    assert [child.type for child in paragraph.children or ()] == ["text", "code_inline", "text"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_block_is_one_block(text: str) -> None:
    tokens = MarkdownIt().parse(f"{block(f'[00m:00s] {text}')}\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]


def test_a_line_is_shortened_before_it_fills_the_summary() -> None:
    assert len(block("x" * 10_000)) < 400


def _trace(tmp_path: Path, **facts: object) -> Path:
    script = Script()
    script.save("status.log", b"INIT")
    for number in range(15):
        script.create(f"f{number}")
    script.at(2).save("status.log", b"LOST")
    trace = tmp_path / "trace"
    begun = begin_trace(trace, Script(), **facts)
    write_ring(trace, script.observations)
    seal(trace, begun, processed=False)
    return trace


def test_it_has_verdict_completeness_ten_changes_and_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trace = _trace(tmp_path)
    assert diffkeeper(["info", "--format", "markdown", "-s", str(trace)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("## diffkeeper: exit 1\n\n`sh -c work` made ")
    assert "**The trace is complete.** Recorded with `scripted`." in printed
    rows = [line for line in printed.splitlines() if line.startswith("[00m:")]
    assert len(rows) == 10
    assert rows[-1].startswith("[00m:02s] WRITE    status.log (4B)")
    assert rows[-1].endswith("<-- last change before exit 1")
    assert f"diffkeeper timeline --state-dir={trace} --last 20" in printed


def test_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trace = _trace(tmp_path, engine_facts={"failures": ["`the` <disk> was full"]})
    diffkeeper(["info", "--format", "markdown", "-s", str(trace)])
    printed = capsys.readouterr().out
    assert "**The trace is not complete.**" in printed
    assert "\n`the` <disk> was full\n" in printed.split("```text")[1]
