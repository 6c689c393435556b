"""Everything that the pages name exists: targets of links, settings, flags and metrics."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.metrics import Metrics
from service.settings import Settings
from service.settings import parser as serve_parser
from training.cli.ernie_build import parser as build_parser
from training.cli.ernie_train import parser as train_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted({*ROOT.glob("docs/**/*.md"), *ROOT.glob("README*.md"), *ROOT.glob("[!.]*/README*.md")})
PAGES += [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*(?P<target>[^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*#*$", re.MULTILINE)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


pages = pytest.mark.parametrize("page", PAGES, ids=map(name_of, PAGES))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings: lower case, spaces as hyphens, no punctuation, and repeated ones counted."""
    source = page.read_text(encoding="utf-8")
    found = set(re.findall(r"<[^>]+\bid=\"([^\"]+)\"", source))
    for title in HEADING.findall(FENCED.sub("", source)):
        shown = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        ends = itertools.chain([""], (f"-{number}" for number in itertools.count(1)))
        found.add(next(f"{slug}{end}" for end in ends if f"{slug}{end}" not in found))
    return found


@pages
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page: Path) -> None:
    prose = CODE.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for target in LINK.findall(prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            broken.append(f"{target}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            broken.append(f"{target}: no such heading")
    assert not broken


@pages
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"\bERNIE_[A-Z0-9_]*[A-Z0-9]\b(?!\*)", page.read_text(encoding="utf-8"))
    unknown = set(named) - {f"ERNIE_{name.upper()}" for name in Settings.model_fields}
    assert not unknown


def parsers(parser: argparse.ArgumentParser, command: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those of its subcommands, by the words that a command line begins with."""
    yield command, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from parsers(sub, f"{command} {name}")


OWN = {
    words: {flag for action in parser._actions for flag in action.option_strings}
    for script, made in (("ernie-serve", serve_parser), ("ernie-train", train_parser), ("ernie-build", build_parser))
    for words, parser in parsers(made(), script)
}
# It has a parser inside its module.
BENCH_RUNTIMES = set(
    re.findall(r'"(--[a-z-]+)"', (ROOT / "service" / "engine" / "bench_runtimes.py").read_text(encoding="utf-8"))
)
BENCHMARKS = {
    flag
    for module in ROOT.glob("benchmarks/**/*.py")
    for flag in re.findall(r'"(--[a-z0-9-]+)"', module.read_text(encoding="utf-8"))
}


def command_lines(source: str) -> Iterator[tuple[str, list[str]]]:
    """Each use of one of the console scripts in a block: its words up to the subcommand, and its flags."""
    for block in FENCED.findall(source):
        text = re.sub(r"#.*", "", block.replace("\\\n", " "))
        for line in re.findall(r"\b(ernie-(?:serve|train|build)\b[^\n|;&)`]*)", text):
            words = line.split()
            known = [words[0]]
            while len(known) < len(words) and " ".join([*known, words[len(known)]]) in OWN:
                known.append(words[len(known)])
            yield line, [" ".join(known), *re.findall(r"(?<!\S)--[a-z0-9_-]+", line)]


@pages
def test_every_flag_in_a_command_is_one_of_that_command(page: Path) -> None:
    unknown = []
    for line, (command, *flags) in command_lines(page.read_text(encoding="utf-8")):
        known = BENCH_RUNTIMES if "bench-runtimes" in line else OWN[command]
        unknown += [f"{flag} in {line!r}" for flag in flags if flag not in {*known, "--help"}]
    assert not unknown


@pages
def test_every_flag_in_running_text_exists(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    # A flag alone, or after one of our commands.
    codes = [code for code in CODE.findall(prose) if re.match(r"`(?:--|ernie-|python -m benchmarks)", code)]
    named = {flag for code in codes for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*", code)}
    if page.parent.name == "docker":
        named -= {"--build-arg", "--format", "--init", "--time", "--volume"}  # of docker and buildah
    unknown = named - set().union(*OWN.values(), BENCH_RUNTIMES, BENCHMARKS, {"--help"})
    assert not unknown


@pages
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    registry = Metrics([]).registry
    exposed = {metric.name for metric in registry.collect()}
    named = re.findall(r"(?<![\w:.])ernie_[a-z_]+\b(?!\()", page.read_text(encoding="utf-8"))
    unknown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in named} - exposed - {"ernie_", "ernie_zh"}
    assert not unknown
