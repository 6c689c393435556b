"""The pages of docs/learn: their examples print what the pages show, and the names and files in them exist."""

import pkgutil
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sybil.document import Document
from sybil.example import SybilFailure
from sybil.parsers.markdown import PythonCodeBlockParser

from training.cli.ernie_train import main as ernie_train

ROOT = Path(__file__).resolve().parents[2]
LEARN = ROOT / "docs" / "learn"
PAGES = sorted(LEARN.glob("*.md"))
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
DOTTED = re.compile(r"(native|model_build|training|service|paddle|paddlenlp)(\.\w+)+")
IN_FILE = re.compile(r"((?:native|model_build|training|service|tests|docs|models)/[\w./-]*\w)(?::(\w+))?")


def run(page: Path) -> int:
    """Runs the examples of a page in order, in one namespace; returns their number.

    Raises SybilFailure if an example prints something else.
    """
    examples = list(Document.parse(str(page), PythonCodeBlockParser()))
    for example in examples:
        example.evaluate()
    return len(examples)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def anchors(page: Path) -> set[str]:
    """The ids of the headings in MkDocs and on GitHub."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert run(page) > 5


@pytest.mark.parametrize(
    "lines", [">>> 2 + 2\n5", ">>> 2 + 2", ">>> x = 4\n4", ">>> undefined"], ids=["other", "more", "less", "error"]
)
def test_a_wrong_output_fails(lines: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n```python\n{lines}\n```\n", encoding="utf-8")
    with pytest.raises(SybilFailure):
        run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_python_block_begins_with_a_prompt(page: Path) -> None:
    # A block without a prompt would run, but its output would not be compared.
    blocks = re.findall(r"^```python\n(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert all(first.startswith(">>> ") for first in blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_names_and_files_of_the_source_exist(page: Path) -> None:
    named = 0
    for span in code_spans(page):
        if DOTTED.fullmatch(span):
            pkgutil.resolve_name(span)
            named += 1
        elif found := IN_FILE.fullmatch(span):
            path, name = ROOT / found[1], found[2]
            assert path.exists(), f"{span} is not a file"
            assert name is None or re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")), span
            named += 1
    assert named, "the page names no part of the source"


def test_options_of_pretraining_that_the_pages_name_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ernie_train(["pretrain", "--help"])
    options = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    named = {option for page in PAGES for span in code_spans(page) for option in re.findall(r"--[\w-]+", span)}
    assert named
    assert named <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_existing_pages_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        path = LEARN / name if name else page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path), target


def test_the_overview_links_to_every_page() -> None:
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", prose(LEARN / "index.md")))
    assert linked == {page.name for page in PAGES} - {"index.md"}


def test_drawings_are_svg() -> None:
    for drawing in LEARN.glob("*.svg"):
        assert ElementTree.parse(drawing).getroot().tag.endswith("svg")
