"""Command lines: subcommands that teach, and settings classes as flags.

A settings class is a dataclass whose annotations carry each field's one-line description.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")
Commands = Any
"""What `ArgumentParser.add_subparsers` gives; argparse has no public name for it."""


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None] | None, text: str, example: str
) -> argparse.ArgumentParser:
    """A subcommand that calls `run`; the help of its group shows `text` up to the first semicolon."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text.split(";")[0], description=f"{text[0].upper()}{text[1:]}.", epilog=f"example: {example}"
    )
    if run:
        made.set_defaults(run=run)
    return made


def add_flags(parser: argparse.ArgumentParser, settings: type[Any], title: str) -> None:
    """One `--flag` for every field `name: Annotated[type, description] = default`, with its default in the help.

    A bool gives `--flag` and `--no-flag`, a Literal the choice among its values.
    """
    group = parser.add_argument_group(title)
    hints = get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        kind, description = hints[field.name].__origin__, hints[field.name].__metadata__[0]
        flag = f"--{field.name.replace('_', '-')}"
        if kind is bool:
            made = group.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
            # Set afterwards: some versions of argparse add a default of their own to the text they are given.
            made.help = f"{description} (default: {'yes' if field.default else 'no'})"
            continue
        shape = {"choices": get_args(kind)} if get_origin(kind) is Literal else {"type": kind}
        if "type" in shape:
            shape["metavar"] = kind.__name__.upper()
        group.add_argument(flag, default=field.default, help=f"{description} (default: {field.default})", **shape)


def from_flags(arguments: argparse.Namespace, settings: type[Settings]) -> Settings:
    """The settings that the parsed flags describe."""
    names = [field.name for field in dataclasses.fields(settings)]  # type: ignore[arg-type]
    return settings(**{name: getattr(arguments, name) for name in names})
