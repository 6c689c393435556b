"""Compares the native tokenizer with the rules `paddlenlp` with PaddleNLP's Python tokenizer, text by text.

    python -m benchmarks.training.paddlenlp_parity --data data --characters

Every line of the data's text files is compared with both vocabularies. `--characters` compares each code point between
two letters, with and without lower case, in a vocabulary of all characters. The ids must be equal everywhere. It also
counts the lines whose ids differ between the rules `bert` and `paddlenlp`. PaddleNLP reads about 2 MB/s.
"""

from __future__ import annotations

import sys
import tempfile
import time
import unicodedata
import zlib  # noqa: F401  paddle, which paddlenlp imports, breaks zlib if it is imported first
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from paddlenlp.transformers import ErnieTokenizer as PaddleNlpTokenizer

from benchmarks.arguments import parser_of
from benchmarks.training.text_lines import lines_of
from native import ErnieTokenizer

SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
SURROGATES = range(0xD800, 0xE000)


class Pair:
    """The two tokenizers with the same vocabulary."""

    def __init__(self, vocab: Path, *, lower_case: bool = True) -> None:
        self._ours = ErnieTokenizer.from_file(vocab, lower_case=lower_case, rules="paddlenlp")
        self._bert = ErnieTokenizer.from_file(vocab, lower_case=lower_case)
        # PaddleNLP reads one token on each line, without ids. Its constructor does not find special tokens in texts.
        with tempfile.TemporaryDirectory() as folder:
            write_vocabulary(Path(folder) / "vocab.txt", self._ours.tokens)
            self._theirs = PaddleNlpTokenizer.from_pretrained(folder, do_lower_case=lower_case)

    def equal(self, text: str) -> bool:
        """Whether both give the same ids."""
        theirs = self._theirs.convert_tokens_to_ids(self._theirs.tokenize(text)) if text else []
        ours: list[int] = self._ours.encode(text, add_special_tokens=False).ids
        return ours == list(theirs)

    def rules_differ(self, text: str) -> bool:
        """Whether the rules `bert` and `paddlenlp` give other ids."""
        return self._ours.encode(text).ids != self._bert.encode(text).ids


def vocabulary_of(characters: Iterable[str]) -> list[str]:
    """A vocabulary in which different results for these characters have different ids."""
    written = [each for each in characters if not each.isspace() and unicodedata.category(each)[0] != "C"]
    known = sorted({*written, *"xy"})
    return [*SPECIALS, *known, *(f"##{each}" for each in known)]


def write_vocabulary(path: Path, tokens: Sequence[str]) -> Path:
    """Writes one token on each line."""
    path.write_text("".join(token + "\n" for token in tokens), encoding="utf-8", newline="\n")
    return path


def all_characters() -> list[str]:
    """Every code point but the surrogates, which no text contains."""
    return [chr(code) for code in range(sys.maxunicode + 1) if code not in SURROGATES]


def main() -> None:
    """Runs the comparisons; ends with status 1 if a text differs."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of text files, with vocab/")
    parser.add_argument("--every", type=int, default=1, help="compare one line of this number (default: 1, all lines)")
    parser.add_argument("--vocab", nargs="+", default=["ernie-1.0", "ernie-3.0"], help="names of files in vocab/")
    parser.add_argument("--characters", action="store_true", help="also compare every code point alone")
    arguments = parser.parse_args()
    wrong = 0
    for name in arguments.vocab:
        pair, begun, count, other = Pair(arguments.data / "vocab" / f"{name}.vocab.txt"), time.monotonic(), 0, 0
        unequal: list[str] = []
        for line in islice(lines_of(arguments.data), 0, None, arguments.every):
            count += 1
            other += pair.rules_differ(line)
            if not pair.equal(line):
                unequal.append(line)
        print(
            f"{name}: of {count:,} lines {len(unequal):,} differ from PaddleNLP, and bert differs on {other:,} "
            f"({other / max(count, 1):.2%}) ({time.monotonic() - begun:.0f} s)",
            flush=True,
        )
        for line in unequal[:5]:
            print(f"  {line!a}")
        wrong += len(unequal)
    if arguments.characters:
        characters = all_characters()
        for lower_case in (True, False):
            with tempfile.TemporaryDirectory() as folder:
                vocab = write_vocabulary(Path(folder) / "vocab.txt", vocabulary_of(characters))
                pair = Pair(vocab, lower_case=lower_case)
                different = [each for each in characters if not pair.equal(f"x{each}y")]
            print(f"lower_case={lower_case}: of {len(characters):,} characters {len(different):,} differ", flush=True)
            wrong += len(different)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
