"""Several tokens in place of masks, scored by the model's own conditional probabilities.

A masked LM gives the probabilities of one token where all others are known or masked. Tokens t1 … tk are scored as a
whole by the chain rule, left to right: P(t1 | text, masks) · P(t2 | text, t1, masks) · … Candidates with the same
number of tokens are compared by that product; those with different numbers by its k-th root, the mean probability of a
token, because every further factor makes a product smaller.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from service.engine.messages import Item, MaskOutput

Tokens = tuple[int, ...]
Ask = Callable[[list[int], list[Item]], Awaitable[list[MaskOutput]]]
"""One MaskOutput for every item, each of which has a single mask position; the numbers are those of their blanks."""


@dataclass(frozen=True)
class Blank:
    """A text with masks to fill: model input, and the columns to fill from left to right."""

    input_ids: list[int]
    token_type_ids: list[int]
    columns: list[int]

    def asking(self, filled: Tokens, targets: Sequence[int] = ()) -> Item:
        """The question for the first column behind those that are filled."""
        ids = list(self.input_ids)
        for column, token in zip(self.columns, filled, strict=False):
            ids[column] = token
        return Item(ids, self.token_type_ids, [self.columns[len(filled)]], list(targets))


@dataclass(frozen=True)
class Filling:
    """Tokens for the columns of a blank, and the logarithm of their probability."""

    tokens: Tokens
    log_score: float

    @property
    def score(self) -> float:
        """Probability of all tokens together."""
        return math.exp(self.log_score)

    @property
    def token_score(self) -> float:
        """Geometric mean of the tokens' probabilities."""
        return math.exp(self.log_score / len(self.tokens))

    def followed_by(self, token: int, score: float) -> Filling:
        """One token more."""
        return Filling((*self.tokens, token), self.log_score + (math.log(score) if score > 0 else -math.inf))


START = Filling((), 0.0)


async def beam_search(blanks: Sequence[Blank], width: int, special_ids: set[int], ask: Ask) -> list[list[Filling]]:
    """For each blank its best fillings, the likeliest first, at most `width`: those that a beam of that width finds.

    All blanks go one column further with each question. Special tokens are never filled in.
    """
    beams = [[START] for _ in blanks]
    while asked := [
        (index, filling)
        for index, beam in enumerate(beams)
        for filling in beam
        if len(filling.tokens) < len(blanks[index].columns)
    ]:
        questions = [blanks[index].asking(filling.tokens) for index, filling in asked]
        answers = await ask([index for index, _ in asked], questions)
        longer: dict[int, list[Filling]] = {}
        for (index, filling), answer in zip(asked, answers, strict=True):
            longer.setdefault(index, []).extend(
                filling.followed_by(token, score)
                for token, score in zip(answer.top_ids, answer.top_scores, strict=True)
                if token not in special_ids
            )
        for index, fillings in longer.items():
            beams[index] = sorted(fillings, key=lambda filling: (-filling.log_score, filling.tokens))[:width]
    return beams


async def score_targets(blanks: Sequence[Blank], targets: Sequence[Sequence[Tokens]], ask: Ask) -> list[list[Filling]]:
    """For each blank the scores of its own targets, in their order; each has as many tokens as the blank has columns.

    Targets that begin alike share their questions.
    """
    known: list[dict[Tokens, Filling]] = [{(): START} for _ in blanks]
    for place in range(max(len(blank.columns) for blank in blanks)):
        asked = [
            (index, beginning)
            for index, blank in enumerate(blanks)
            if place < len(blank.columns)
            for beginning in dict.fromkeys(target[:place] for target in targets[index])
        ]
        following = [
            list(dict.fromkeys(target[place] for target in targets[index] if target[:place] == beginning))
            for index, beginning in asked
        ]
        questions = [
            blanks[index].asking(beginning, tokens) for (index, beginning), tokens in zip(asked, following, strict=True)
        ]
        answers = await ask([index for index, _ in asked], questions)
        for (index, beginning), tokens, answer in zip(asked, following, answers, strict=True):
            for token, score in zip(tokens, answer.target_scores, strict=True):
                longer = (*beginning, token)
                known[index][longer] = known[index][beginning].followed_by(token, score)
    return [[known[index][target] for target in each] for index, each in enumerate(targets)]
