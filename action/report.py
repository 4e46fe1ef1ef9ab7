"""Tell what became of a recording: outputs for later steps, and the text of the job summary.

Runs in diffkeeper's own environment and asks the command line, as anybody could. Reads DK_HOME, DK_PROGRAM,
DK_STATE_DIR and DK_ARTIFACT; writes to GITHUB_OUTPUT.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

HOME = Path(os.environ["DK_HOME"])
STATE_DIR = os.environ["DK_STATE_DIR"]
ARTIFACT = os.environ.get("DK_ARTIFACT", "")
HELPER_ENDS_S = 1.5  # after its recorder was killed
LAST_CHANGE = re.compile(r"(\[.*)   <-- last change before [\w ]+")
NO_TRACE = {"complete": "", "events": "", "lost-events": "", "trace-path": "", "upload-path": "", "last-change": ""}


def main() -> None:
    """Write the outputs and the summary."""
    told = _told()
    outputs = {"exit-code": str(told.get("exit_code", "")), "kept": "false", **NO_TRACE}
    place = _place(told)
    if place is None:
        text = _without_trace(told)
    elif not _is_sealed(place):
        text = "## diffkeeper: the recorder was killed\n\nIts trace could not be sealed, and is not uploaded.\n"
    else:
        outputs |= _of_trace(place)
        text = _summary(place)
    summary = HOME / "summary.md"
    summary.write_text(text, encoding="utf-8")
    _say({**outputs, "summary": str(summary)})


def _told() -> dict[str, Any]:
    """Return what the recorder said last; nothing if it was killed, or never began."""
    try:
        lines = (HOME / "outcome").read_text().splitlines()
        return dict(json.loads(lines[-1])) if lines else {}
    except (OSError, ValueError):
        return {}


def _place(told: dict[str, Any]) -> Path | None:
    """Return the trace of this recording, None if it was not kept."""
    if told.get("type") == "attempts":
        path = told["failing"] or next(iter(reversed(told["kept"])), None)
        return None if path is None else Path(path)
    if told:
        return Path(told["trace"]) if told.get("kept") else None
    return Path(STATE_DIR).absolute() if (Path(STATE_DIR) / "session.json").exists() and _is_of_this_run() else None


def _is_of_this_run() -> bool:
    """Say whether the trace is later than this use of the action: a former one may be there."""
    return (Path(STATE_DIR) / "session.json").stat().st_mtime >= (HOME / "outcome").stat().st_ctime - 1


def _is_sealed(place: Path) -> bool:
    """Seal the trace of a recorder that was killed: until then it is large, and may hold what is excluded."""
    if _ask("info", "--json", str(place)).get("state") == "sealed":
        return True
    time.sleep(HELPER_ENDS_S)
    return subprocess.run([*_program(), "seal", str(place)], check=False).returncode == 0


def _of_trace(place: Path) -> dict[str, str]:
    info = _ask("info", "--json", str(place))
    counters = info.get("counters", {})
    return {
        "kept": "true",
        "complete": str(bool(info.get("is_complete"))).lower(),
        "events": str(info.get("events", "")),
        "lost-events": str(sum(count for name, count in counters.items() if name.startswith("lost_"))),
        "trace-path": str(place),
        "upload-path": os.path.abspath(STATE_DIR),
        "last-change": _last_change(),
    }


def _last_change() -> str:
    """Return the last change as the timeline prints it; names in it are escaped, so that it is one line."""
    lines = _run("info", "--format=markdown", "--state-dir", STATE_DIR).splitlines()
    marked = [match[1].rstrip() for match in map(LAST_CHANGE.fullmatch, lines) if match]
    return marked[-1] if marked else ""


def _summary(place: Path) -> str:
    text = _run("info", "--format=markdown", "--state-dir", STATE_DIR)
    run, repository = os.environ.get("GITHUB_RUN_ID", ""), os.environ.get("GITHUB_REPOSITORY", "")
    if ARTIFACT and run:
        fetch = ["gh", "run", "download", run, "--repo", repository, "--name", ARTIFACT, "--dir", STATE_DIR]
        text += f"\nAfter downloading it:\n\n{_block(' '.join(map(shlex.quote, fetch)))}\n"
    return text


def _without_trace(told: dict[str, Any]) -> str:
    if not told:
        return "## diffkeeper: not recorded\n\nThe recording did not begin; the step's log says why.\n"
    failed = f", {told['failed']} of {told['attempts']} attempts failed" if told.get("type") == "attempts" else ""
    why = "It was not recorded; the step's log says why." if told.get("type") == "unrecorded" else "No trace is kept."
    return f"## diffkeeper: exit {told['exit_code']}{failed}\n\n{why}\n"


def _program() -> list[str]:
    return [os.environ["DK_PROGRAM"]]


def _run(*arguments: str) -> str:
    result = subprocess.run([*_program(), *arguments], stdout=subprocess.PIPE, check=False)
    return result.stdout.decode("utf-8", "backslashreplace")


def _ask(*arguments: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_run(*arguments)))
    except ValueError:
        return {}


def _block(text: str) -> str:
    fence = "`" * 3
    while fence in text:
        fence += "`"
    return f"{fence}sh\n{text}\n{fence}"


def _say(outputs: dict[str, str]) -> None:
    """Give outputs to later steps, each behind a delimiter that no value can hold."""
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as file:
        for name, value in outputs.items():
            mark = f"end-{secrets.token_hex(16)}"
            file.write(f"{name}<<{mark}\n{value}\n{mark}\n")


main()
