"""`tokenizer_config.json`: whether texts are converted to lower case, as PaddleNLP and Hugging Face write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


class TokenizerConfigError(ValueError):
    """A `tokenizer_config.json` that cannot be used; the message is one sentence that names the file."""


def read_do_lower_case(directory: Path) -> bool:
    """The field `do_lower_case` of the folder's `tokenizer_config.json`; true if there is no such file or field.

    Raises TokenizerConfigError if the file is not a JSON object or the field is not a boolean.
    """
    path = directory / TOKENIZER_CONFIG
    if not path.is_file():
        return True
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise TokenizerConfigError(f"{path} is not JSON in UTF-8 ({error}); copy it again.") from error
    lower = values.get("do_lower_case", True) if isinstance(values, dict) else None
    if not isinstance(lower, bool):
        raise TokenizerConfigError(f"{path}: do_lower_case must be true or false; correct it.")
    return lower


def write_tokenizer_config(directory: Path, *, do_lower_case: bool, tokenizer_class: str = "ErnieTokenizer") -> None:
    """Writes `tokenizer_config.json`, so that `AutoTokenizer.from_pretrained` reads the vocabulary of the folder."""
    values: dict[str, Any] = {
        "tokenizer_class": tokenizer_class, "do_lower_case": do_lower_case, **SPECIAL_TOKENS,
    }  # fmt: skip
    (directory / TOKENIZER_CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
