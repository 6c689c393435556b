"""The page of promises: every test that it names exists, and every row names one."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMED = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)")


def rows(head: str) -> list[str]:
    """The rows of all tables with this head."""
    found = []
    for table in PAGE.split(head)[1:]:
        lines = table.strip().splitlines()[1:]
        found += lines[: next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return found


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 30
    assert PAGE.count("`test_") == len(named), "every test is a link to its file"
    missing = [
        f"{name} in {file}"
        for name, file in named
        if not re.search(rf"def {name}\(", (ROOT / file).read_text(encoding="utf-8"))
    ]
    assert not missing


def test_every_promise_names_a_test() -> None:
    promises = rows("| fault | promise | test |")
    assert len(promises) > 20
    assert not [row for row in promises if not NAMED.search(row)]


def test_every_statement_about_others_has_an_address_or_says_that_nothing_was_found() -> None:
    others = rows("| fault | Triton | TEI | vLLM |")
    assert len(others) > 8
    for row in others:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4
        assert not [cell for cell in cells[1:] if "](https://" not in cell and not cell.startswith("Nothing found")]
