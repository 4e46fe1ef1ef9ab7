"""Every session and program in the documents runs, and prints what the document says.

With DIFFKEEPER_UPDATE_DOCS set, the sessions are rewritten with what they print now, and the test passes.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

from docs import documents

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WITH_PROGRAMS = [path for path in DOCUMENTS if re.search(r"^```(console|python)$", path.read_text(), re.MULTILINE)]
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#]+)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.ebpf
@pytest.mark.parametrize("path", WITH_PROGRAMS, ids=name)
def test_what_a_document_shows_is_what_happens(path: Path, tmp_path: Path) -> None:
    document = path.read_text()
    if "demo/" in document:
        shutil.copytree(ROOT / "demo", tmp_path / "demo", ignore=shutil.ignore_patterns("__pycache__"))
    fresh, end = "", 0
    for block in documents.blocks(document):
        fresh += document[end : block.start]
        fresh += _run(block, tmp_path)
        end = block.end
    fresh += document[end:]
    if os.environ.get("DIFFKEEPER_UPDATE_DOCS"):
        path.write_text(fresh)
    else:
        assert documents.without_chance(fresh) == documents.without_chance(document)


def _run(block: documents.Block, place: Path) -> str:
    if block.language == "console":
        return documents.run_session(block.text, place)
    if block.language == "python":
        (place / "program.py").write_text(block.text)
        printed = documents.run(["python", "program.py"], place)
        assert "Traceback" not in printed, printed
    return block.text


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    broken = [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert broken == []
