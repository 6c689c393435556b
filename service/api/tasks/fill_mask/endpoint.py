"""POST /fill-mask: the request, and the limits of its answer."""

from __future__ import annotations

from collections.abc import Sequence

from service.api.answers import Filled
from service.api.exchange import Answer, Work
from service.api.models.catalog import Catalog
from service.api.models.served import ServedModel, Session
from service.api.models.tokenization import MASK
from service.api.request import Timings
from service.api.request_bodies import Decoder, FillMaskRequest
from service.api.tasks.fill_mask.filling import DEFAULT_TOP_K, Filler, target_tokens
from service.api.tasks.fill_mask.masks import mask_count
from service.api.tasks.results import check_json, results_answer
from service.problem import Problem

# A larger answer would block the event loop or exceed the size of an engine message.
MAX_ANSWER_CHARACTERS = 4_000_000
MAX_SCORES = 500_000
# Size of a candidate without its text: names, numbers, brackets.
CANDIDATE_CHARACTERS = 80


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
        return results_answer(model, await filled(model, asked, timings))


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
    _check_size(asked, padded)

    async def work(session: Session) -> Sequence[Filled]:
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


def _check_size(asked: FillMaskRequest, padded: bool) -> None:
    """Raises Problem if the answer would be too large."""
    masks = [mask_count(each) for each in asked.texts]
    top_k = min(asked.top_k or DEFAULT_TOP_K, len(asked.targets or []) or MAX_ANSWER_CHARACTERS)
    lengths = [max(len(each.text), len(each.text_pair or "")) for each in asked.texts]
    candidates = top_k * (len(masks) * max(masks) if padded else sum(masks))
    characters = candidates * CANDIDATE_CHARACTERS
    characters += top_k * sum(count * length for count, length in zip(masks, lengths, strict=True))
    if characters > MAX_ANSWER_CHARACTERS:
        raise Problem(
            "too_large",
            f"the answer would have {characters} characters, more than {MAX_ANSWER_CHARACTERS}; "
            "send fewer texts or masks, or a smaller top_k.",
        )
    scores = sum(masks) * len(asked.targets or [])
    if scores > MAX_SCORES:
        raise Problem(
            "too_large",
            f"{sum(masks)} masks with {len(asked.targets or [])} targets are {scores} scores, more than {MAX_SCORES}; "
            "send fewer texts, masks or targets.",
        )
