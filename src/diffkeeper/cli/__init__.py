"""The command line: one file a command, loaded only when it is called, so that ``--help`` and ``record`` start fast.

This is the one place where an error becomes a message on standard error and an exit code: errors own their codes, bad
usage is 2, for ``record`` 125; Ctrl-C is 130; a reader of our output that has seen enough is no error.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence

import click

from diffkeeper.cli import settings
from diffkeeper.errors import DiffkeeperError, RecordError, UsageError
from diffkeeper.version import __version__

INTERNAL_ERROR = 70  # sysexits.h, EX_SOFTWARE
INTERRUPTED = 130
RECORD_FAILED = RecordError.exit_code

_COMMANDS = {
    "record": "Run a command and record every change to the files below a directory.",
    "timeline": "List what happened, in order.",
    "export": "Rebuild the files as they were at a moment.",
    "info": "Tell what a trace holds and whether it is complete.",
    "seal": "Finish what a recorder that was killed had begun.",
    "doctor": "Tell whether and how this machine can record.",
}


class LazyGroup(click.Group):
    """Find commands by name in modules of this package that are imported when they are called."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in the order of a first use."""
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        return load_command(name) if name in _COMMANDS else None

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Read what stands before the command; nothing at all is answered with the help."""
        if not args:
            click.echo(self.get_help(context), err=True)
            context.exit(UsageError.exit_code)
        return super().parse_args(context, args)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was called; a misspelt one is answered with the nearest."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib  # these two only where something is wrong: together 5 ms

            near = difflib.get_close_matches(args[0], _COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(_COMMANDS)}"
            context.fail(f"no command {args[0]!r}: {hint}")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, context: click.Context) -> object:
        """Run the command; its output is flushed here, where a closed pipe is understood."""
        try:
            result: object = super().invoke(context)
            sys.stdout.flush()
        except BrokenPipeError:
            _discard_output()
            return 0
        return result


def load_command(name: str) -> click.Command:
    """Import a command and let its options be given by environment variables."""
    command = importlib.import_module(f"diffkeeper.cli.{name}_cmd").command
    assert isinstance(command, click.Command)
    settings.name_variables(command)
    return command


def _print_version(context: click.Context, parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        click.echo(f"diffkeeper {__version__}")
        context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Record what a command does to files, and rebuild them as they were at any moment."""
    name = context.invoked_subcommand
    if name in _COMMANDS:
        context.default_map = {name: settings.for_command(load_command(name), os.getcwd())}


def run(args: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    is_record = next((arg for arg in args if not arg.startswith("-")), "") == "record"
    try:
        result = cli.main(list(args), prog_name="diffkeeper", standalone_mode=False)
    except click.ClickException as error:
        return _usage_failed(error, is_record)
    except UsageError as error:
        return _failed(str(error), RECORD_FAILED if is_record else error.exit_code)
    except DiffkeeperError as error:
        return _failed(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        import traceback

        traceback.print_exc()
        message = f"internal error, please report it with the lines above: {error!r}"
        return _failed(message, RECORD_FAILED if is_record else INTERNAL_ERROR)
    return result if isinstance(result, int) else 0


def _usage_failed(error: click.ClickException, is_record: bool) -> int:
    exit_code = RECORD_FAILED if is_record else error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "diffkeeper"
    words = " ".join(error.format_message().split()).rstrip(".")
    return _failed(f"{words}{'' if words.endswith('?') else '.'} Try '{path} --help'.", exit_code)


def _failed(message: str, exit_code: int) -> int:
    from diffkeeper.reporters.escape import message as printable  # only where there is something to print

    with contextlib.suppress(BrokenPipeError):
        click.echo(f"diffkeeper: {printable(message)}", err=True)
    return exit_code


def _discard_output() -> None:
    """Let the flush at exit go nowhere, so that Python does not complain of the closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
