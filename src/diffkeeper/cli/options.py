"""Options that several commands share, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from diffkeeper.errors import UsageError
from diffkeeper.model.positions import Extent, parse_position

if TYPE_CHECKING:  # doctor must answer without a store
    pass

DEFAULT_TRACE = "diffkeeper-trace"
DONE = 0
NO = 1
INCOMPLETE = 3

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def trace_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take the trace as ``-s DIR`` or as an argument; ``trace_path`` tells which."""
    function = click.argument("trace", required=False, metavar="[TRACE]")(function)
    return click.option(
        "-s", "--state-dir", metavar="DIR", default=DEFAULT_TRACE, show_default=True, help="The trace to read."
    )(function)


def talk_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take ``-q`` and ``-v``: how much is said on standard error."""
    function = click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")(function)
    return click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on standard error.")(function)


json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Write JSON Lines.")
color_option: Decorator = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours; auto asks FORCE_COLOR, NO_COLOR and the terminal.",
)


def trace_path(trace: str | None, state_dir: str) -> str:
    """Return the trace that was meant; raises UsageError if two were given."""
    source = click.get_current_context().get_parameter_source("state_dir")
    if trace is not None and source is click.core.ParameterSource.COMMANDLINE and trace != state_dir:
        raise UsageError(f"two traces were given, {state_dir!r} and {trace!r}: write one of them")
    return state_dir if trace is None else trace


def say(message: str, quiet: bool = False) -> None:
    """Write a message to standard error unless quiet."""
    from diffkeeper.reporters.escape import message as printable

    if not quiet:
        click.echo(f"diffkeeper: {printable(message)}", err=True)


def announcer(quiet: bool) -> Callable[[str], None]:
    """Return what says lines on standard error unless quiet."""
    return lambda line: say(line, quiet)


def resolve(text: str, extent: Extent, quiet: bool) -> int:
    """Return the event after which the state is meant; says so if it is not quite what was asked for."""
    cut = parse_position(text).resolve(extent)
    if cut.note:
        say(cut.note, quiet)
    return cut.number
