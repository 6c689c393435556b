"""Tables of settings and of command lines, made from the code, in pages that contain `<!-- made: settings -->`."""

from __future__ import annotations

import argparse
import contextlib
import html
import io
from collections.abc import Callable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

import service.engine.bench_runtimes
import service.settings
import training.cli.ernie_build
import training.cli.ernie_train


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replaces each comment with its table."""
    for name, make in MADE.items():
        mark = f"<!-- made: {name} -->"
        if mark in markdown:
            made = "\n".join(make())
            markdown = markdown.replace(mark, f'<div class="flags" markdown>\n\n{made}\n\n</div>')
            page.meta["hide"] = ["toc"] if name == "settings" else []  # its table needs the width
    return markdown


KINDS = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number", "string": "text"}


def settings() -> Iterator[str]:
    """A table with a row for every field of the service's `Settings`."""
    yield "| flag and environment variable | values | default | |"
    yield "|---|---|---|---|"
    for name, schema in service.settings.Settings.model_json_schema()["properties"].items():
        flag = name.replace("_", "-")
        names = [
            f"`--{flag}`",
            *([f"`--no-{flag}`"] if schema.get("type") == "boolean" else []),
            f"`ERNIE_{name.upper()}`",
        ]
        shown = default(schema.get("default"))
        yield f"| {'<br>'.join(names)} | {values(schema)} | {shown} | {text(schema['description'])} |"


def values(schema: dict[str, Any]) -> str:
    """The values that a setting can have, in words, from its JSON schema."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = next((each for each in schema.get("anyOf", ()) if each["type"] != "null"), schema)
    if kind.get("format") in ("path", "password"):
        return {"path": "path", "password": "text, kept secret"}[kind["format"]]
    bounds = [
        f"{word} {kind[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in kind
    ]
    return " ".join([KINDS[kind["type"]], *bounds])


def default(value: Any) -> str:
    """A default as code; `none` if there is none."""
    if value is None or value == "":
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def command_lines() -> Iterator[str]:
    """A section for every command of the three console scripts; the settings of `ernie-serve` have their own page."""
    for parser in (training.cli.ernie_train.parser(), training.cli.ernie_build.parser()):
        yield from command(parser)
    server = service.settings.parser()
    yield from head(server, 2)
    yield "Its flags are the [settings](settings.md).\n"
    yield f"### ernie-serve bench-runtimes\n\n```text\n{help_of(service.engine.bench_runtimes.main)}```"


def command(parser: argparse.ArgumentParser, depth: int = 2) -> Iterator[str]:
    """The sections of a command and of its subcommands. argparse has no public interface to read a parser."""
    yield from head(parser, depth)
    for group in parser._action_groups:
        rows = [row for action in group._group_actions for row in argument(action)]
        if rows:
            named = {"positional arguments": "argument", "options": "flag"}.get(group.title or "", group.title)
            yield "\n".join([f"| {named} | |", "|---|---|", *rows, ""])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from command(below, 3)


def head(parser: argparse.ArgumentParser, depth: int) -> Iterator[str]:
    """Heading, description and example of a command."""
    yield f"{'#' * depth} {parser.prog}"
    yield f"\n{text(parser.description or '')}\n"
    epilog = parser.epilog or ""
    example = epilog.removeprefix("example: ")
    yield f"{text(epilog)}\n" if example == epilog else f"```sh\n{example}\n```\n"


def argument(action: argparse.Action) -> Iterator[str]:
    """The row of one argument."""
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
        return
    words = list(action.option_strings)
    if not words or (action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction)):
        choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else None
        shown = choices or action.metavar or (action.dest.upper() if words else action.dest)
        words.append(f"{shown} …" if action.nargs in ("+", "*") else str(shown))
    required = "; required" if action.option_strings and action.required else ""
    yield f"| `{' '.join(words)}` | {text(action.help or '')}{required} |"


def help_of(main: Callable[[list[str]], int]) -> str:
    """The output of a command's `--help`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main(["--help"])
    return printed.getvalue()


def text(words: str) -> str:
    """Help text in a Markdown table: code stays code, and everything else is literal text."""
    pieces = words.split("`")
    plain = [html.escape(piece).replace("|", "&#124;").replace("*", "&#42;") for piece in pieces[::2]]
    code = [f"`{piece}`" for piece in pieces[1::2]]
    return "".join(piece for pair in zip(plain, [*code, ""], strict=True) for piece in pair)


MADE: dict[str, Callable[[], Iterator[str]]] = {"settings": settings, "command lines": command_lines}
