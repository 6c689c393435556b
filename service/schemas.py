"""Bodies of the two endpoints. Whatever form the inputs come in, they leave here as a list of TextInput."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from service.engine.batching import Priority
from service.problems import Problem

Truncation = Literal["error", "truncate", "window"]
Strategy = Literal["independent", "joint"]


class GivenText(Protocol):
    """One text, or a pair of texts, whoever has validated it."""

    @property
    def text(self) -> str: ...
    @property
    def text_pair(self) -> str | None: ...


class Asked(Protocol):
    """What both endpoints are asked, whoever has validated it."""

    @property
    def inputs(self) -> Sequence[GivenText]: ...
    @property
    def model(self) -> str | None: ...
    @property
    def top_k(self) -> int | None: ...
    @property
    def truncation(self) -> Truncation: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def timeout_ms(self) -> int | None: ...


class AskedMasks(Asked, Protocol):
    """What POST /fill-mask is asked."""

    @property
    def targets(self) -> list[str] | None: ...
    @property
    def strategy(self) -> Strategy: ...
    @property
    def span(self) -> int | None: ...


# More would hold up the event loop while they are validated, whatever the settings allow.
MAX_INPUTS = 1024
MAX_TARGET_CHARACTERS = 64
MAX_TARGETS = 1000
MAX_TIMEOUT_MS = 600_000
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _of_characters(text: str) -> str:
    """JSON's "\\ud800" makes a lone surrogate, which pydantic lets through and which would abort fast_tokenizer."""
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("holds half of a surrogate pair, which is no character")
    return text


Text = Annotated[StrictStr, AfterValidator(_of_characters)]


# For the OpenAPI document; the code says it in a better sentence.
_NOT_BLANK: dict[str, JsonValue] = {"pattern": r"\S"}
_ONE_OF_BOTH: JsonValue = [{"required": ["inputs"]}, {"required": ["text"]}]


class TextInput(BaseModel):
    """One text, or a pair of texts."""

    model_config = ConfigDict(extra="forbid")

    text: Text = Field(json_schema_extra=_NOT_BLANK)
    text_pair: Text | None = Field(None, json_schema_extra=_NOT_BLANK)

    @field_validator("text", "text_pair")
    @classmethod
    def _not_blank(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            raise ValueError("must not be empty or blank")
        return text


def _refuse_many_unknown(given: dict[str, Any], known: type[BaseModel]) -> None:
    """One error for all: pydantic would make one for each of a hundred thousand unknown fields."""
    if len(given) > len(known.model_fields):
        name = next(name for name in given if name not in known.model_fields)
        raise ValueError(f"has {len(given)} fields, and {name[:100]!r} is not a field of this request")


def _listed(inputs: Any) -> Any:
    """A string, an object, or a list of either, as a list of objects."""
    listed = inputs if isinstance(inputs, list) else [inputs]
    if len(listed) > MAX_INPUTS:
        raise Problem("too_large", f"the request has {len(listed)} inputs, but at most {MAX_INPUTS} are allowed.")
    for each in listed:
        if not isinstance(each, str | dict | TextInput):
            raise ValueError("must be a string, an object with text and text_pair, or a list of those")
        if isinstance(each, dict):
            _refuse_many_unknown(each, TextInput)
    return [{"text": each} if isinstance(each, str) else each for each in listed]


_Written = Annotated[str, Field(json_schema_extra=_NOT_BLANK)]
_Listed = Annotated[list[_Written | TextInput], Field(min_length=1, max_length=MAX_INPUTS)]
Inputs = Annotated[list[TextInput], BeforeValidator(_listed, json_schema_input_type=_Written | TextInput | _Listed)]


class Envelope(BaseModel):
    """What both endpoints take."""

    model_config = ConfigDict(extra="forbid")

    inputs: Inputs = Field(default_factory=list, description="a text, {text, text_pair}, or a list of those")
    text: Text | None = Field(None, description="instead of inputs: a single text", json_schema_extra=_NOT_BLANK)
    text_pair: Text | None = Field(None, description="second text that goes with text", json_schema_extra=_NOT_BLANK)
    model: Text | None = Field(None, description="may be left out where one model does the task")
    top_k: StrictInt | None = Field(None, ge=1, description="results per text")
    truncation: Truncation = Field(
        "window",
        description="a text longer than the model is read in overlapping windows, refused (error), or cut (truncate); "
        "the answer says how many windows there were and whether it was cut",
    )
    priority: Priority = Field("interactive", description="batch gives way to interactive, for two seconds at most")
    timeout_ms: StrictInt | None = Field(None, ge=1, le=MAX_TIMEOUT_MS, description="deadline of this request")

    @model_validator(mode="before")
    @classmethod
    def _single(cls, body: Any) -> Any:
        """A bare {text, text_pair} is one input."""
        if not isinstance(body, dict):
            return body
        _refuse_many_unknown(body, cls)
        if ("inputs" in body) == ("text" in body):
            raise ValueError("must have either inputs or text")
        if "text" in body:
            single = {name: body[name] for name in ("text", "text_pair") if name in body}
            rest = {name: value for name, value in body.items() if name not in single}
            return {**rest, "inputs": [single]}
        if "text_pair" in body:
            raise ValueError("has text_pair at the top without text; put it beside the text it belongs to")
        return body

    @field_validator("inputs")
    @classmethod
    def _some(cls, inputs: list[TextInput]) -> list[TextInput]:
        if not inputs:
            raise ValueError("must not be an empty list")
        return inputs


class ClassifyRequest(Envelope):
    """Body of POST /classify."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": _ONE_OF_BOTH,
            "examples": [{"inputs": ["房间很干净，服务也很周到。", "质量太差了，非常失望。"]}],
        }
    )


Target = Annotated[StrictStr, Field(max_length=MAX_TARGET_CHARACTERS), AfterValidator(_of_characters)]


class FillMaskRequest(Envelope):
    """Body of POST /fill-mask."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": _ONE_OF_BOTH, "examples": [{"inputs": "他把钱存进了[MASK]行。", "top_k": 5}]}
    )

    targets: list[Target] | None = Field(
        None, min_length=1, max_length=MAX_TARGETS, description="score these only; one may be of several tokens"
    )
    strategy: Strategy = Field(
        "independent", description="several masks of one text: each for itself, or together, as one word"
    )
    span: StrictInt | None = Field(
        None, ge=1, description="with joint: the text's masks, or its [MASK]+, stand for 1 to so many tokens"
    )

    @model_validator(mode="after")
    def _fits(self) -> FillMaskRequest:
        if self.span is not None and self.strategy != "joint":
            raise ValueError('has span, which needs "strategy": "joint"')
        if self.targets and self.strategy == "joint":
            raise ValueError('has targets, which are for "strategy": "independent"')
        return self
