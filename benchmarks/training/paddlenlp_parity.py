"""Compares the native tokenizer with the rules `paddlenlp` with PaddleNLP's Python tokenizer, text by text.

    python -m benchmarks.training.paddlenlp_parity --data data --characters

Every different line of the data's text files is compared with both vocabularies; the command reports after each file.
PaddleNLP is slow, so its ids of a piece of text without Chinese characters are remembered. `--characters` compares each
code point between two letters, with and without lower case, in a vocabulary of all characters. The ids must be equal
everywhere. The command also counts the lines whose ids differ between the rules `bert` and `paddlenlp`.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import unicodedata
import zlib  # noqa: F401  paddle, which paddlenlp imports, breaks zlib if it is imported first
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from paddlenlp.transformers import ErnieTokenizer as PaddleNlpTokenizer

from benchmarks.arguments import parser_of
from benchmarks.training.text_lines import lines_of_file, text_files
from native import ErnieTokenizer

SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
# The ranges of `BasicTokenizer._is_chinese_char` in paddlenlp 2.8.1, transformers/bert/tokenizer.py.
_RANGES = (
    "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf"
    "\uf900-\ufaff\U0002f800-\U0002fa1f"
)
CHINESE = re.compile(f"[{_RANGES}]")
PIECES = re.compile(f"[{_RANGES}]|[^{_RANGES}]+")
WHOLE = 50
"""PaddleNLP reads one line of this number at once too, to check the division into pieces."""
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
        if any(CHINESE.search(token) for token in self._theirs.unique_no_split_tokens):
            raise RuntimeError("PaddleNLP keeps a token with a Chinese character whole; its texts cannot be divided.")
        self._piece = lru_cache(maxsize=1 << 20)(self._whole)

    def _whole(self, text: str) -> list[int]:
        """PaddleNLP's ids of a text."""
        return list(self._theirs.convert_tokens_to_ids(self._theirs.tokenize(text)))

    def _divided(self, text: str) -> list[int]:
        """PaddleNLP's ids of a text, from those of its pieces: each Chinese character, and what is between them.

        PaddleNLP puts a space on both sides of a Chinese character and then splits at white space; all other steps read
        one character or one such word. So a piece has the same ids alone, and they are remembered.
        """
        return [each for piece in PIECES.findall(text) for each in self._piece(piece)]

    def equal(self, text: str, *, whole: bool = True) -> bool:
        """Whether both give the same ids; with `whole`, PaddleNLP reads the text at once, not in pieces."""
        ours: list[int] = self._ours.encode(text, add_special_tokens=False).ids
        return ours == self._divided(text) and (not whole or not text or ours == self._whole(text))

    def rules_differ(self, text: str) -> bool:
        """Whether the rules `bert` and `paddlenlp` give other ids."""
        return self._ours.encode(text).ids != self._bert.encode(text).ids


class Counts:
    """The lines compared, those that differ from PaddleNLP, and those on which `bert` and `paddlenlp` differ."""

    def __init__(self) -> None:
        self.lines = self.other_rules = 0
        self.unequal: list[str] = []

    def add(self, pair: Pair, line: str) -> None:
        """Compares one line."""
        self.lines += 1
        self.other_rules += pair.rules_differ(line)
        if not pair.equal(line, whole=self.lines % WHOLE == 0):
            self.unequal.append(line)

    def __str__(self) -> str:
        share = self.other_rules / max(self.lines, 1)
        return (
            f"of {self.lines:,} lines {len(self.unequal):,} differ from PaddleNLP, and bert differs on "
            f"{self.other_rules:,} ({share:.2%})"
        )


def compare_lines(data: Path, names: Sequence[str], every: int) -> int:
    """Compares one line of `every`, each different line once, and reports after each file. The number of differences.

    The report has the CPU time until now and the CPU time left, by the size of the remaining files.
    """
    pairs = {name: Pair(data / "vocab" / f"{name}.vocab.txt") for name in names}
    counts = {name: Counts() for name in names}
    files = text_files(data)
    total, read, seen, begun = sum(path.stat().st_size for path in files), 0, set[str](), time.process_time()
    for path in files:
        for line in islice(lines_of_file(path), 0, None, every):
            if line not in seen:
                seen.add(line)
                for name, pair in pairs.items():
                    counts[name].add(pair, line)
        read += path.stat().st_size
        taken = time.process_time() - begun
        print(
            f"{path.relative_to(data)}: {len(seen):,} different lines until here, "
            f"{sum(len(each.unequal) for each in counts.values()):,} differences; {taken:.0f} s of CPU, "
            f"about {taken * (total - read) / max(read, 1):.0f} s left",
            flush=True,
        )
    for name, found in counts.items():
        print(f"{name}: {found}", flush=True)
        for line in found.unequal[:5]:
            print(f"  {line!a}")
    return sum(len(found.unequal) for found in counts.values())


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
    wrong = compare_lines(arguments.data, arguments.vocab, arguments.every)
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
