"""Command lines: subcommands that teach, and settings classes as flags.

A settings class is a dataclass whose annotations carry each field's one-line description.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
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


def with_config(argv: Sequence[str]) -> list[str]:
    """The command line with the flags of the file that its `--config` names put before its own, which so win.

    The file is YAML (or JSON, which is YAML): names of flags without their dashes, values as one would type them, lists
    for those that take several, true and false for switches. Raises ValueError naming the file for anything else.
    """
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--config", type=Path)
    config = known.parse_known_args(list(argv))[0].config
    if config is None:
        return list(argv)
    import yaml

    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{config} must hold flags and their values, such as 'epochs: 3'.")
    flags: list[str] = []
    for name, value in values.items():
        flags += _as_flags(str(name).replace("_", "-"), value, config)
    return [argv[0], *flags, *argv[1:]]


def _as_flags(name: str, value: Any, config: Path) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    if isinstance(value, str | int | float):
        return [f"--{name}={value}"]
    raise ValueError(f"{config}: {name} must be a value or a list of values, not {value!r}.")


def write_flags(arguments: argparse.Namespace, path: Path) -> None:
    """What took effect, in the form that `with_config` reads."""
    import yaml

    values = {
        name: [str(each) if isinstance(each, Path) else each for each in value] if isinstance(value, list)
        else str(value) if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
        if name not in ("run", "config") and value not in (None, [])
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
