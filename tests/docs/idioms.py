"""Idioms that text for users avoids, and what to write instead. docs/style.md shows the same table to people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BE = r"(?:is|are|was|were|be|been|being)"
HAVE = r"(?:has|have|had)"
ASK = r"(?:asks?|waits?|wants?|comes?|sends?|calls?|leads?)"
MORE = r"(?:more|less|later|larger|faster|better|slower|worse|different)"
OWN = r"(?:its|their|one's|my|your|our|his|her) own"
AFTER_OWN = (
    r"\s*[,;:.)]|\s*$| (?:and|or|in|at|for|with|to|of|is|are|on|by|that|which|so|but|because|as|from|would|must)\b"
)


@dataclass(frozen=True)
class Idiom:
    """One way of writing; spaces in the patterns stand for any white space."""

    pattern: str
    write: str
    unless: str = ""
    """Uses that are right; a match inside one of them does not count."""

    found: re.Pattern[str] = field(init=False, repr=False)
    allowed: re.Pattern[str] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", _compiled(self.pattern))
        object.__setattr__(self, "allowed", _compiled(self.unless) if self.unless else None)

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Where the idiom occurs in a text."""
        right = [match.span() for match in self.allowed.finditer(text)] if self.allowed else []
        for match in self.found.finditer(text):
            if not any(begin <= match.start() and match.end() <= end for begin, end in right):
                yield match


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b".replace(" ", r"\s+"), re.IGNORECASE)


IDIOMS = (
    Idiom("tell|tells|told|telling", "reports, returns, receives, states; distinguishes"),
    Idiom(
        "(?:stand|stands|stood|standing) (?:in|at|inside|there|here|alone|under|beside|behind|before|between)",
        "occurs in, is in",
    ),
    Idiom(
        "(?:lie|lies|lay|lying) (?:in|at|below|beside|there|here|inside|behind|apart|after)",
        "occurs in, is in",
    ),
    Idiom(
        "so many|so much|so often|so longest|for so long|as many",
        'N, with its name: "up to `span` tokens"',
        unless=r"(?:times|twice|half|at least|least) as many|so (?:many|much) that",
    ),
    Idiom("beside|besides", "next to, side by side, concurrently, compared with"),
    Idiom("(?:go|goes|going|went|gone) on", "resumes, continues"),
    Idiom(
        rf"{BE} over|{HAVE} ended",
        "finished, has passed",
        unless=rf"{BE} over (?:the|a|an|all|every|half|HTTP|\d[\d,.]*)|{BE} over-\w+",
    ),
    Idiom(
        r"pass(?:es|ed|ing)?(?: \S+){0,2} over",
        "skips, is skipped, ignores",
        unless=r"(?:two|one|a|each|forward|several|\d+) pass(?:es)? over|passes over the \S+ (?:examples|texts|data)",
    ),
    Idiom(
        rf"{HAVE} not(?= (?:the|a|an|any|one|in|so|as|at|by|and|but)\b|[,;:.)]|\s*$)|(?:it|they) {HAVE} none",
        "lacks, does not have",
    ),
    Idiom(
        rf"{BE} no|{BE} none of",
        "is not a, is not one of",
        unless=rf"there {BE} no|{BE} no (?:longer|{MORE})",
    ),
    Idiom(
        rf"of {OWN}(?={AFTER_OWN})|of (?:yours|theirs|ours)",
        "separate, own; your own",
    ),
    Idiom("by itself|by themselves|by oneself", "alone, separately, automatically"),
    Idiom(
        "at random",
        "randomly; randomly initialised",
        unless="at random (?:times?|moments?|positions?|intervals?|points?|places?)",
    ),
    Idiom(
        "what (?:waits|waited|comes|came|asks|stands|stood|lies|goes|fails|failed|runs|arrives|arrived|remains)"
        rf"|(?:(?<!\w\s)|(?:to|of|for|by|and|or|from|than) )who(?:ever)? {ASK}",
        "name the thing: the queued requests, the new request, the client",
    ),
    Idiom("reckon|reckons|reckoned|reckoning", "computes, estimates"),
    Idiom("no place|a place left|places left", "the queue is full"),
    Idiom("(?:give|gives|gave|given|giving) way", "yields to"),
    Idiom("of chance", "random"),
    Idiom("(?:take|takes|took|taking) the place of|in (?:its|their) stead", "replaces, instead"),
    Idiom("at hand|for want of", "available; because … is missing"),
)
