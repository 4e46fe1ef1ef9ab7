from __future__ import annotations

from pathlib import Path

from benchmarks.pairs import Spread, differences, interleaved, ratios
from benchmarks.report import Limit, Section, write
from benchmarks.run import Run

PAGE = "".join(f"# {name}\n<!-- bench: {name} -->\n<!-- end of bench: {name} -->\n" for name in ("limits", "a", "b"))


def _section(name: str, measured: str, *, is_met: bool) -> Section:
    section = Section(name, ("what", "figure"), "Text.")
    section.add("something", measured)
    section.limits.append(Limit(f"limit of {name}", "2×", measured, is_met))
    return section


def test_rounds_take_turns_and_results_keep_their_places() -> None:
    order: list[str] = []

    def way(name: str) -> str:
        order.append(name)
        return name

    rounds = interleaved(3, lambda: way("plain"), lambda: way("recorded"))
    assert order == ["plain", "recorded", "recorded", "plain", "plain", "recorded"]
    assert rounds == [("plain", "recorded")] * 3


def test_ratios_are_of_pairs_and_not_of_medians() -> None:
    rounds = [(1.0, 2.0), (10.0, 10.0), (4.0, 12.0)]
    assert ratios(rounds, float) == Spread((2.0, 1.0, 3.0))
    assert differences(rounds, float).median == 1.0
    assert ratios(rounds, float).text() == "2.00 (1.00 to 3.00)"


def test_a_section_is_written_anew_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write(page, _section("a", "1.5×", is_met=True), "first", "")
    write(page, _section("b", "9.0×", is_met=False), "second", "a load of 7.0")
    write(page, _section("a", "1.6×", is_met=True), "third", "")
    text = page.read_text()
    assert "1.5×" not in text
    assert "first" not in text
    assert "| limit of a | 2× | 1.6× | yes |" in text
    assert "| limit of b | 2× | 9.0× | **no** (busy machine) |" in text
    assert text.index("third") < text.index("# b") < text.index("second")


def test_every_fault_of_a_recording_is_told() -> None:
    counters = {"lost_ring": 2, "inexact": 1, "unknown": 3, "ambiguous": 4, "unexplained": 5, "resynced": 6, "held": 7}
    run = Run(1.0, 1.0, 0, "", {"counters": counters, "complete": True})
    assert run.faults() == "2 lost, 1 inexact, 3 unknown, 4 ambiguous, 5 unexplained, 6 resynced, 7 held"
