"""Texts with masks: positions of the masks, and the text with the masks filled."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.api.models.tokenization import MASK
from service.api.request_bodies import TextInput

_RUN = re.compile(r"((?:\[MASK\])+)(\+?)")


def mask_count(given: TextInput) -> int:
    """Number of masks in an input."""
    return given.text.count(MASK) + (given.text_pair or "").count(MASK)


def mask_runs(given: TextInput) -> list[tuple[str, re.Match[str]]]:
    """The runs of adjacent masks: the name of the field, and a match of the masks and of a `+` after them."""
    return [(name, run) for name in ("text", "text_pair") for run in _RUN.finditer(getattr(given, name) or "")]


def holes_of(given: TextInput) -> list[tuple[str, str]]:
    """The text before and after each mask, within the text of the pair that contains the mask."""
    return [hole for text in (given.text, given.text_pair or "") for hole in holes(text)]


def holes(text: str) -> list[tuple[str, str]]:
    """The text before and after each mask."""
    parts = text.split(MASK)
    return [(MASK.join(parts[:cut]), MASK.join(parts[cut:])) for cut in range(1, len(parts))]


def widened(given: TextInput, number: int, count: int) -> TextInput:
    """The input with mask `number` replaced by `count` masks."""
    in_text = given.text.count(MASK)
    name, place = ("text", number) if number < in_text else ("text_pair", number - in_text)
    parts = getattr(given, name).split(MASK)
    before, after = MASK.join(parts[: place + 1]), MASK.join(parts[place + 1 :])
    return with_text(given, name, f"{before}{MASK * count}{after}")


def with_text(given: TextInput, name: str, text: str) -> TextInput:
    """The input with another `text` or `text_pair`."""
    return TextInput(text, given.text_pair) if name == "text" else TextInput(given.text, text)


def sequence(given: TextInput, tokens: Sequence[str]) -> str:
    """The text with its masks filled. If both texts of a pair have masks, both are returned, one per line."""
    remaining = list(tokens)
    lines = []
    for text in (given.text, given.text_pair or ""):
        parts = text.split(MASK)
        if len(parts) > 1:
            filling = [remaining.pop(0).removeprefix("##") for _ in parts[1:]]
            lines.append("".join(part + fill for part, fill in zip(parts, [*filling, ""], strict=True)))
    return "\n".join(lines)


def joined(tokens: Sequence[str]) -> str:
    """Tokens as text: `##` pieces are joined to their words; a space separates Latin words and numbers."""
    text = ""
    for token in tokens:
        apart = text[-1:].isascii() and text[-1:].isalnum() and token[:1].isascii() and token[:1].isalnum()
        text += token[2:] if token.startswith("##") and len(token) > 2 else f" {token}" if apart else token
    return text
