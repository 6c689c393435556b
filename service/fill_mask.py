"""POST /fill-mask."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from service.answers import Answer, Filled, FilledOneByOne, FilledTogether, success
from service.classify import answer_body
from service.engine.messages import Item, MaskOutput
from service.joint_fill import Ask, Blank, Filling, Tokens, beam_search, beginnings_of, score_targets
from service.models import Models, ServedModel, Session, Timings
from service.plain import PlainText
from service.problems import RESPONSES, Problem
from service.schemas import AskedMasks, FillMaskRequest, GivenText
from service.tokenization import MASK, Tokenizer
from service.windows import Windows

router = APIRouter(responses=RESPONSES)
DEFAULT_TOP_K = 5
DEFAULT_SPAN = 4
# A beam of fewer than these loses words whose first character is not among the likeliest.
LEAST_BEAM = 8
# More would hold up the event loop, or not fit into a message of the engine.
MAX_ANSWER_CHARACTERS = 4_000_000
MAX_SCORES = 500_000
# What a candidate takes besides its text: names, numbers, brackets.
CANDIDATE_CHARACTERS = 80
_RUN = re.compile(r"((?:\[MASK\])+)(\+?)")


@router.post("/fill-mask", responses=success(Answer[Filled]))
async def fill_mask(body: FillMaskRequest, request: Request) -> Response:
    """Candidates for the masks of every input, the likeliest first.

    `independent`, as the fill-mask pipeline of Hugging Face does it: `masks` has a list for each mask, which is filled
    for itself while the others stay masks. Unlike there, a list of one text gives a list of one result, special tokens
    are no candidates, and a target of several tokens is scored as a whole instead of by its first token.

    `joint`: `fills` is a list of ways to fill all masks of the text together, as one word or entity. `score` is the
    product of each token's probability given those before it. Where the number of tokens is open (`[MASK]+`, or
    `span`), candidates are ranked by `token_score`, the geometric mean.
    """
    answer = await fill_mask_body(request.app.state.models, body, request.scope["state"])
    return Response(answer, media_type="application/json")


async def fill_mask_body(models: Models, asked: AskedMasks, state: dict[str, Any]) -> bytes:
    """The answer's body; raises Problem. `state` is the request's, which is told the model and the timings."""
    model = models.for_task(asked.model, "fill-mask")
    state["model"] = model.name
    state["timings"] = timings = Timings()
    return answer_body(model, await filled(model, asked, timings))


async def filled(model: ServedModel, body: AskedMasks, timings: Timings, padded: bool = False) -> Sequence[Filled]:
    """`results` of the answer, one for every input; raises Problem.

    `padded` if the caller gives each text as many masks as the text with most of them has.
    """
    # The graph's candidates may hold every special token, and those are no answers.
    most = max(1, (model.manifest.top_candidates or 1) - len(model.tokenizer.special_ids))
    if not body.targets and (body.top_k or 0) > most:
        raise Problem("invalid_input", f"top_k is {body.top_k}, but {model.name} gives at most {most} candidates.")
    _check_size(body, padded)

    async def work(session: Session) -> Sequence[Filled]:
        most = session.settings.max_masks
        for index, each in enumerate(body.inputs):
            if not (masks := mask_count(each)):
                raise _no_mask(index)
            if masks > most:
                raise Problem("invalid_input", f"inputs[{index}] has {masks} masks, but at most {most} are allowed.")
            if body.strategy != "joint" and any(run[2] for _, run in _runs(each)):
                raise Problem("invalid_input", f'inputs[{index}] has a {MASK}+, which needs "strategy": "joint".')
        targets = await target_tokens(model.tokenizer, body.targets or [], session.settings.max_span)
        fill = Fill(session, body, targets)
        if body.strategy == "joint":
            return await fill.jointly()
        if any(len(target) > 1 for target in targets):
            return await fill.by_long_targets()
        return await fill.each_for_itself()

    return await model.answered(body, timings, work)


def _no_mask(index: int) -> Problem:
    return Problem("invalid_input", f"inputs[{index}] has no mask token; put {MASK} where a token is wanted.")


def _check_size(body: AskedMasks, padded: bool) -> None:
    """Raises Problem where the answer would be too large."""
    masks = [mask_count(each) for each in body.inputs]
    top_k = min(body.top_k or DEFAULT_TOP_K, len(body.targets or []) or MAX_ANSWER_CHARACTERS)
    lengths = [max(len(each.text), len(each.text_pair or "")) for each in body.inputs]
    candidates = top_k * (len(masks) * max(masks) if padded else sum(masks))
    characters = candidates * CANDIDATE_CHARACTERS
    characters += top_k * sum(count * length for count, length in zip(masks, lengths, strict=True))
    if characters > MAX_ANSWER_CHARACTERS:
        raise Problem(
            "too_large",
            f"the answer would have {characters} characters, more than {MAX_ANSWER_CHARACTERS}; "
            "send fewer texts or masks, or a smaller top_k.",
        )
    scores = sum(masks) * len(body.targets or [])
    if scores > MAX_SCORES:
        raise Problem(
            "too_large",
            f"{sum(masks)} masks with {len(body.targets or [])} targets are {scores} scores, more than {MAX_SCORES}; "
            "send fewer texts, masks or targets.",
        )


class Fill:
    """One request's way through the model."""

    def __init__(self, session: Session, body: AskedMasks, targets: Sequence[Tokens]) -> None:
        self._session = session
        self._body = body
        self._targets = targets
        self._tokenizer = session.model.tokenizer
        self._top_k = body.top_k or DEFAULT_TOP_K

    async def each_for_itself(self) -> list[FilledOneByOne]:
        """Every mask by its own probabilities, all in one question to the engine."""
        targets = [target[0] for target in self._targets]
        results: list[FilledOneByOne] = []
        items: list[Item] = []
        places: list[list[tuple[int, int]]] = []  # for each input and mask: the item, and the mask's number in it
        for index, given in enumerate(self._body.inputs):
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
            results.append({"masks": [], "tokens": tokens, "windows": len(windows.spans), "truncated": truncated})
        outputs = await self._session.infer(items)
        for given, result, each in zip(self._body.inputs, results, places, strict=True):
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

    async def by_long_targets(self) -> list[FilledOneByOne]:
        """Every mask by targets of which some have several tokens: such a mask becomes as many masks."""
        by_count: dict[int, list[Tokens]] = {}
        for target in self._targets:
            by_count.setdefault(len(target), []).append(target)
        targets = {count: beginnings_of(each) for count, each in by_count.items()}
        holes = [holes_of(given) for given in self._body.inputs]
        # Known beforehand, unlike a beam's: too many are refused before a text is encoded.
        self._check(sum(map(len, holes)) * sum(len(place) for each in targets.values() for place in each))
        blanks: list[Blank] = []
        owners: list[int] = []
        results: list[FilledOneByOne] = []
        for index, given in enumerate(self._body.inputs):
            result: FilledOneByOne = {"masks": [], "tokens": 0, "windows": 1, "truncated": False}
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
                            "token": (token := self._written(one)),
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

    async def jointly(self) -> list[FilledTogether]:
        """All masks of a text together."""
        blanks: list[Blank] = []
        owners: list[int] = []
        results: list[FilledTogether] = []
        variants = [self._variants(index, given) for index, given in enumerate(self._body.inputs)]
        self._check(sum(map(len, variants)))
        for index, texts in enumerate(variants):
            result: FilledTogether = {"fills": [], "tokens": 0, "windows": 1, "truncated": False}
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
                    "text": self._written(one),
                    "tokens": self._tokens(one),
                    "score": one.score,
                    "token_score": one.token_score,
                    "sequence": sequence(text, self._tokens(one)),
                }
                for one, text in own[: self._top_k]
            ]
            await asyncio.sleep(0)
        return results

    def _variants(self, index: int, given: GivenText) -> list[GivenText]:
        """The text as it is, or where the number of its masks is open, with one mask, with two, and so on."""
        runs = _runs(given)
        if self._body.span is None and not any(run[2] for _, run in runs):
            return [given]
        most, span = self._session.settings.max_span, self._body.span or DEFAULT_SPAN
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
            _with(given, name, f"{text[: run.start()]}{MASK * count}{text[run.end() :]}")
            for count in range(1, span + 1)
        ]

    async def _encode(self, index: int, given: GivenText) -> tuple[Windows, bool]:
        """The windows of an input whose masks are as many as stand there; raises Problem."""
        windows, truncated = await self._session.encode(index, given)
        written = mask_count(given)
        # Where the tokenizer saw another number of masks than stand there, none of them could be put back in place.
        if windows.whole.masks != written:
            raise _no_mask(index)
        if len(windows.whole.mask_positions) < written:
            raise Problem("invalid_input", f"inputs[{index}] loses a mask to truncation; shorten the text before it.")
        return windows, truncated

    async def _blank(
        self, index: int, given: GivenText, result: Filled, first: int = 0, count: int | None = None
    ) -> Blank:
        """The window in which the masks from `first` on, `count` of them or all, have most context."""
        windows, truncated = await self._encode(index, given)
        result["windows"], result["truncated"] = len(windows.spans), truncated
        columns = windows.whole.mask_positions[first : None if count is None else first + count]
        window = windows.best_for(columns)
        if window is None:
            raise Problem(
                "invalid_input", f"inputs[{index}] has masks too far apart to be filled together; shorten the text."
            )
        text = windows.encodings[window]
        return Blank(text.input_ids, text.token_type_ids, [windows.column(window, column) or 0 for column in columns])

    def _check(self, texts: int) -> None:
        """Raises Problem where so many texts are too many to run."""
        if texts > (most := self._session.settings.max_fill_texts):
            raise Problem(
                "too_large",
                f"the request needs more than {most} texts run; send fewer texts, masks or targets, or a smaller "
                "top_k or span.",
            )

    def _ask(self, results: Sequence[Filled], owners: list[int]) -> Ask:
        """Asks the engine, bounds how often, and counts what each input costs; `owners` are the blanks' inputs."""
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

    def _written(self, filling: Filling) -> str:
        return written(self._tokens(filling))


def written(tokens: Sequence[str]) -> str:
    """Tokens as text: pieces joined to their words, a space between Latin words and numbers."""
    text = ""
    for token in tokens:
        apart = text[-1:].isascii() and text[-1:].isalnum() and token[:1].isascii() and token[:1].isalnum()
        text += token[2:] if token.startswith("##") and len(token) > 2 else f" {token}" if apart else token
    return text


async def target_tokens(tokenizer: Tokenizer, targets: Sequence[str], most: int) -> list[Tokens]:
    """Tokens of the targets, each target once.

    Raises Problem for one that the vocabulary cannot write, or that has more than `most` tokens. A token as candidates
    write it, `##` included, stands for itself.
    """
    found: dict[Tokens, None] = {}
    for index, target in enumerate(targets):
        if target in tokenizer.ids:
            pieces = [tokenizer.ids[target]]
        else:
            pieces = tokenizer.pieces(target) if target.strip() else []
            await asyncio.sleep(0)
        if not pieces or tokenizer.unknown_id in pieces:
            shown = " ".join(tokenizer.tokens[piece] for piece in pieces) or "nothing"
            raise Problem(
                "invalid_input", f"targets[{index}] must be of tokens of the vocabulary, but {target!r} is {shown}."
            )
        if len(pieces) > most:
            raise Problem("invalid_input", f"targets[{index}] has {len(pieces)} tokens; at most {most} are allowed.")
        found[tuple(pieces)] = None
    return list(found)


def candidates(tokenizer: Tokenizer, mask: MaskOutput, targets: Sequence[int], top_k: int) -> list[tuple[int, float]]:
    """Ids and probabilities, the likeliest first: of the targets where there are any, else of the vocabulary."""
    if targets:
        return sorted(zip(targets, mask.target_scores, strict=True), key=lambda pair: -pair[1])[:top_k]
    ordinary = (
        pair for pair in zip(mask.top_ids, mask.top_scores, strict=True) if pair[0] not in tokenizer.special_ids
    )
    return [pair for pair, _ in zip(ordinary, range(top_k), strict=False)]


def mask_count(given: GivenText) -> int:
    """Masks that stand in an input."""
    return given.text.count(MASK) + (given.text_pair or "").count(MASK)


def _runs(given: GivenText) -> list[tuple[str, re.Match[str]]]:
    """Its rows of masks, each with the `+` behind it if there is one, and the field that it is in."""
    return [(name, run) for name in ("text", "text_pair") for run in _RUN.finditer(getattr(given, name) or "")]


def holes_of(given: GivenText) -> list[tuple[str, str]]:
    """What stands before and after each mask, in the text that it is in."""
    return [hole for text in (given.text, given.text_pair or "") for hole in holes(text)]


def holes(text: str) -> list[tuple[str, str]]:
    """What stands before and after each mask of a text."""
    parts = text.split(MASK)
    return [(MASK.join(parts[:cut]), MASK.join(parts[cut:])) for cut in range(1, len(parts))]


def widened(given: GivenText, number: int, count: int) -> GivenText:
    """The input with mask `number` replaced by `count` masks."""
    in_text = given.text.count(MASK)
    name, place = ("text", number) if number < in_text else ("text_pair", number - in_text)
    parts = getattr(given, name).split(MASK)
    before, after = MASK.join(parts[: place + 1]), MASK.join(parts[place + 1 :])
    return _with(given, name, f"{before}{MASK * count}{after}")


def _with(given: GivenText, name: str, text: str) -> GivenText:
    """The input with another text, or text_pair."""
    return PlainText(text, given.text_pair) if name == "text" else PlainText(given.text, text)


def sequence(given: GivenText, tokens: Sequence[str]) -> str:
    """The text with its masks filled; where both texts of a pair have masks, both, one a line."""
    remaining = list(tokens)
    lines = []
    for text in (given.text, given.text_pair or ""):
        parts = text.split(MASK)
        if len(parts) > 1:
            filling = [remaining.pop(0).removeprefix("##") for _ in parts[1:]]
            lines.append("".join(part + fill for part, fill in zip(parts, [*filling, ""], strict=True)))
    return "\n".join(lines)
