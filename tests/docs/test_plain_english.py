"""Text for users is plain English: without the idioms of docs/style.md, which a reader has to read twice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from service.api.app import create_app
from service.settings import Settings
from tests.docs.idioms import IDIOMS, Idiom
from tests.docs.prose import Passage, docstrings_and_comments, error_sentences, help_texts, markdown, openapi
from tests.docs.test_pages import build_parser, parsers, serve_parser, train_parser

ROOT = Path(__file__).resolve().parents[2]
STYLE = ROOT / "docs" / "style.md"
PAGES = sorted(
    page
    for folder in (*(each for each in ROOT.iterdir() if each.is_dir()), ROOT)
    if folder == ROOT
    or folder.name == ".github"
    or not folder.name.startswith((".", "build", "output", "data", "shared"))
    for page in (folder.glob("*.md") if folder == ROOT else folder.rglob("*.md"))
    if page not in (STYLE, ROOT / "README.zh.md")
)
ROOMS = ("native", "model_build", "training", "service", "benchmarks", "release")
CODE = sorted(path for folder in ROOMS for path in (ROOT / folder).rglob("*.py"))
# Folders whose docstrings and comments are checked.
COMMENTED = (*ROOMS, "docs/_hooks", "tests/docs")
COMMENTS = sorted(path for folder in COMMENTED for path in (ROOT / folder).rglob("*.py") if path.name != "idioms.py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def idioms_in(passages: Iterable[Passage]) -> Iterator[str]:
    """A line for every idiom: where it is, its sentence, and what to write instead."""
    for passage in passages:
        for idiom in IDIOMS:
            for match in idiom.matches(passage.text):
                sentence = passage.sentence(*match.span())
                words = " ".join(match[0].split())
                place = f"{passage.place}:{passage.line_of(match.start())}"
                yield f'{place}: "{words}" in "{sentence}"; write: {idiom.write}'


def check(passages: Iterable[Passage]) -> None:
    found = list(idioms_in(passages))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=map(name_of, PAGES))
def test_a_page_is_plain_english(page: Path) -> None:
    check(markdown(page, name_of(page)))


COMMANDS = [
    pytest.param(command, parser, id=command.replace(" ", "-"))
    for script, made in (("ernie-serve", serve_parser), ("ernie-train", train_parser), ("ernie-build", build_parser))
    for command, parser in parsers(made(), script)
]


@pytest.mark.parametrize(("command", "parser"), COMMANDS)
def test_the_help_of_a_command_is_plain_english(command: str, parser: object) -> None:
    check(help_texts(command, parser))


def test_the_openapi_document_is_plain_english() -> None:
    check(openapi(create_app(Settings()).openapi()))


@pytest.mark.parametrize("path", CODE, ids=map(name_of, CODE))
def test_the_error_sentences_of_a_module_are_plain_english(path: Path) -> None:
    check(error_sentences(path, name_of(path)))


@pytest.mark.parametrize("path", COMMENTS, ids=map(name_of, COMMENTS))
def test_the_docstrings_and_comments_of_a_module_are_plain_english(path: Path) -> None:
    check(docstrings_and_comments(path, name_of(path)))


def test_every_example_on_the_style_page_is_an_idiom_and_what_it_recommends_is_not() -> None:
    rows = re.findall(r"^\| (?!-|instead of)([^|]+) \| ([^|]+) \|$", STYLE.read_text(encoding="utf-8"), re.MULTILINE)
    avoid = [example.strip() for cell, _ in rows for example in cell.split("; ")]
    write = [example.strip() for _, cell in rows for example in cell.split("; ")]
    assert len(avoid) >= len(IDIOMS)
    assert [example for example in avoid if not any(_occurs(idiom, example) for idiom in IDIOMS)] == []
    assert [idiom.pattern for idiom in IDIOMS if not any(_occurs(idiom, example) for example in avoid)] == []
    assert [example for example in write if any(_occurs(idiom, example) for idiom in IDIOMS)] == []


def _occurs(idiom: Idiom, text: str) -> bool:
    return any(idiom.matches(text))


@pytest.mark.parametrize(
    "text",
    [
        "There is no TLS, and the model is no longer served.",
        "It answers 2.8 times as many reviews, twice as many titles.",
        "Requests arrive at random times.",
        "The file has not arrived, and the key has not been read.",
        "two passes over the hidden states",
        "Clients who send many requests have rates that are over 100 requests/s.",
        "A model stands for a task, and each has its own engine of its own kind.",
        "`of its own` is code, and [a link](of/its/own) is a link.",
    ],
)
def test_right_uses_are_no_idioms(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert list(idioms_in(markdown(page, "page.md"))) == []


def test_a_failure_names_file_line_sentence_and_what_to_write(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\nThis is right. The parent is\ntold of it. So is this.\n", encoding="utf-8")
    (found,) = idioms_in(markdown(page, "page.md"))
    assert found.startswith('page.md:4: "told" in "The parent is told of it."; write: reports')
