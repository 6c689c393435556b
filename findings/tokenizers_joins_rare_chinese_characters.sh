#!/bin/sh
# Hugging Face's BERT tokenizer takes 256 rare Chinese characters for letters.
#
# BERT puts spaces around every Chinese character, so that each becomes a token. Its list of ranges contains CJK Extension
# E from U+2B820; the list of `tokenizers` begins at U+2B920. Characters between them form one word with their neighbours,
# and the word is [UNK] although the vocabulary contains each of its characters.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'tokenizers==0.23.3'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import tempfile
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import BertWordPieceTokenizer

EXPECTED = {"U+2B81D": 2, "U+2B820": 2, "U+2B91F": 2, "U+2B920": 2}
RECORDED = {"U+2B81D": 2, "U+2B820": "[UNK]", "U+2B91F": "[UNK]", "U+2B920": 2}


def main() -> dict[str, int | str]:
    print(f"tokenizers {tokenizers.__version__}")
    characters = [chr(int(name[2:], 16)) for name in RECORDED]
    assert all(unicodedata.name(each).startswith("CJK UNIFIED IDEOGRAPH") for each in characters)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder, "vocab.txt")
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]), encoding="utf-8")
        tokenizer = BertWordPieceTokenizer(str(vocabulary))
    found: dict[str, int | str] = {}
    for name, character in zip(RECORDED, characters, strict=True):
        pieces = tokenizer.encode(character * 2, add_special_tokens=False).tokens
        found[name] = "[UNK]" if pieces == ["[UNK]"] else len(pieces)
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
