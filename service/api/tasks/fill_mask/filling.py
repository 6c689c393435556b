"""Fills the masks of one request: independently, by targets of several tokens, or jointly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from service.api.answers import Filled, FilledIndependently, FilledJointly
from service.api.models.served import Session
from service.api.models.tokenization import MASK, Tokenizer
from service.api.models.windows import Windows
from service.api.request_bodies import FillMaskRequest, TextInput
from service.api.tasks.fill_mask.joint import Ask, Blank, Filling, Tokens, beam_search, prefixes_of, score_targets
from service.api.tasks.fill_mask.masks import (
    holes_of,
    joined,
    mask_count,
    mask_runs,
    sequence,
    widened,
    with_text,
)
from service.messages.inference import Item, MaskOutput
from service.problem import Problem

DEFAULT_TOP_K = 5
DEFAULT_SPAN = 4
# A narrower beam misses words whose first character is not among the likeliest ones.
LEAST_BEAM = 8


class Filler:
    """Runs the model for one request."""

    def __init__(self, session: Session, asked: FillMaskRequest, targets: Sequence[Tokens]) -> None:
        self._session = session
        self._asked = asked
        self._targets = targets
        self._tokenizer = session.model.tokenizer
        self._top_k = asked.top_k or DEFAULT_TOP_K

    async def independently(self) -> list[FilledIndependently]:
        """Fills each mask independently, with one request to the engine for all masks."""
        targets = [target[0] for target in self._targets]
        results: list[FilledIndependently] = []
        items: list[Item] = []
        places: list[list[tuple[int, int]]] = []  # by input and mask: index of the item, and index of the mask in it
        for index, given in enumerate(self._asked.texts):
            windows, truncated = await self._encode(index, given)
            used: dict[int, list[int]] = {}
            where = []
            for column in windows.whole.mask_positions:
                window = windows.best_for([column]) or 0
                columns = used.setdefault(window, [])
                where.append((window, len(columns)))
                columns.append(windows.column(window, column) or 0)
            numbers = {window: len(items) + order for order, window in enumerate(used)}
            texts = [windows.encodings[window] for window in used]
            items += [
                Item(text.input_ids, text.token_type_ids, columns, targets)
                for text, columns in zip(texts, used.values(), strict=True)
            ]
            places.append([(numbers[window], order) for window, order in where])
            tokens = sum(len(text.input_ids) for text in texts)
            results.append(
                {
                    "masks": [],
                    "tokens": tokens,
                    "windows": len(windows.spans),
                    "truncated": truncated,
                    "unknown": windows.whole.unknown,
                }
            )
        outputs = await self._session.infer(items)
        for given, result, each in zip(self._asked.texts, results, places, strict=True):
            for (before, after), (item, order) in zip(holes_of(given), each, strict=True):
                ranked = candidates(self._tokenizer, outputs[item].masks[order], targets, self._top_k)
                result["masks"].append(
                    [
                        {
                            "token": (token := self._tokenizer.tokens[token_id]),
                            "token_id": token_id,
                            "score": score,
                            "sequence": f"{before}{token.removeprefix('##')}{after}",
                        }
                        for token_id, score in ranked
                    ]
                )
                await asyncio.sleep(0)
        return results

    async def by_long_targets(self) -> list[FilledIndependently]:
        """Scores targets, some with several tokens, for each mask. The mask is replaced by one mask per token."""
        by_count: dict[int, list[Tokens]] = {}
        for target in self._targets:
            by_count.setdefault(len(target), []).append(target)
        targets = {count: prefixes_of(each) for count, each in by_count.items()}
        holes = [holes_of(given) for given in self._asked.texts]
        # Unlike in a beam search, the number of runs is known here: too many are rejected before a text is encoded.
        self._check(sum(map(len, holes)) * sum(len(place) for each in targets.values() for place in each))
        blanks: list[Blank] = []
        owners: list[int] = []
        results: list[FilledIndependently] = []
        for index, given in enumerate(self._asked.texts):
            result: FilledIndependently = {"masks": [], "tokens": 0, "windows": 1, "truncated": False, "unknown": 0}
            for number in range(len(holes[index])):
                for count in targets:
                    blanks.append(await self._blank(index, widened(given, number, count), result, number, count))
                    owners.append(index)
            results.append(result)
        scored = iter(await score_targets(blanks, targets, self._ask(results, owners)))
        for result, places in zip(results, holes, strict=True):
            for before, after in places:
                fillings = [one for _ in targets for one in next(scored).values()]
                ranked = sorted(fillings, key=lambda one: -one.token_score)[: self._top_k]
                result["masks"].append(
                    [
                        {
                            "token": (token := self._text(one)),
                            "token_id": one.tokens[0] if len(one.tokens) == 1 else None,
                            "tokens": self._tokens(one),
                            "score": one.score,
                            "token_score": one.token_score,
                            "sequence": f"{before}{token}{after}",
                        }
                        for one in ranked
                    ]
                )
                await asyncio.sleep(0)
        return results

    async def jointly(self) -> list[FilledJointly]:
        """Fills all masks of a text together."""
        blanks: list[Blank] = []
        owners: list[int] = []
        results: list[FilledJointly] = []
        variants = [self._variants(index, given) for index, given in enumerate(self._asked.texts)]
        self._check(sum(map(len, variants)))
        for index, texts in enumerate(variants):
            result: FilledJointly = {"fills": [], "tokens": 0, "windows": 1, "truncated": False, "unknown": 0}
            for text in texts:
                blanks.append(await self._blank(index, text, result))
                owners.append(index)
            results.append(result)
        width = max(LEAST_BEAM, self._top_k)
        found = await beam_search(blanks, width, self._tokenizer.special_ids, self._ask(results, owners))
        beams = iter(found)
        for texts, result in zip(variants, results, strict=True):
            own = [(one, text) for text in texts for one in next(beams)]
            own.sort(key=lambda pair: -pair[0].token_score)
            result["fills"] = [
                {
                    "text": self._text(one),
                    "tokens": self._tokens(one),
                    "score": one.score,
                    "token_score": one.token_score,
                    "sequence": sequence(text, self._tokens(one)),
                }
                for one, text in own[: self._top_k]
            ]
            await asyncio.sleep(0)
        return results

    def _variants(self, index: int, given: TextInput) -> list[TextInput]:
        """The text itself; or, if the number of tokens is not fixed, the text with one mask, with two, and so on."""
        runs = mask_runs(given)
        if self._asked.span is None and not any(run[2] for _, run in runs):
            return [given]
        most, span = self._session.settings.max_span, self._asked.span or DEFAULT_SPAN
        if span > most:
            raise Problem("invalid_input", f"span is {span}, but at most {most} tokens are filled together.")
        if len(runs) != 1:
            raise Problem(
                "invalid_input",
                f"inputs[{index}] must have one [MASK]+, or one row of masks, and no others.",
            )
        ((name, run),) = runs
        text = getattr(given, name)
        return [
            with_text(given, name, f"{text[: run.start()]}{MASK * count}{text[run.end() :]}")
            for count in range(1, span + 1)
        ]

    async def _encode(self, index: int, given: TextInput) -> tuple[Windows, bool]:
        """The windows of an input. Raises Problem unless the tokenizer has found all of its masks."""
        windows, truncated = await self._session.encode(index, given)
        masks = mask_count(given)
        # If the tokenizer has found another number of masks, its masks cannot be matched to those of the text.
        if windows.whole.masks != masks:
            raise Problem("invalid_input", f"inputs[{index}] has a {MASK} that the tokenizer does not read as a mask.")
        if len(windows.whole.mask_positions) < masks:
            raise Problem("invalid_input", f"inputs[{index}] loses a mask to truncation; shorten the text before it.")
        return windows, truncated

    async def _blank(
        self, index: int, given: TextInput, result: Filled, first: int = 0, count: int | None = None
    ) -> Blank:
        """The window with the most context for `count` masks (None: all), starting at mask `first`; raises Problem."""
        windows, truncated = await self._encode(index, given)
        result["windows"], result["truncated"] = len(windows.spans), truncated
        result["unknown"] = windows.whole.unknown
        columns = windows.whole.mask_positions[first : None if count is None else first + count]
        window = windows.best_for(columns)
        if window is None:
            raise Problem(
                "invalid_input", f"inputs[{index}] has masks too far apart to be filled together; shorten the text."
            )
        text = windows.encodings[window]
        return Blank(text.input_ids, text.token_type_ids, [windows.column(window, column) or 0 for column in columns])

    def _check(self, texts: int) -> None:
        """Raises Problem if the request needs too many runs of the model."""
        if texts > (most := self._session.settings.max_fill_texts):
            raise Problem(
                "too_large",
                f"the request needs more than {most} texts run; send fewer texts, masks or targets, or a smaller "
                "top_k or span.",
            )

    def _ask(self, results: Sequence[Filled], owners: list[int]) -> Ask:
        """The `Ask` of this request. It limits the runs and counts tokens. `owners`: the input of each blank."""
        texts = 0

        async def ask(count: int, questions: Iterable[tuple[int, Item]]) -> list[MaskOutput]:
            nonlocal texts
            texts += count
            self._check(texts)
            items = []
            for blank, item in questions:
                results[owners[blank]]["tokens"] += len(item.input_ids)
                items.append(item)
            return [output.masks[0] for output in await self._session.infer(items)]

        return ask

    def _tokens(self, filling: Filling) -> list[str]:
        return [self._tokenizer.tokens[token] for token in filling.tokens]

    def _text(self, filling: Filling) -> str:
        return joined(self._tokens(filling))


async def target_tokens(tokenizer: Tokenizer, targets: Sequence[str], most: int) -> list[Tokens]:
    """Tokens of the targets, each target once.

    A target that is a token of the vocabulary, with its `##` if there is one, is that token. Raises Problem for a
    target that contains unknown tokens, or that has more than `most` tokens.
    """
    found: dict[Tokens, None] = {}
    for index, target in enumerate(targets):
        if target in tokenizer.ids:
            pieces = [tokenizer.ids[target]]
        else:
            pieces = tokenizer.pieces(target, "none") if target.strip() else []
            await asyncio.sleep(0)
        if not pieces or tokenizer.unknown_id in pieces:
            shown = " ".join(tokenizer.tokens[piece] for piece in pieces) or "nothing"
            raise Problem(
                "invalid_input",
                f"targets[{index}] must consist of tokens of the vocabulary, but {target!r} is {shown}.",
            )
        if len(pieces) > most:
            raise Problem("invalid_input", f"targets[{index}] has {len(pieces)} tokens; at most {most} are allowed.")
        found[tuple(pieces)] = None
    return list(found)


def candidates(tokenizer: Tokenizer, mask: MaskOutput, targets: Sequence[int], top_k: int) -> list[tuple[int, float]]:
    """Token ids and probabilities, likeliest first: of the targets, or without targets of the whole vocabulary."""
    if targets:
        return sorted(zip(targets, mask.target_scores, strict=True), key=lambda pair: -pair[1])[:top_k]
    ordinary = (
        pair for pair in zip(mask.top_ids, mask.top_scores, strict=True) if pair[0] not in tokenizer.special_ids
    )
    return [pair for pair, _ in zip(ordinary, range(top_k), strict=False)]
