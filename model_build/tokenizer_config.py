"""How the tokenizer of a model reads text: `tokenizer_config.json` of a folder of weights.

PaddleNLP and Hugging Face write `do_lower_case`. This project also writes `rules` and `fold_width`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

TokenizerRules = Literal["bert", "paddlenlp"]
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


class TokenizerConfigError(ValueError):
    """A `tokenizer_config.json` that cannot be used; the message is one sentence that names the file."""


class TokenizerSettings(BaseModel):
    """How the tokenizer reads text, as in training; its vocabulary is the file `vocab.txt` of the folder or bundle."""

    model_config = ConfigDict(extra="forbid")

    do_lower_case: bool = True
    rules: TokenizerRules = "bert"
    """`paddlenlp`: symbols such as ℃ and 〇 are separate words, as in PaddleNLP's Python tokenizer"""
    fold_width: bool = False
    """whether full-width letters and digits are read as ASCII"""


def read_tokenizer_config(directory: Path) -> TokenizerSettings:
    """The fields of the folder's `tokenizer_config.json`; true for `do_lower_case` if there is no such file or field.

    Without the field `rules`, they are those of the program that wrote the folder: `bert` for Hugging Face and for this
    project, otherwise `paddlenlp`. Raises TokenizerConfigError if a file is not a JSON object or a field is invalid.
    """
    path = directory / TOKENIZER_CONFIG
    values = _object(path)
    lower, rules, fold = (
        values.get(name, default) for name, default in (("do_lower_case", True), ("rules", None), ("fold_width", False))
    )
    for name, value in (("do_lower_case", lower), ("fold_width", fold)):
        if not isinstance(value, bool):
            raise TokenizerConfigError(f"{path}: {name} must be true or false; correct it.")
    if rules not in (None, "bert", "paddlenlp"):
        raise TokenizerConfigError(f"{path}: rules must be bert or paddlenlp; correct it.")
    if rules is None:
        config = _object(directory / "config.json")
        other = "task" in config or "transformers_version" in config or (directory / "pytorch_model.bin").is_file()
        rules = "bert" if other else "paddlenlp"
    return TokenizerSettings(do_lower_case=lower, rules=rules, fold_width=fold)


def _object(path: Path) -> dict[str, Any]:
    """The JSON object of a file; empty if there is no such file. Raises TokenizerConfigError."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise TokenizerConfigError(f"{path} is not JSON in UTF-8 ({error}); copy it again.") from error
    if not isinstance(values, dict):
        raise TokenizerConfigError(f"{path} must be a JSON object; copy it again.")
    return values


def write_tokenizer_config(
    directory: Path, settings: TokenizerSettings, *, tokenizer_class: str = "ErnieTokenizer"
) -> None:
    """Writes `tokenizer_config.json`, so that `AutoTokenizer.from_pretrained` reads the vocabulary of the folder."""
    values: dict[str, Any] = {"tokenizer_class": tokenizer_class, **settings.model_dump(), **SPECIAL_TOKENS}
    (directory / TOKENIZER_CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
