"""Where options come from when they are not given: DIFFKEEPER_* variables, then [tool.diffkeeper] in pyproject.toml.

Every option of every command has its variable, named after it, and its key: in ``[tool.diffkeeper]`` for all commands
that have such an option, or in ``[tool.diffkeeper.COMMAND]`` for one. Relative paths in the file start at the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from diffkeeper.errors import UsageError

_TABLE = "diffkeeper"
_PATHS = frozenset({"base", "state_dir", "watch"})
_NOT_SETTINGS = frozenset({"help", "version"})


def name_variables(command: click.Command) -> None:
    """Let every option of a command be given by a variable of its name."""
    for name, option in _options(command).items():
        if option.envvar is None:
            option.envvar = f"DIFFKEEPER_{name.upper()}"


def for_command(command: click.Command, folder: str) -> dict[str, Any]:
    """Return what the nearest pyproject.toml at or above a folder says of a command's options.

    Raises UsageError for a file that cannot be read and for keys that the command does not know in its own table.
    """
    path, table = _find(folder)
    if not path:
        return {}
    own = table.get(command.name or "", {})
    if not isinstance(own, dict):
        raise UsageError(f"{path}: [tool.diffkeeper.{command.name}] must be a table")
    options = _options(command)
    unknown = [key for key in own if _name(key) not in options]
    if unknown:
        raise UsageError(f"{path}: diffkeeper {command.name} has no option {unknown[0]!r}")
    given = {_name(key): value for key, value in table.items() if _name(key) in options}
    given |= {_name(key): value for key, value in own.items()}
    return {options[name].name or "": _value(path, name, value, options[name]) for name, value in given.items()}


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by their long names, as ``state_dir`` for ``--state-dir``."""
    options = {_name(max(one.opts, key=len)): one for one in command.params if isinstance(one, click.Option)}
    return {name: option for name, option in options.items() if name not in _NOT_SETTINGS}


def _name(key: str) -> str:
    return key.lstrip("-").replace("-", "_")


def _value(path: str, name: str, value: object, option: click.Option) -> object:
    if isinstance(value, Mapping):
        raise UsageError(f"{path}: {name} must be a value, not a table")
    if isinstance(value, list) and not option.multiple:
        raise UsageError(f"{path}: {name} takes one value")
    values = value if isinstance(value, list) else [value]
    if name in _PATHS:
        values = [os.path.join(os.path.dirname(path), str(one)) for one in values]
    return values if option.multiple else values[0]


def _find(folder: str) -> tuple[str, dict[str, Any]]:
    while True:
        path = os.path.join(folder, "pyproject.toml")
        table = _read(path)
        if table is not None:
            return path, table
        above = os.path.dirname(folder)
        if above == folder:
            return "", {}
        folder = above


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return None
    if b"diffkeeper" not in content:
        return None  # most files: no need to parse, nor to load the parser
    import tomllib

    try:
        table = tomllib.loads(content.decode("utf-8")).get("tool", {}).get(_TABLE)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return table if isinstance(table, dict) else None
