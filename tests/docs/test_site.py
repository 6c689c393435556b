"""The documentation site, and the Chinese README compared with the English one."""

from __future__ import annotations

import argparse
import html.parser
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import service.settings
from training.cli import ernie_build, ernie_train

ROOT = Path(__file__).resolve().parent.parent.parent
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh.md"))
FETCHED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "manifest", "modulepreload"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the build fails on a link that leads nowhere and on a page that is missing."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed; the extra docs brings it")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return directory


class Elements(html.parser.HTMLParser):
    """Text, links, and the addresses that a browser loads automatically for a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.links, self.fetched = "", [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag == "link" and FETCHED_LINKS & set((given.get("rel") or "").split()):
            self.fetched.append(given.get("href") or "")
        self.fetched += [given[name] for name in ("src", "srcset", "data", "poster") if given.get(name)]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_setting_is_on_the_settings_page(site: Path) -> None:
    text = Elements(site / "reference/settings/index.html").text
    for name, field in service.settings.Settings.model_fields.items():
        flag = name.replace("_", "-")
        flags = f"--{flag}--no-{flag}" if field.annotation is bool else f"--{flag}"
        assert f"{flags}ERNIE_{name.upper()}\n" in text
        assert field.description in text


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from commands(below)


@pytest.mark.parametrize("parser", [ernie_train.parser(), ernie_build.parser()], ids=lambda parser: parser.prog)
def test_every_command_is_on_the_command_line_page_with_every_flag(site: Path, parser: argparse.ArgumentParser) -> None:
    text = Elements(site / "reference/command-line/index.html").text
    for command in commands(parser):
        _, heading, rest = text.partition(f"{command.prog}¶")
        assert heading, f"{command.prog} has no section"
        section = rest.partition("¶")[0]
        for action in command._actions:
            assert all(flag in section for flag in action.option_strings[:1] if action.dest != "help")


def test_the_reference_shows_what_docstrings_and_descriptions_of_fields_say(site: Path) -> None:
    names = ("native", "model_build", "training")
    pages = {name: Elements(site / f"reference/{name}/index.html").text for name in names}
    assert "makes every Chinese character a separate word" in pages["native"]
    assert "int64 [B, S] -> logits [B, S, num_labels]" in pages["model_build"]
    assert "optimiser steps; to extend a finished run" in pages["training"]


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        other = [url for url in Elements(page).fetched if re.match(r"(https?:)?//", url)]
        assert not other, f"{page.relative_to(site)} fetches {other}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_pages_beside_the_code_are_part_of_the_site_and_link_to_its_other_pages(site: Path) -> None:
    assert "../overload/" in Elements(site / "readme/index.html").links
    assert "../native/" in Elements(site / "zh/index.html").links
    assert "../readme/" in Elements(site / "zh/index.html").links
    assert "../training-in-depth/" in Elements(site / "training/index.html").links


def test_a_link_to_a_file_leads_to_a_page_that_shows_it(site: Path) -> None:
    assert "../../source/service/settings.py/" in Elements(site / "reference/settings/index.html").links
    shown = Elements(site / "source/service/settings.py/index.html").text
    assert (ROOT / "service/settings.py").read_text(encoding="utf-8").strip() in shown


def test_what_builds_the_site_is_no_part_of_it(site: Path) -> None:
    assert not [path for path in site.rglob("*") if "_hooks" in path.relative_to(site).parts]


def test_the_search_finds_chinese_words(site: Path) -> None:
    pytest.importorskip("jieba", reason="jieba is not installed; the extra docs brings it")
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    texts = [entry["text"] for entry in index["docs"] if entry["location"].startswith("zh/")]
    assert any("\u200b分词\u200b" in text for text in texts)
    assert not [entry for entry in index["docs"] if entry["location"].startswith("source/")]


def figures(text: str) -> list[str]:
    return [number.rstrip(".,") for number in re.findall(r"\d[\d,.]*", text)]


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table; `\\|` is part of a cell."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


def test_benchmarks_states_only_figures_that_stand_in_the_page_it_names() -> None:
    page = ROOT / "docs/benchmarks.md"
    checked = 0
    for first, *_, last in table_rows(page.read_text(encoding="utf-8")):
        if target := re.search(r"\]\(([^)#]+)", last):
            stated = (page.parent / target[1]).read_text(encoding="utf-8")
            assert set(figures(first)) <= set(figures(stated)), f"{first.strip()} differs from {target[1]}"
            checked += 1
    assert checked > 5


def code_blocks(text: str) -> list[str]:
    """Fenced code without comments, which are translated."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    return ["\n".join(re.sub(r"\s+# .*", "", line) for line in block.splitlines()) for block in blocks]


def sections(text: str) -> list[str]:
    return re.split(r"^#+ ", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE)


def test_the_chinese_readme_has_the_commands_of_the_english_one() -> None:
    english, chinese = (code_blocks(path.read_text(encoding="utf-8")) for path in (ENGLISH, CHINESE))
    assert english == chinese


def test_the_chinese_readme_has_the_tables_of_the_english_one() -> None:
    english, chinese = (table_rows(path.read_text(encoding="utf-8")) for path in (ENGLISH, CHINESE))
    assert len(english) == len(chinese)
    for row, translated in zip(english, chinese, strict=True):
        for mark in (figures, lambda cell: re.findall(r"`[^`]+`", cell), lambda cell: re.findall(r"\]\(.*?\)", cell)):
            assert [mark(cell) for cell in row] == [mark(cell) for cell in translated]


def test_the_chinese_readme_has_the_figures_and_the_code_words_of_the_english_one_in_every_section() -> None:
    english, chinese = (sections(path.read_text(encoding="utf-8")) for path in (ENGLISH, CHINESE))
    assert len(english) == len(chinese)
    for section, translated in zip(english, chinese, strict=True):
        assert Counter(figures(section)) == Counter(figures(translated)), translated.splitlines()[0]
        words = (Counter(re.findall(r"`[^`\n]+`", each)) for each in (section, translated))
        assert next(words) == next(words), translated.splitlines()[0]
