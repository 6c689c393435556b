"""The grammar of request bodies, as msgspec structs. The OpenAPI schemas and the messages of 422 are derived from it.

Inputs have several forms; a decoded body always has a list of TextInput.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.messages.inference import Priority
from service.problem import MAX_DETAIL_CHARACTERS, Problem
from service.settings import MAX_INPUTS

Truncation = Literal["error", "truncate", "window"]
Strategy = Literal["independent", "joint"]
CHOICES = {"truncation": get_args(Truncation), "priority": get_args(Priority), "strategy": get_args(Strategy)}

MAX_TARGET_CHARACTERS = 64
MAX_TARGETS = 1000
MAX_TIMEOUT_MS = 600_000
# A valid body has far fewer values: 1024 pairs of texts and 1000 targets. More would block the event loop for too long.
MAX_VALUES = 10_000
# The expressions of `sentence` are slow on a message of megabytes.
MAX_MESSAGE_CHARACTERS = 2 * MAX_DETAIL_CHARACTERS
# The values of a shorter body are not counted: it cannot have many more.
UNCOUNTED_BYTES = 1 << 15

# __post_init__ checks this, because this kind of constraint is not reliable in msgspec 0.22.
Text = Annotated[str, Meta(extra_json_schema={"pattern": r"\S"})]
Count = Annotated[int, Meta(ge=1)]


class TextInput(msgspec.Struct, forbid_unknown_fields=True):
    """One text, or a pair of texts."""

    text: Text
    text_pair: Text | None = None

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(".text must not be empty or blank")
        if self.text_pair is not None and not self.text_pair.strip():
            raise ValueError(".text_pair must not be empty or blank")


_Listed = Annotated[list[Text | TextInput], Meta(min_length=1, extra_json_schema={"maxItems": MAX_INPUTS})]


class TextRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of every request with texts."""

    inputs: Annotated[
        Text | TextInput | _Listed | UnsetType, Meta(description="a text, {text, text_pair}, or a list of those")
    ] = UNSET
    text: Annotated[Text | UnsetType, Meta(description="instead of inputs: a single text")] = UNSET
    text_pair: Annotated[Text | UnsetType | None, Meta(description="the second text of a pair, with text")] = UNSET
    model: Annotated[str | None, Meta(description="needed only where several models do the task")] = None
    special_tokens: Annotated[
        bool,
        Meta(
            description="read special tokens in the texts, such as [SEP], as special tokens; otherwise they are plain "
            "text, except [MASK] for a model that fills masks"
        ),
    ] = False

    def __post_init__(self) -> None:
        if (self.inputs is UNSET) == (self.text is UNSET):
            raise ValueError("must have either inputs or text")
        if self.text is not UNSET:
            self.inputs = [TextInput(self.text, None if self.text_pair is UNSET else self.text_pair)]
        elif self.text_pair is not UNSET:
            raise ValueError("has text_pair at the top without text; put it next to its text")
        elif isinstance(self.inputs, list):
            _check_count(self.inputs)
            self.inputs = [_text_input(each, index) for index, each in enumerate(self.inputs)]
        else:
            self.inputs = [_text_input(self.inputs, 0)]  # type: ignore[arg-type]

    @property
    def texts(self) -> list[TextInput]:
        """The inputs as a list."""
        return self.inputs  # type: ignore[return-value]  # __post_init__ has converted it


class TokenizeRequest(TextRequest):
    """Body of POST /tokenize."""


class WorkRequest(TextRequest):
    """The fields that the endpoints of all tasks have."""

    top_k: Annotated[Count | None, Meta(description="number of results for each text")] = None
    truncation: Annotated[
        Truncation,
        Meta(
            description="what happens to a text longer than the model: it is read in overlapping windows, refused "
            "(error), or cut (truncate); the answer has the number of windows and whether the text was cut"
        ),
    ] = "window"
    priority: Annotated[
        Priority, Meta(description="batch requests wait for interactive ones, but for two seconds at most")
    ] = "interactive"
    timeout_ms: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TIMEOUT_MS)] | None, Meta(description="time limit of this request")
    ] = None


def _text_input(given: str | TextInput, index: int) -> TextInput:
    if not isinstance(given, str):
        return given
    if not given.strip():
        raise ValueError(f".inputs[{index}].text must not be empty or blank")
    return TextInput(given)


class ClassifyRequest(WorkRequest):
    """Body of POST /classify."""

    threshold: Annotated[
        float | None, Meta(description="only labels with at least this score; the list of a text may be empty")
    ] = None
    raw_scores: Annotated[
        bool, Meta(description="logits instead of probabilities: the outputs of the model before softmax or sigmoid")
    ] = False


Target = Annotated[str, Meta(max_length=MAX_TARGET_CHARACTERS)]


class FillMaskRequest(WorkRequest):
    """Body of POST /fill-mask."""

    targets: Annotated[
        Annotated[list[Target], Meta(min_length=1, max_length=MAX_TARGETS)] | None,
        Meta(description="score these words only; a word may have several tokens"),
    ] = None
    strategy: Annotated[
        Strategy, Meta(description="how several masks of a text are filled: each independently, or jointly as one word")
    ] = "independent"
    span: Annotated[
        Count | None,
        Meta(description="with joint: the masks of the text, or its [MASK]+, stand for 1 to this many tokens"),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.span is not None and self.strategy != "joint":
            raise ValueError('has span, which needs "strategy": "joint"')
        if self.targets and self.strategy == "joint":
            raise ValueError('has targets, which need "strategy": "independent"')


Body = TypeVar("Body", bound=msgspec.Struct)


class Decoder(Generic[Body]):
    """Reads bodies of one type."""

    def __init__(self, kind: type[Body], half_surrogate: str = "invalid_input") -> None:
        """`half_surrogate` is the problem's code if a string contains half of a surrogate pair."""
        self._kind = kind
        self._half_surrogate = half_surrogate
        self._decoder = msgspec.json.Decoder(kind)

    def decode(self, body: bytes) -> Body:
        """Raises Problem: `invalid_json` with the position, `invalid_input` with the field, or `too_large`."""
        if len(body) > UNCOUNTED_BYTES:
            _check_value_count(body)
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # The standard library names the position, and reads UTF-16 and a byte order mark.
            return self.convert(_json(body))

    def convert(self, value: Any) -> Body:
        """Like `decode`, for a value that is already parsed; raises Problem."""
        if issubclass(self._kind, TextRequest) and isinstance(value, dict) and isinstance(value.get("inputs"), list):
            _check_count(value["inputs"])  # before any of them is checked
        try:
            _check_characters(value, "", self._half_surrogate)
            return msgspec.convert(value, self._kind)
        except RecursionError:
            raise _too_deep() from None
        except msgspec.ValidationError as error:
            raise Problem("invalid_input", sentence(str(error))) from None


def _check_count(inputs: Sequence[object]) -> None:
    if len(inputs) > MAX_INPUTS:
        raise Problem("too_large", f"the request has {len(inputs)} inputs, but at most {MAX_INPUTS} are allowed.")


def _check_value_count(body: bytes) -> None:
    """Raises Problem if a body has more than MAX_VALUES values.

    Each value but the first is after a comma, a colon or an opening bracket outside a string, so these are counted.
    Each step is a fast loop over bytes; together they take a few milliseconds for a body of 2 MiB.
    """
    if _separators(body) <= MAX_VALUES:
        return
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    # Before the body is split, because each string of a body with many would become an object.
    if unescaped.count(b'"') > 2 * MAX_VALUES or _separators(b"".join(unescaped.split(b'"')[::2])) > MAX_VALUES:
        raise Problem("too_large", f"the body has more than {MAX_VALUES} JSON values; send fewer texts and parameters.")


def _separators(body: bytes) -> int:
    return len(body) - len(body.translate(None, b",:[{"))


def _json(body: bytes) -> Any:
    """The value of a body; raises Problem."""
    if not body:
        raise Problem("invalid_input", "the body is missing.")
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise Problem("invalid_json", f"the body is not JSON: {error.msg} at character {error.pos}.") from None
    except UnicodeDecodeError as error:
        raise Problem("invalid_json", f"the body is not UTF-8 at byte {error.start}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise Problem("invalid_json", "the body holds a number with too many digits.") from None


def _too_deep() -> Problem:
    return Problem("invalid_json", "the body is nested too deeply.")


_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _check_characters(value: Any, field: str, code: str) -> None:
    """Raises Problem for half of a surrogate pair and for NaN, which the JSON parser accepts."""
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            raise Problem(code, f"{field or 'the body'} holds half of a surrogate pair, not a character.")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Problem("invalid_input", f"{field or 'the body'} must be a finite number, not {value}.")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_characters(name, field or "a field name", code)
            _check_characters(inner, f"{field}.{name}".lstrip("."), code)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_characters(inner, f"{field}[{index}]", code)


_KINDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a decimal number",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_SENTENCES = [
    (r"Object contains unknown field `(.*)`", lambda found, _: f"{found[1]} is not a field{_meant(found[1])}"),
    (r"Object missing required field `(.*)`", lambda found, _: f"{found[1]} is missing"),
    (r"Expected `int` >= (\d+)", lambda found, _: f"must be a whole number of at least {found[1]}"),
    (r"Expected `int` <= (\d+)", lambda found, _: f"must be a whole number of at most {found[1]}"),
    (r"Expected `array` of length >= 1", lambda *_: "must not be an empty list"),
    (r"Expected `array` of length <= (\d+)", lambda found, _: f"must be a list of at most {found[1]} elements"),
    (r"Expected `str` of length <= (\d+)", lambda found, _: f"must be a string of at most {found[1]} characters"),
    (r"Expected `object`, got .*", lambda _, at: f"must be a JSON object{'' if at else ', sent as application/json'}"),
    (r"Expected `(.*)`, got `(\w+)`", lambda found, _: f"must be {_kinds(found[1])}, not {_kinds(found[2])}"),
    (r"Invalid enum value .*", lambda _, at: f"must be one of {', '.join(CHOICES.get(at, ()))}"),
]  # fmt: skip


def _kinds(names: str) -> str:
    *others, last = [_KINDS.get(name, name) for name in names.split(" | ")]
    return f"{', '.join(others)} or {last}" if others else last


def _meant(name: str) -> str:
    """A suggestion for an unknown field: the known field with the most similar name."""
    known = [*FillMaskRequest.__struct_fields__, *ClassifyRequest.__struct_fields__, *TextInput.__struct_fields__]
    close = difflib.get_close_matches(name[:MAX_TARGET_CHARACTERS], known, 1)
    return f" of this request (did you mean {close[0]}?)" if close else " of this request"


def sentence(message: str) -> str:
    """msgspec's message about a value, such as "Expected `int`, got `str` - at `$.top_k`", as one sentence."""
    if len(message) > MAX_MESSAGE_CHARACTERS:  # it repeats a name or a value of the body
        message = f"{message[: MAX_MESSAGE_CHARACTERS // 2]}…{message[-MAX_MESSAGE_CHARACTERS // 2 :]}"
    found = re.fullmatch(r"(.*?)(?: - at `\$([^`]*)`)?", message, re.S)
    assert found
    what, at = found[1], (found[2] or "").lstrip(".")
    if what.startswith("."):  # a message of this file, which names the field
        return f"{at}{what}.".lstrip(".")
    inside = what.startswith(("Object contains", "Object missing"))  # these messages of msgspec also name the field
    for pattern, said in _SENTENCES:
        if match := re.fullmatch(pattern, what, re.S):
            what = said(match, at)
            break
    return f"{at}.{what}.".lstrip(".") if inside else f"{at or 'the body'} {what}."
