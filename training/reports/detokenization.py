"""Joins tokens to readable text."""

from __future__ import annotations

from collections.abc import Sequence


def spaced_tokens(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """For each token the space before it, " " or "", and its text: pieces are joined to words, Latin words and numbers
    are separated by spaces, the two texts of a pair by ‖."""
    texts = []
    before = ""
    for token in tokens:
        texts.append(
            ("", " ‖ ") if token == "[SEP]" else (" " if needs_space(before, token) else "", without_prefix(token))
        )
        before = token
    return texts


def without_prefix(token: str) -> str:
    """The token without the prefix ##."""
    return token[2:] if token.startswith("##") and len(token) > 2 else token


def needs_space(before: str, token: str) -> bool:
    """Whether there is a space between two tokens: between Latin words and numbers."""
    ends, begins = before[-1:], token[:1]
    return ends.isascii() and ends.isalnum() and begins.isascii() and begins.isalnum()
