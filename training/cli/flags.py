"""Command lines: subcommands with descriptions and examples, and settings classes as flags.

A settings class is a dataclass whose annotations contain the one-line description of each field.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")
KINDS = {int: "a whole number", float: "a number"}
Commands = Any
"""The result of `ArgumentParser.add_subparsers`; argparse has no public name for its type."""


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], None] | None, text: str, example: str
) -> argparse.ArgumentParser:
    """A subcommand that calls `run`; the help of its group shows `text` up to the first semicolon or full stop."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=re.split(r"[;.] ", text)[0],
        description=f"{text[0].upper()}{text[1:]}.", epilog=f"example: {example}",
        allow_abbrev=False,
    )  # fmt: skip
    if run:
        made.set_defaults(run=run)
    return made


def add_flags(parser: argparse.ArgumentParser, settings: type[Any], title: str) -> None:
    """One `--flag` for every field `name: Annotated[type, description] = default`, with its default in the help.

    A bool gives `--flag` and `--no-flag`, a Literal the choice among its values.
    """
    group = parser.add_argument_group(title)
    for field in _fields(settings):
        _add_flag(group, field, field.default, f"{field.description} (default: {_shown(field.default)})")


def add_flags_of_ways(parser: argparse.ArgumentParser, ways: Mapping[str, Sequence[type[Any]]]) -> None:
    """Adds the flags of a command that works in one of several ways, each with its own settings; see `from_ways`.

    A flag of several ways is one flag, and its help gives meaning and default for each way.
    """
    found: dict[str, dict[str, _Field]] = {}
    for way, classes in ways.items():
        for field in (field for settings in classes for field in _fields(settings)):
            found.setdefault(field.name, {})[way] = field
    groups: dict[str, Any] = {}
    for having in found.values():
        title = ", and ".join(having)
        group = groups.get(title) or groups.setdefault(title, parser.add_argument_group(title))
        texts = [f"{field.description} (default: {_shown(field.default)})" for field in having.values()]
        if len(set(texts)) > 1:
            texts = [f"{way}: {text}" for way, text in zip(having, texts, strict=True)]
        _add_flag(group, next(iter(having.values())), None, "; ".join(dict.fromkeys(texts)))


def from_ways(arguments: argparse.Namespace, ways: Mapping[str, Sequence[type[Any]]], way: str) -> list[Any]:
    """The settings of a way; writes effective values into `arguments`. Raises ValueError for a flag of another way."""
    own = {field.name for settings in ways[way] for field in _fields(settings)}
    for other, classes in ways.items():
        for field in (field for settings in classes for field in _fields(settings)):
            if field.name not in own and getattr(arguments, field.name) is not None:
                raise ValueError(f"--{field.name.replace('_', '-')} is for {other}, not for {way}; leave it out.")
    made = [from_flags(arguments, settings) for settings in ways[way]]
    for settings in made:
        vars(arguments).update(dataclasses.asdict(settings))
    return made


@dataclasses.dataclass(frozen=True)
class _Field:
    name: str
    kind: Any
    description: str
    default: Any


def _fields(settings: type[Any]) -> list[_Field]:
    hints = get_type_hints(settings, include_extras=True)
    return [
        _Field(field.name, hints[field.name].__origin__, hints[field.name].__metadata__[0], field.default)
        for field in dataclasses.fields(settings)
    ]


def _shown(default: Any) -> str:
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default) or "empty"


def _add_flag(group: Any, field: _Field, default: Any, text: str) -> None:
    flag = f"--{field.name.replace('_', '-')}"
    if field.kind is bool:
        made = group.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        made.help = text  # set afterwards: some versions of argparse append a default to a help text that they receive
        return
    shape = {"choices": get_args(field.kind)} if get_origin(field.kind) is Literal else {"type": field.kind}
    if "type" in shape:
        shape["metavar"] = field.kind.__name__.upper()
    group.add_argument(flag, default=default, help=text, **shape)


def from_flags(arguments: argparse.Namespace, settings: type[Settings]) -> Settings:
    """The settings from the parsed flags, with the defaults of the class for flags that were not given."""
    given = {field.name: getattr(arguments, field.name) for field in _fields(settings)}
    return settings(**{name: value for name, value in given.items() if value is not None})


def with_config(argv: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The command line with the flags of the `--config` file inserted before its own flags, which take precedence.

    The file is YAML (or JSON, which is YAML): names of flags without dashes, values as on the command line, lists for
    flags that take several values, true and false for boolean flags. Raises ValueError, which names the file, for
    anything else, and for flags that the command of `parser` lacks.
    """
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("--config", type=Path)
    config = known.parse_known_args(list(argv))[0].config
    flags_known = _flags_of(parser, argv[0]) if argv else {}
    if config is None or "--config" not in flags_known:
        return list(argv)
    import yaml

    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{config} is not UTF-8: {error.reason} at byte {error.start}.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{config} must contain flags and their values, such as 'epochs: 3'.")
    flags: list[str] = []
    for name, value in values.items():
        flag = f"--{str(name).replace('_', '-')}"
        if flag not in flags_known or flag in ("--config", "--help"):
            raise ValueError(f"{config}: {name} is not a flag of {argv[0]}; `ernie-train {argv[0]} --help` lists them.")
        flags += _as_flags(flag, value, flags_known[flag], f"{config}: {name}")
    return [argv[0], *flags, *argv[1:]]


def _flags_of(parser: argparse.ArgumentParser, command: str) -> dict[str, argparse.Action]:
    """The flags of a command by name; empty for an unknown command. argparse has no public access to them."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    found = [group.choices[command] for group in groups if command in group.choices]
    return {flag: action for each in found for action in each._actions for flag in action.option_strings}


def _as_flags(flag: str, value: Any, action: argparse.Action, where: str) -> list[str]:
    """The flag and its value as command-line words. Raises ValueError, which begins with `where`, if invalid."""
    if value is None:
        return []
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise ValueError(f"{where} must be true or false, not {value!r}.")
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, list) and action.nargs != "+":
        raise ValueError(f"{where} takes one value, not {value!r}.")
    given = value if isinstance(value, list) else [value]
    for each in given:
        _check_kind(each, action, where)
    return [flag, *map(str, given)] if action.nargs == "+" else [f"{flag}={value}"]


def _check_kind(value: Any, action: argparse.Action, where: str) -> None:
    kind: Any = action.type or str
    try:
        made = kind(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except ValueError:
        made = None
    if made is None or (action.choices and made not in action.choices):
        wanted = f"one of {', '.join(map(str, action.choices))}" if action.choices else KINDS.get(kind, "text")
        raise ValueError(f"{where} must be {wanted}, not {value!r}.")


def flag_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """The effective flags by name, in the format that `with_config` reads."""
    return {
        name: [str(each) if isinstance(each, Path) else each for each in value] if isinstance(value, list)
        else str(value) if isinstance(value, Path) else value
        for name, value in vars(arguments).items()
        if name not in ("run", "config") and value not in (None, [])
    }  # fmt: skip
