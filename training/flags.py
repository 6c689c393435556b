"""Settings classes as command-line flags: a dataclass whose annotations carry each field's one-line description."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, TypeVar, get_type_hints

Settings = TypeVar("Settings")


def add_flags(parser: argparse.ArgumentParser, settings: type[Any], title: str) -> None:
    """One `--flag` for every field `name: Annotated[type, description] = default`, with its default in the help."""
    group = parser.add_argument_group(title)
    hints = get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        kind, description = hints[field.name].__origin__, hints[field.name].__metadata__[0]
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            default=field.default,
            metavar=kind.__name__.upper(),
            help=f"{description} (default: {field.default})",
        )


def from_flags(arguments: argparse.Namespace, settings: type[Settings]) -> Settings:
    """The settings that the parsed flags describe."""
    names = [field.name for field in dataclasses.fields(settings)]  # type: ignore[arg-type]
    return settings(**{name: getattr(arguments, name) for name in names})
