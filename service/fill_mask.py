"""POST /fill-mask."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from service.classify import answer
from service.engine.messages import MaskOutput
from service.models import ServedModel, Timings
from service.problems import RESPONSES, Problem
from service.schemas import FillMaskRequest
from service.tokenization import MASK, Tokenizer

router = APIRouter(responses=RESPONSES)
DEFAULT_TOP_K = 5


@router.post("/fill-mask")
async def fill_mask(body: FillMaskRequest, request: Request) -> Response:
    """Candidates for every mask of every input, each mask for itself, the likeliest first."""
    model = request.app.state.models.for_task(body.model, "fill-mask")
    request.state.model = model.name
    request.state.timings = timings = Timings()
    return answer(model.name, model.manifest.version, await filled(model, body, timings))


async def filled(model: ServedModel, body: FillMaskRequest, timings: Timings) -> list[dict[str, Any]]:
    """`results` of the answer, one for every input; raises Problem."""
    # The graph's candidates may hold every special token, and those are no answers.
    most = max(1, (model.manifest.top_candidates or 1) - len(model.tokenizer.special_ids))
    if not body.targets and (body.top_k or 0) > most:
        raise Problem("invalid_input", f"top_k is {body.top_k}, but {model.name} gives at most {most} candidates.")
    targets = await target_ids(model.tokenizer, body.targets or [])
    encodings, outputs = await model.run(body, timings, targets)
    results: list[dict[str, Any]] = []
    for given, encoding, output in zip(body.inputs, encodings, outputs, strict=True):
        sequences = [part for text in (given.text, given.text_pair or "") for part in holes(text)]
        masks = []
        for (before, after), mask in zip(sequences, output.masks, strict=True):
            ranked = candidates(model.tokenizer, mask, targets, body.top_k)
            masks.append(
                [
                    {
                        "token": (token := model.tokenizer.tokens[token_id]),
                        "token_id": token_id,
                        "score": score,
                        "sequence": f"{before}{token.removeprefix('##')}{after}",
                    }
                    for token_id, score in ranked
                ]
            )
        results.append({"masks": masks, "tokens": len(encoding.input_ids), "truncated": encoding.truncated})
    return results


async def target_ids(tokenizer: Tokenizer, targets: Sequence[str]) -> list[int]:
    """Ids of the targets, each once; raises Problem for one that is not exactly one known token.

    A token as candidates write it, `##` included, stands for itself.
    """
    ids: dict[int, None] = {}
    for index, target in enumerate(targets):
        if target in tokenizer.ids:
            pieces = [tokenizer.ids[target]]
        else:
            pieces = tokenizer.pieces(target) if target.strip() else []
            await asyncio.sleep(0)
        if len(pieces) != 1 or pieces[0] == tokenizer.unknown_id:
            written = " ".join(tokenizer.tokens[piece] for piece in pieces) or "nothing"
            raise Problem(
                "invalid_input", f"targets[{index}] must be one token of the vocabulary, but {target!r} is {written}."
            )
        ids[pieces[0]] = None
    return list(ids)


def candidates(
    tokenizer: Tokenizer, mask: MaskOutput, targets: Sequence[int], top_k: int | None
) -> list[tuple[int, float]]:
    """Ids and probabilities, the likeliest first: of the targets where there are any, else of the vocabulary."""
    if targets:
        return sorted(zip(targets, mask.target_scores, strict=True), key=lambda pair: -pair[1])[:top_k]
    ordinary = (
        pair for pair in zip(mask.top_ids, mask.top_scores, strict=True) if pair[0] not in tokenizer.special_ids
    )
    return [pair for pair, _ in zip(ordinary, range(top_k or DEFAULT_TOP_K), strict=False)]


def holes(text: str) -> list[tuple[str, str]]:
    """What stands before and after each mask of a text."""
    parts = text.split(MASK)
    return [(MASK.join(parts[:cut]), MASK.join(parts[cut:])) for cut in range(1, len(parts))]
