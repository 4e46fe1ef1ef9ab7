"""``diffkeeper seal``: finish what a recorder that was killed had begun."""

from __future__ import annotations

from pathlib import Path

import click

from diffkeeper.cli.options import DONE, json_option, say, talk_options, trace_options, trace_path
from diffkeeper.finishing import finish
from diffkeeper.reporters import jsonl
from diffkeeper.reporters.output import standard
from diffkeeper.store.attempts import chosen_attempt


@click.command("seal")
@trace_options
@json_option
@talk_options
def command(trace: str | None, state_dir: str, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Process and seal a trace whose recorder was killed.

    It is then smaller, quick to read, and without what was excluded, so that it can be given away. It will never call
    itself complete. A trace that is sealed already is left as it is.
    """
    place = chosen_attempt(Path(trace_path(trace, state_dir)))
    was_open = finish(place)
    if as_json:
        jsonl.write_object("seal", {"trace": str(place), "sealed_now": was_open}, standard())
    elif was_open or verbose:
        say(f"{place} is sealed" if was_open else f"{place} was sealed already", quiet)
    return DONE
