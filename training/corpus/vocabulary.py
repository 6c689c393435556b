"""Builds a vocabulary from text: characters by frequency, and WordPieces for all but Chinese characters.

ERNIE's published vocabularies have the same structure. The tokenizer looks up each Chinese character and punctuation
mark alone, and composes every other word from pieces. So each other character is a token both alone and as a `##`
piece, and frequent beginnings and ends of words are learnt by byte-pair encoding (SentencePiece).
"""

from __future__ import annotations

import functools
import io
import re
import string
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_build.atomic_write import atomic_file
from native import ErnieTokenizer
from training.corpus.inputs import Piece, Reader, find_inputs
from training.corpus.plain_text import is_held_out, normalize
from training.corpus.settings import Rules, VocabularySettings

SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
PLAIN = string.digits + string.ascii_lowercase
FIXED = (*SPECIAL_TOKENS, *PLAIN, *(f"##{character}" for character in PLAIN))
WORDS_COUNTED = 1_000_000
LONGEST_WORD = 100
"""Characters; the tokenizer maps longer words to [UNK]."""
CJK = "㐀-䶿一-鿿豈-\ufaff\U00020000-\U0002ceaf\U0002f800-\U0002fa1f"
_CJK = re.compile(f"[{CJK}]")


class Counts:
    """Counts of characters and words, in bounded memory."""

    def __init__(self) -> None:
        self.characters: Counter[str] = Counter()
        self.words: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Counts a text without folding; `folded` folds each distinct character and word once."""
        self.characters.update(text)
        self.words.update(_words().findall(text))
        least = 1
        while len(self.words) > WORDS_COUNTED:  # drops the rarest words
            self.words = Counter({word: count for word, count in self.words.items() if count > least})
            least += 1

    def folded(self) -> tuple[Counter[str], Counter[str]]:
        """Counts of characters and words after folding, as the tokenizer looks them up."""
        folded: tuple[Counter[str], Counter[str]] = Counter(), Counter()
        for character, count in self.characters.items():
            for each in fold(character):
                folded[0][each] += count
        for word, count in self.words.items():
            folded[1][fold(word)] += count
        return folded


def fold(text: str) -> str:
    """Lower case without accents, as in ERNIE's tokenizer."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")


@functools.cache
def _words() -> re.Pattern[str]:
    """Matches what the tokenizer treats as one word: no white space, punctuation, control or Chinese characters."""
    apart: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Zl", "Zp", "Zs"):
            if apart and apart[-1][1] == code - 1:
                apart[-1][1] = code
            else:
                apart.append([code, code])
    ranges = "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in apart)
    return re.compile(rf"[^{ranges}{re.escape(string.punctuation)}{CJK}]{{2,{LONGEST_WORD}}}")


def build_vocabulary(texts: Iterable[str], settings: VocabularySettings) -> list[str]:
    """At most `settings.size` tokens: special tokens, ASCII letters and digits (alone and as `##` pieces), subwords,
    then other characters by descending frequency, those that occur in words also as `##` pieces.

    The same texts always give the same tokens. Raises ValueError if the size is too small.
    """
    if settings.size < len(FIXED):
        raise ValueError(f"a vocabulary of {settings.size} tokens is too small; it needs at least {len(FIXED)}.")
    counts = Counts()
    for text in texts:
        counts.add(text)
    characters, words = counts.folded()
    # At most a quarter of the vocabulary: a character without a token is worse than a word in two pieces.
    room = min(settings.subwords, (settings.size - len(FIXED)) // 4)
    tokens = dict.fromkeys((*FIXED, *_subwords(words, room)))
    for character, count in _by_frequency(characters):
        if count >= settings.min_count and unicodedata.category(character)[0] not in "CZ":
            tokens.setdefault(character)
            if _words().match(2 * character):  # it may occur inside a word
                tokens.setdefault(f"##{character}")
    if settings.all_cjk:
        tokens |= dict.fromkeys(map(chr, range(0x4E00, 0x9FA6)))
    return list(tokens)[: settings.size]


def _subwords(words: Counter[str], number: int) -> list[str]:
    """At most `number` words and pieces of several characters, learnt from word counts, in the order of merges."""
    import sentencepiece

    frequent = [
        (word, count) for word, count in _by_frequency(words) if count > 1 and len(word) > 1 and "▁" not in word
    ]
    if not frequent or not number:
        return []
    alphabet = {character for word, _ in frequent for character in word}
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as file:
        file.writelines(f"{word}\t{count}\n" for word, count in frequent)
        file.flush()
        sentencepiece.SentencePieceTrainer.train(
            input=file.name,
            input_format="tsv",
            model_writer=model,
            model_type="bpe",
            vocab_size=number + len(alphabet) + 4,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            num_threads=1,
            minloglevel=2,
        )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(index) for index in range(3, len(processor))]
    tokens = [piece[1:] if piece.startswith("▁") else f"##{piece}" for piece in pieces if piece != "▁"]
    return [token for token in tokens if len(token.removeprefix("##")) > 1][:number]


def _by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    """Descending count, ties in code-point order, so that the same text always gives the same vocabulary."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def write_vocabulary(path: Path, tokens: Iterable[str]) -> None:
    """Writes one token per line; the id of a token is its line number, counted from 0. Raises WriteError."""
    with atomic_file(path) as file:
        file.writelines(token + "\n" for token in tokens)


def vocabulary_from_files(inputs: Iterable[Path], output: Path, settings: VocabularySettings) -> dict[str, Any]:
    """Counts text files, writes the vocabulary `output` and returns its coverage of the held-out documents.

    The files are read twice, as streams. Raises ValueError if there is no text, and WriteError.
    """
    files = find_inputs(inputs)
    tokens = build_vocabulary(_texts(files, settings, held_out=False), settings)
    if len(tokens) == len(FIXED):
        raise ValueError(f"there is no text in {', '.join(map(str, files))}; give UTF-8 text.")
    write_vocabulary(output, tokens)
    held_out = _texts(files, settings, held_out=True)
    return {"tokens": len(tokens), **_kinds(tokens), **coverage(output, held_out, settings.rules)}


def _texts(files: Sequence[Path], settings: VocabularySettings, held_out: bool) -> Iterator[str]:
    """The held-out documents, or the others; lines that cannot be read are left out, as in a corpus build."""
    reader = Reader(settings.document == "line", settings.key)
    for path in files:
        for text in reader.documents(Piece(path, 0, path.stat().st_size)):
            document = normalize(text)
            if is_held_out([document], settings.held_out_percent) is held_out:
                yield document


def _kinds(tokens: Sequence[str]) -> dict[str, int]:
    bare = [token.removeprefix("##") for token in tokens if token not in SPECIAL_TOKENS]
    cjk = sum(1 for token in bare if _CJK.match(token))
    return {"cjk_characters": cjk, "pieces_and_words": sum(len(token) > 1 for token in bare)}


def coverage(vocab: Path, texts: Iterable[str], rules: Rules = "bert") -> dict[str, Any]:
    """Coverage of texts by a vocabulary: documents, characters and the share of them with a token (without white space
    and control characters), tokens and the share of [UNK] among them, and the most frequent characters without a token.
    """
    tokenizer = ErnieTokenizer.from_file(vocab, rules=rules)
    known = set(tokenizer.tokens)
    characters: Counter[str] = Counter()
    documents = tokens = unknown = 0
    for text in texts:
        ids, _, _ = tokenizer.encode_flat([text])
        documents, tokens = documents + 1, tokens + len(ids)
        unknown += int(np.count_nonzero(ids == tokenizer.unk_id))
        characters.update(text)
    seen: Counter[str] = Counter()
    for character, count in characters.items():
        for each in fold(character):
            if unicodedata.category(each)[0] not in "CZ":
                seen[each] += count
    missed = Counter({character: count for character, count in seen.items() if character not in known})
    total = sum(seen.values())
    return {
        "held_out_documents": documents,
        "held_out_characters": total,
        "covered_characters": 1 - sum(missed.values()) / total if total else None,
        "held_out_tokens": tokens,
        "unknown_rate": unknown / tokens if tokens else None,
        "most_missed": "".join(character for character, _ in _by_frequency(missed)[:20]),
    }
