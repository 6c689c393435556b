"""Tagging schemes, which write entities as one tag per token: BIO, IOB1, BMES, BIOES and BILOU.

A tag is `O`, or a prefix and the type of the entity, such as `B-PER`; without types (word segmentation) the prefix.
IOB1 is the scheme of Ramshaw and Marcus (1995), in which B- only separates neighbours of one type; BIO is also called
IOB2.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

TAG = re.compile(r"O|[BIMELSU](-\S+)?")


@dataclass(frozen=True)
class Scheme:
    """One scheme: the prefixes of first, inner, last and single tokens of an entity."""

    name: str
    begin: str
    inside: str
    end: str = ""
    """empty if the scheme does not mark the last token"""
    single: str = ""

    def tags(self, types: Sequence[str]) -> list[str]:
        """All tags of the types, in order; for the type "" only the prefixes."""
        prefixes = [prefix for prefix in (self.begin, self.inside, self.end, self.single) if prefix]
        return [f"{prefix}-{kind}" if kind else prefix for kind in types for prefix in prefixes]

    def faults(self, tags: Sequence[str]) -> list[int]:
        """Positions of tags that may not follow the tag before, and of tags after which an entity lacks its end."""
        bad = {pair: offsets for pair in set(_pairs(tags)) if (offsets := self._offsets(*pair))}
        if not bad:
            return []
        return sorted({index + offset for index, pair in enumerate(_pairs(tags)) for offset in bad.get(pair, ())})

    @lru_cache  # noqa: B019  there are only five schemes
    def _offsets(self, left: str, right: str) -> tuple[int, ...]:
        """Which of two neighbouring tags are wrong: -1 for the left one, 0 for the right one."""
        same = _same_type(left, right)
        if self.name == "IOB1":
            return (0,) if right[0] == self.begin and not same else ()
        inside = left[0] in (self.begin, self.inside)
        goes_on = right[0] in (self.inside, self.end)
        unbegun = (0,) if goes_on and not (inside and same) else ()
        unended = (-1,) if self.end and inside and not (goes_on and same) else ()
        return (*unended, *unbegun)


BIO = Scheme("BIO", "B", "I")
IOB1 = Scheme("IOB1", "B", "I")
BMES = Scheme("BMES", "B", "M", "E", "S")
BIOES = Scheme("BIOES", "B", "I", "E", "S")
BILOU = Scheme("BILOU", "B", "I", "L", "U")
SCHEMES = {each.name: each for each in (BIO, IOB1, BMES, BIOES, BILOU)}


def detect_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of the tags. Raises ValueError if they have no entity or belong to no known scheme.

    Tags with only B- and I- are IOB1 if some entity begins with I- and every B- follows an entity of its own type;
    otherwise they are BIO.
    """
    tags = list(sentences)
    prefixes = {tag[0] for sentence in tags for tag in set(sentence)} - {"O"}
    if not prefixes:
        raise ValueError("every tag is O, so there is no entity to learn; give sentences with entities.")
    if prefixes <= {"B", "I"}:
        return IOB1 if _is_iob1(tags) else BIO
    for scheme in (BIOES, BMES, BILOU):
        if prefixes <= {scheme.begin, scheme.inside, scheme.end, scheme.single}:
            return scheme
    raise ValueError(
        f"tags begin with {', '.join(sorted(prefixes))}, which is not one of the schemes BIO, BMES, BIOES and BILOU."
    )


def _is_iob1(sentences: Iterable[Sequence[str]]) -> bool:
    pairs = {pair for sentence in sentences for pair in _pairs(sentence)}
    begun_with_i = any(right[0] == "I" and not _same_type(left, right) for left, right in pairs)
    return begun_with_i and all(_same_type(left, right) for left, right in pairs if right[0] == "B")


def _same_type(left: str, right: str) -> bool:
    return left != "O" and left[1:] == right[1:]


def _pairs(tags: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each pair of neighbouring tags, with `O` before the first tag and after the last one."""
    return itertools.pairwise(itertools.chain(("O",), tags, ("O",)))
