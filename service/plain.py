"""Bodies that are plainly good, read in one step: pydantic alone takes a tenth of what a short request may cost.

What is not taken here goes to the models of service/schemas.py, which say what is wrong with it, if anything is. What
is taken they would take too, and read as the same.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.engine.batching import Priority
from service.schemas import MAX_INPUTS, MAX_TARGET_CHARACTERS, MAX_TARGETS, MAX_TIMEOUT_MS, Strategy, Truncation


class PlainText(msgspec.Struct, forbid_unknown_fields=True):
    """One text, or a pair of texts."""

    text: str
    text_pair: str | None = None


class PlainClassify(msgspec.Struct):
    """What ClassifyRequest is after its validation."""

    inputs: list[PlainText]
    model: str | None
    top_k: int | None
    truncation: Truncation
    priority: Priority
    timeout_ms: int | None


class PlainFillMask(PlainClassify):
    """What FillMaskRequest is after its validation."""

    targets: list[str] | None
    strategy: Strategy
    span: int | None


_Positive = Annotated[int, Meta(ge=1)]


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    inputs: str | PlainText | list[str | PlainText] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    text_pair: str | UnsetType | None = UNSET
    model: str | None = None
    top_k: _Positive | None = None
    truncation: Truncation = "window"
    priority: Priority = "interactive"
    timeout_ms: Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] | None = None


class _FillMask(_Envelope):
    targets: (
        Annotated[
            list[Annotated[str, Meta(max_length=MAX_TARGET_CHARACTERS)]], Meta(min_length=1, max_length=MAX_TARGETS)
        ]
        | None
    ) = None
    strategy: Strategy = "independent"
    span: _Positive | None = None


_classify = msgspec.json.Decoder(_Envelope)
_fill_mask = msgspec.json.Decoder(_FillMask)


def plain_classify(body: bytes) -> PlainClassify | None:
    """A body of POST /classify that is plainly good."""
    try:
        read = _classify.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if (inputs := _inputs(read)) is None:
        return None
    return PlainClassify(inputs, read.model, read.top_k, read.truncation, read.priority, read.timeout_ms)


def plain_fill_mask(body: bytes) -> PlainFillMask | None:
    """A body of POST /fill-mask that is plainly good."""
    try:
        read = _fill_mask.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if (inputs := _inputs(read)) is None:
        return None
    joint = read.strategy == "joint"
    if (joint and read.targets) or (not joint and read.span is not None):
        return None
    return PlainFillMask(
        inputs,
        read.model,
        read.top_k,
        read.truncation,
        read.priority,
        read.timeout_ms,
        read.targets,
        read.strategy,
        read.span,
    )


def _inputs(read: _Envelope) -> list[PlainText] | None:
    """Its texts, whatever form they came in; None where they may not be as they are."""
    if read.text is not UNSET:
        if read.inputs is not UNSET:
            return None
        listed = [PlainText(read.text, None if read.text_pair is UNSET else read.text_pair)]
    elif read.text_pair is not UNSET or read.inputs is UNSET:
        return None
    elif isinstance(read.inputs, list):
        listed = [PlainText(each) if isinstance(each, str) else each for each in read.inputs]
    else:
        listed = [PlainText(read.inputs) if isinstance(read.inputs, str) else read.inputs]
    if not 1 <= len(listed) <= MAX_INPUTS:
        return None
    for each in listed:
        if not each.text.strip() or (each.text_pair is not None and not each.text_pair.strip()):
            return None
    return listed
