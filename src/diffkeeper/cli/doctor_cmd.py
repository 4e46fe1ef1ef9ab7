"""``diffkeeper doctor``: tell whether and how this machine can record."""

from __future__ import annotations

import os
import platform

import click

from diffkeeper import engines, freezer
from diffkeeper.cli.options import DONE, json_option
from diffkeeper.errors import MissingFacilityError
from diffkeeper.reporters import escape, jsonl
from diffkeeper.reporters.output import standard
from diffkeeper.version import __version__


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Tell whether and how this machine can record, and what to do if it cannot.

    Exits with 13 if no engine can run.
    """
    surveys = engines.survey()
    output = standard("never")
    refusal = freezer.refusal(os.getpid())
    if as_json:
        for survey in surveys:
            jsonl.write_object("engine", jsonl.plain(survey), output)
        jsonl.write_object("holding", {"is_possible": not refusal, "reason": refusal}, output)
    else:
        output.line(_machine())
        for survey in surveys:
            output.line(escape.message(survey.text()))
        output.line(f"holding a command that is too fast: {escape.escaped(refusal) or 'possible'}")
    return DONE if any(survey.is_usable for survey in surveys) else MissingFacilityError.exit_code


def _machine() -> str:
    system = platform.uname()
    uid = os.geteuid() if hasattr(os, "geteuid") else -1
    user = "root" if uid == 0 else f"user {uid}" if uid > 0 else f"user {os.environ.get('USERNAME', '')}"
    return (
        f"diffkeeper {__version__}, Python {platform.python_version()}, {system.system} {system.release} "
        f"{system.machine}, as {user}"
    )
