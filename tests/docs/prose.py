"""The English of the repository: of its pages, its help, its OpenAPI document, its error sentences and its code."""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^(?P<indent> *)(?:```|~~~).*?^(?P=indent)(?:```|~~~)\s*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?:^|\s)# (?P<text>.*)$", re.MULTILINE)
_NOT_PROSE = re.compile(r"`[^`]*`|\]\([^)\s]*\)|<!--.*?-->|<[^>\n]+>|https?://\S+|“[^”\n]*”", re.DOTALL)
_BLOCK_END = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*#|]|\d+\. ))|(?<!\\)\|")
_SENTENCE_END = re.compile(r"[.!?:](?=\s)|\n\s*\n")
SPEAKING_CALLS = {"debug", "info", "warning", "error", "exception", "critical", "warn", "exit", "SystemExit", "Problem"}


@dataclass(frozen=True)
class Passage:
    """A piece of prose and where it is; code and links in it are blank."""

    place: str
    line: int
    text: str

    def sentence(self, begin: int, end: int) -> str:
        """The sentence around a match."""
        ends = [match.end() for match in _SENTENCE_END.finditer(self.text)]
        first = max((each for each in ends if each <= begin), default=0)
        last = min((each for each in ends if each >= end), default=len(self.text))
        return " ".join(re.sub(r"^\s*#+ .*\n", "", self.text[first:last]).split())

    def line_of(self, begin: int) -> int:
        """The line of the file in which a match begins."""
        return self.line + self.text.count("\n", 0, begin)


def markdown(path: Path, place: str) -> Iterator[Passage]:
    """Every paragraph, cell and list item of a page, and the comments of its code blocks."""
    source = path.read_text(encoding="utf-8")
    prose = _NOT_PROSE.sub(_blank, _FENCE.sub(_comments_only, source))
    begin = 0
    for end in [*_BLOCK_END.finditer(prose), None]:
        text = prose[begin : end.start() if end else len(prose)]
        if text.strip():
            yield Passage(place, prose.count("\n", 0, begin) + 1, text)
        begin = end.end() if end else len(prose)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", "\N{MIDDLE DOT}", match[0])


def _comments_only(fence: re.Match[str]) -> str:
    """A code block whose lines hold nothing but their comments, apart from each other."""
    lines = []
    for line in fence[0].split("\n"):
        comment = _COMMENT.search(line)
        lines.append(f"- {comment['text']}" if comment else "")
    return "\n".join(lines)


def help_texts(command: str, parser: argparse.ArgumentParser) -> Iterator[Passage]:
    """Description, epilog and the help of every argument of one command."""
    for text in (parser.description, parser.epilog):
        if text:
            yield _passage(f"{command} --help", text)
    for group in parser._action_groups:
        yield from (_passage(f"{command} --help", text) for text in (group.title, group.description) if text)
    for action in parser._actions:
        if action.help and action.help is not argparse.SUPPRESS:
            yield _passage(f"{command} --help, {'/'.join(action.option_strings) or action.dest}", action.help)
        if isinstance(action, argparse._SubParsersAction):
            yield from (_passage(f"{command} --help", each.help) for each in action._choices_actions if each.help)


def openapi(document: Any, place: str = "OpenAPI") -> Iterator[Passage]:
    """Every title, summary and description."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in ("summary", "description", "title") and isinstance(value, str):
                yield _passage(f"{place}.{key}", value)
            else:
                yield from openapi(value, f"{place}.{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from openapi(value, f"{place}[{index}]")


def _passage(place: str, text: str) -> Passage:
    return Passage(place, 1, _NOT_PROSE.sub(_blank, text))


def error_sentences(path: Path, place: str) -> Iterator[Passage]:
    """Strings that a user may read: of exceptions that are raised, problems, log calls, warnings and exits."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    raised = [node.exc for node in nodes if isinstance(node, ast.Raise)]
    for call in nodes:
        if isinstance(call, ast.Call) and (call in raised or _name(call.func) in SPEAKING_CALLS):
            for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
                if text := text_of(argument):
                    yield Passage(place, argument.lineno, _NOT_PROSE.sub(_blank, text))


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def text_of(node: ast.expr) -> str:
    """The text of a string, with a dot for each value that is formatted into it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "\N{MIDDLE DOT}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return text_of(node.left) + (text_of(node.right) if isinstance(node.op, ast.Add) else "")
    if isinstance(node, ast.IfExp):
        return f"{text_of(node.body)}\n\n{text_of(node.orelse)}"
    return ""


def docstrings_and_comments(path: Path, place: str) -> Iterator[Passage]:
    """What the code says of itself; comments in successive lines are one passage."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield Passage(place, node.lineno, _NOT_PROSE.sub(_blank, node.value.value))
    lines: list[str] = []
    begin = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] != begin + len(lines):
                yield Passage(place, begin, _NOT_PROSE.sub(_blank, "\n".join(lines)))
                lines = []
            begin = begin if lines else token.start[0]
            lines.append(token.string.lstrip("#: "))
    if lines:
        yield Passage(place, begin, _NOT_PROSE.sub(_blank, "\n".join(lines)))
