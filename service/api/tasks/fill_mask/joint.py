"""Fills several masks with tokens, scored by the conditional probabilities of the model.

A masked LM computes the probability of one token when all others are known or masked. Tokens t1 … tk are scored
together by the chain rule, left to right: P(t1 | text, masks) · P(t2 | text, t1, masks) · … Candidates with the same
number of tokens are compared by this product. Candidates with different numbers of tokens are compared by its k-th
root, the geometric mean of the probabilities, because each additional factor makes the product smaller.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from service.messages.inference import Item, MaskOutput

Tokens = tuple[int, ...]
Prefixes = list[dict[Tokens, list[int]]]
"""For each position: the prefixes of the targets, and the tokens that follow each prefix."""
Ask = Callable[[int, Iterable[tuple[int, Item]]], Awaitable[list[MaskOutput]]]
"""Runs the model: one MaskOutput for each pair (index of a blank, item with a single mask position).

The first argument is the number of pairs, so that too many are rejected before any is created.
"""


@dataclass(frozen=True)
class Blank:
    """A text with masks to fill: model input, and the columns to fill from left to right."""

    input_ids: list[int]
    token_type_ids: list[int]
    columns: list[int]

    def asking(self, filled: Tokens, targets: Sequence[int] = ()) -> Item:
        """The model input for the first column that is not filled yet."""
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

    def log_score_with(self, score: float) -> float:
        """`log_score` with one more token of this probability."""
        return self.log_score + (math.log(score) if score > 0 else -math.inf)

    def followed_by(self, token: int, score: float) -> Filling:
        """This filling with one more token."""
        return Filling((*self.tokens, token), self.log_score_with(score))


START = Filling((), 0.0)


async def beam_search(blanks: Sequence[Blank], width: int, special_ids: set[int], ask: Ask) -> list[list[Filling]]:
    """For each blank the best fillings that a beam of `width` finds, likeliest first, at most `width`.

    Each call of `ask` fills one more column of all blanks. Special tokens are never filled in.
    """
    beams = [[START] for _ in blanks]
    while unfinished := [
        index for index, beam in enumerate(beams) if beam and len(beam[0].tokens) < len(blanks[index].columns)
    ]:
        count = sum(len(beams[index]) for index in unfinished)
        questions = ((index, blanks[index].asking(one.tokens)) for index in unfinished for one in beams[index])
        answers = iter(await ask(count, questions))
        for index in unfinished:
            beams[index] = _longer([(one, next(answers)) for one in beams[index]], width, special_ids)
            await asyncio.sleep(0)
    return beams


def _longer(beam: Sequence[tuple[Filling, MaskOutput]], width: int, special_ids: set[int]) -> list[Filling]:
    """The best ways to add a token. Scores are sorted, so only the first few of most answers are read."""

    def ways(filling: Filling, answer: MaskOutput) -> Iterator[tuple[float, Tokens, int]]:
        for token, score in zip(answer.top_ids, answer.top_scores, strict=True):
            if token not in special_ids:
                yield -filling.log_score_with(score), filling.tokens, token

    best = islice(heapq.merge(*(ways(filling, answer) for filling, answer in beam)), width)
    return [Filling((*tokens, token), -cost) for cost, tokens, token in best]


def prefixes_of(targets: Iterable[Tokens]) -> Prefixes:
    """The prefixes of targets with the same number of tokens. Each prefix is one model input for each blank."""
    found: dict[int, dict[Tokens, dict[int, None]]] = {}
    for target in targets:
        for place, token in enumerate(target):
            found.setdefault(place, {}).setdefault(target[:place], {})[token] = None
    return [{prefix: list(tokens) for prefix, tokens in place.items()} for place in found.values()]


async def score_targets(
    blanks: Sequence[Blank], targets: Mapping[int, Prefixes], ask: Ask
) -> list[dict[Tokens, Filling]]:
    """For each blank the scores of the targets whose number of tokens equals its number of columns.

    The keys of `targets` are numbers of tokens. Targets with a common prefix share its model inputs.
    """
    known: list[dict[Tokens, Filling]] = [{(): START} for _ in blanks]
    for place in range(max(len(blank.columns) for blank in blanks)):
        # For each blank: the tokens that may follow at this position, by the prefix before them.
        following = [targets[len(blank.columns)][place] if place < len(blank.columns) else {} for blank in blanks]
        questions = (
            (index, blanks[index].asking(prefix, tokens))
            for index, asked in enumerate(following)
            for prefix, tokens in asked.items()
        )
        answers = iter(await ask(sum(map(len, following)), questions))
        for index, asked in enumerate(following):
            known[index] = {
                (*prefix, token): known[index][prefix].followed_by(token, score)
                for prefix, tokens in asked.items()
                for token, score in zip(tokens, next(answers).target_scores, strict=True)
            } or known[index]
            await asyncio.sleep(0)
    return known
