"""Tokens joined to text that people can read."""

from __future__ import annotations

from collections.abc import Sequence


def spaced_tokens(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """For each token a gap, " " or "", and its text: pieces joined to their words, spaces between Latin words and
    numbers, ‖ between the two texts of a pair."""
    texts = []
    before = ""
    for token in tokens:
        texts.append(
            ("", " ‖ ") if token == "[SEP]" else (" " if needs_space(before, token) else "", without_prefix(token))
        )
        before = token
    return texts


def without_prefix(token: str) -> str:
    """A piece without its ##."""
    return token[2:] if token.startswith("##") and len(token) > 2 else token


def needs_space(before: str, token: str) -> bool:
    """Whether a space belongs between two tokens: Latin words and numbers."""
    ends, begins = before[-1:], token[:1]
    return ends.isascii() and ends.isalnum() and begins.isascii() and begins.isalnum()
