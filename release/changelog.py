"""The newest section of CHANGELOG.md: `## 1.2.3 - 2026-01-31`, or `## Unreleased` between releases."""

from __future__ import annotations

import datetime
import re

UNRELEASED = "Unreleased"
_HEADING = re.compile(r"^## +(.*?) *$", re.MULTILINE)
_RELEASED = re.compile(r"(\S+) - (\d{4}-\d{2}-\d{2})")


class ChangelogError(ValueError):
    """CHANGELOG.md is not ready for a release; the message is one sentence that says what to write."""


def newest_section(text: str, version: str, *, today: datetime.date, allow_unreleased: bool = False) -> str:
    """The title of the first section, which must be that of `version`; with `allow_unreleased` also "Unreleased".

    Raises ChangelogError if the section is of another version, is empty, has no date or a date after `today`.
    """
    heading = _HEADING.search(text)
    if not heading:
        raise ChangelogError(f'CHANGELOG.md has no section; begin one with "## {version} - {today}".')
    title = heading[1]
    following = _HEADING.search(text, heading.end())
    if not text[heading.end() : following.start() if following else len(text)].strip():
        raise ChangelogError(f'CHANGELOG.md: the section "{title}" is empty; write what is new for users.')
    if title == UNRELEASED and allow_unreleased:
        return title
    released = _RELEASED.fullmatch(title)
    if not released or released[1] != version:
        raise ChangelogError(
            f'CHANGELOG.md begins with "{title}", but pyproject.toml has version {version}; begin it with '
            f'"## {version} - {today}", or use --allow-unreleased to run the other checks.'
        )
    try:
        date = datetime.date.fromisoformat(released[2])
    except ValueError:
        raise ChangelogError(
            f"CHANGELOG.md: {released[2]}, the date of {version}, is not a day of the calendar; correct it."
        ) from None
    if date > today:
        raise ChangelogError(f"CHANGELOG.md: {date}, the date of {version}, is after today, {today}; correct it.")
    return title
