"""POST /fill-mask: the request, and the limits of its answer."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from service.api.answers import Filled
from service.api.exchange import Answer, Work
from service.api.models.catalog import Catalog
from service.api.models.served import ServedModel, Session
from service.api.models.tokenization import MASK
from service.api.request import Timings
from service.api.request_bodies import Decoder, FillMaskRequest
from service.api.tasks.fill_mask.filling import DEFAULT_SPAN, DEFAULT_TOP_K, Filler, target_tokens
from service.api.tasks.fill_mask.masks import mask_count
from service.api.tasks.results import check_answer_bytes, check_json, results_answer
from service.problem import Problem

# More scores would block the event loop or exceed the size of an engine message.
MAX_SCORES = 500_000
# Bytes of a candidate in JSON without its texts: names, numbers, brackets.
CANDIDATE_BYTES = 130
# Bytes of a token in JSON. Few tokens of ERNIE's vocabularies are longer.
TOKEN_BYTES = 12


class FillMask:
    """The endpoint."""

    path = "/fill-mask"
    decoder = Decoder(FillMaskRequest)

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def answer(self, request: Work, body: bytes) -> Answer:
        """Raises Problem."""
        check_json(request)
        asked = self.decoder.decode(body)
        model = self._catalog.for_task(asked.model, "fill-mask")
        request.model, request.timings = model.name, (timings := Timings())
        return await results_answer(model, await filled(model, asked, timings))


async def filled(
    model: ServedModel, asked: FillMaskRequest, timings: Timings, padded: bool = False
) -> Sequence[Filled]:
    """The results, one for every input; raises Problem.

    `padded`: the caller pads every text to the largest number of masks in a text.
    """
    # Special tokens may be among the graph's candidates; the answer does not contain them.
    most = max(1, (model.manifest.top_candidates or 1) - len(model.tokenizer.special_ids))
    if not asked.targets and (asked.top_k or 0) > most:
        raise Problem("invalid_input", f"top_k is {asked.top_k}, but {model.name} gives at most {most} candidates.")
    _check_scores(asked)

    async def work(session: Session) -> Sequence[Filled]:
        limit = session.settings.max_answer_bytes
        check_answer_bytes(_answer_bytes(asked, padded), limit, "fewer texts or masks, or a smaller top_k")
        _check_masks(asked, session.settings.max_masks)
        targets = await target_tokens(model.tokenizer, asked.targets or [], session.settings.max_span)
        filler = Filler(session, asked, targets)
        if asked.strategy == "joint":
            return await filler.jointly()
        if any(len(target) > 1 for target in targets):
            return await filler.by_long_targets()
        return await filler.independently()

    return await model.answered(asked, timings, work)


def _check_masks(asked: FillMaskRequest, most: int) -> None:
    """Raises Problem for a text without masks or with too many masks."""
    for index, each in enumerate(asked.texts):
        if not (masks := mask_count(each)):
            raise Problem("invalid_input", f"inputs[{index}] has no mask token; put {MASK} where a token is wanted.")
        if masks > most:
            raise Problem("invalid_input", f"inputs[{index}] has {masks} masks, but at most {most} are allowed.")


def _answer_bytes(asked: FillMaskRequest, padded: bool) -> int:
    """Upper limit of the size of the answer. A candidate has its tokens up to three times, and the text around them."""
    joint = asked.strategy == "joint"
    masks = [mask_count(each) for each in asked.texts]
    lists = [1] * len(masks) if joint else masks
    top_k = asked.top_k or DEFAULT_TOP_K
    token = TOKEN_BYTES
    if asked.targets:
        top_k = min(top_k, len(asked.targets))
        token = max(map(_json_bytes, asked.targets))
    elif joint:
        token *= max(*masks, asked.span or DEFAULT_SPAN)
    candidates = top_k * (len(lists) * max(lists) if padded else sum(lists))
    pairs = [(_json_bytes(each.text), _json_bytes(each.text_pair or "")) for each in asked.texts]
    around = [sum(pair) if joint else max(pair) for pair in pairs]
    sequences = sum(count * length for count, length in zip(lists, around, strict=True))
    return candidates * (CANDIDATE_BYTES + 3 * token) + top_k * sequences


def _json_bytes(text: str) -> int:
    return len(msgspec.json.encode(text))


def _check_scores(asked: FillMaskRequest) -> None:
    """Raises Problem if the engine would have to send too many scores of targets."""
    masks, targets = sum(mask_count(each) for each in asked.texts), len(asked.targets or [])
    if masks * targets > MAX_SCORES:
        raise Problem(
            "too_large",
            f"{masks} masks with {targets} targets are {masks * targets} scores, more than {MAX_SCORES}; "
            "send fewer texts, masks or targets.",
        )
