"""The first section of CHANGELOG.md for a release."""

import datetime

import pytest

from release.changelog import ChangelogError, newest_section

TODAY = datetime.date(2026, 3, 1)
GOOD = "# Changelog\n\n## 1.2.0 - 2026-02-28\n- Something.\n\n## 1.1.0 - 2026-01-01\n- Something else.\n"


def refusal(text: str, *, allow_unreleased: bool = False) -> str:
    with pytest.raises(ChangelogError) as refused:
        newest_section(text, "1.2.0", today=TODAY, allow_unreleased=allow_unreleased)
    return str(refused.value)


def test_a_dated_section_of_the_version_is_accepted() -> None:
    assert newest_section(GOOD, "1.2.0", today=TODAY) == "1.2.0 - 2026-02-28"


def test_the_date_of_today_is_accepted() -> None:
    assert newest_section(GOOD, "1.2.0", today=datetime.date(2026, 2, 28)) == "1.2.0 - 2026-02-28"


def test_unreleased_is_refused_and_the_error_gives_the_heading_to_write() -> None:
    assert '"## 1.2.0 - 2026-03-01"' in refusal("## Unreleased\n- Something.\n")


def test_a_rehearsal_may_begin_with_unreleased() -> None:
    text = "## Unreleased\n- Something.\n"
    assert newest_section(text, "1.2.0", today=TODAY, allow_unreleased=True) == "Unreleased"


def test_a_later_section_of_the_version_does_not_count() -> None:
    assert 'begins with "Unreleased"' in refusal("## Unreleased\n- More.\n\n" + GOOD)
    assert 'begins with "1.3.0 - 2026-03-01"' in refusal("## 1.3.0 - 2026-03-01\n- More.\n\n" + GOOD)


@pytest.mark.parametrize(
    "title", ["1.2.0", "1.2.0 2026-02-28", "1.2.0 - 28.02.2026", "1.2.0 - soon", "v1.2.0 - 2026-02-28"]
)
def test_a_heading_of_another_form_is_refused_even_in_a_rehearsal(title: str) -> None:
    assert f'begins with "{title}"' in refusal(f"## {title}\n- Something.\n", allow_unreleased=True)


def test_a_date_that_does_not_exist_or_is_in_the_future_is_refused() -> None:
    assert "2026-02-30, the date of 1.2.0, is not a day" in refusal("## 1.2.0 - 2026-02-30\n- Something.\n")
    assert "2026-03-02, the date of 1.2.0, is after today" in refusal("## 1.2.0 - 2026-03-02\n- Something.\n")


@pytest.mark.parametrize(
    "text", ["## 1.2.0 - 2026-02-28\n", "## 1.2.0 - 2026-02-28\n\n## 1.1.0 - 2026-01-01\n- Old.\n"]
)
def test_an_empty_section_is_refused(text: str) -> None:
    assert 'the section "1.2.0 - 2026-02-28" is empty' in refusal(text)


def test_a_file_without_sections_is_refused() -> None:
    assert "has no section" in refusal("# Changelog\n")
