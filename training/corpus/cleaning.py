"""Cleans the text of a document and splits it into sentences."""

from __future__ import annotations

import functools
import re

from training.corpus.plain_text import normalize

_CLOSING = "[”’」』）】》〉〕｝\"')\\]}]*"
_SENTENCE_END = re.compile(
    # One character class first: the search then skips over text quickly.
    "[。！？；…｡!?;.](?:"
    # Chinese marks always end a sentence, together with closing quotes and brackets after them.
    rf"(?<=[。！？；…｡])[。！？；…｡!?;]*{_CLOSING}"
    # ASCII marks in Chinese text; inside `a?b=1` and `&amp;c` they do not end a sentence.
    rf"|(?<=[!?;])[!?;]*{_CLOSING}(?![A-Za-z0-9/&=.,!?;])"
    # A Latin full stop: followed by white space and the start of a sentence, not preceded by an initial or a title.
    r"|(?<=\.)(?<!\b[A-Za-z]\.)(?<!\b(?:Mr|Ms|Dr|St|No|vs)\.)(?<!\b(?:Mrs)\.)(?<!\b(?:Prof)\.)"
    rf"\.*{_CLOSING}(?=\s+[\"'“‘(\[]?[A-Z0-9㐀-鿿])"
    ")"
)


def clean(text: str, max_repeat: int, plain_width: bool) -> str:
    """`text` with runs of one character cut to `max_repeat` (0: not cut) and, with `plain_width`, ASCII letters and
    digits instead of full-width ones."""
    if plain_width:
        text = normalize(text)
    if max_repeat:
        sample, run = _runs(max_repeat)
        if sample.search(text[:: sample_step(max_repeat)]):
            text = run.sub(r"\1", text)
    return text


def sample_step(max_repeat: int) -> int:
    """The distance, in characters, between two sampled characters: a run that is too long has several samples."""
    return max(1, (max_repeat + 1) // 4)


@functools.cache
def _runs(max_repeat: int) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A fast pattern for sampled text, and the exact pattern; group 1 of the exact one is the part of a run to keep."""
    shown = (max_repeat + 1) // sample_step(max_repeat)
    return re.compile(rf"(.)\1{{{shown - 1}}}"), re.compile(rf"(([^\n])\2{{{max_repeat - 1}}})\2+")


def sentences(text: str) -> list[str]:
    """Sentences of a document, stripped; a line break always ends a sentence."""
    parts = _SENTENCE_END.sub(lambda end: end[0] + "\n", text).split("\n")
    return [sentence for part in parts if (sentence := part.strip())]
