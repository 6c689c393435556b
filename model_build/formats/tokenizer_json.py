"""Reads the vocabulary in `tokenizer.json`, which recent releases of Hugging Face write instead of `vocab.txt`."""

from __future__ import annotations

import json
from pathlib import Path


class TokenizerJsonError(ValueError):
    """A `tokenizer.json` without the vocabulary of a WordPiece tokenizer; the message names the file."""


def read_tokenizer_json(path: Path) -> list[str]:
    """The tokens in the order of their ids. Raises TokenizerJsonError for another kind of tokenizer."""
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
        vocabulary = sorted(model["vocab"].items(), key=lambda each: each[1])
        is_word_piece = model["type"] == "WordPiece" and [each for _, each in vocabulary] == [*range(len(vocabulary))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerJsonError(f"{path} is not the file of a tokenizer ({error!r}); give a vocab.txt.") from error
    if not is_word_piece:
        raise TokenizerJsonError(f"{path} has no WordPiece vocabulary with the ids 0, 1, 2, …; give a vocab.txt.")
    return [token for token, _ in vocabulary]
