"""Types of successful answers, for the OpenAPI document and the type checker. The answers themselves are dicts."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from typing_extensions import NotRequired, TypedDict, final

from model_build.bundle import Scores

Result = TypeVar("Result")


class Label(TypedDict):
    """A class and its score: a probability, or the number itself if the model's scores are raw."""

    label: str
    score: float


class _TextResult(TypedDict):
    tokens: int
    """Number of tokens that the model processed for this text, in all windows and runs, including special tokens."""
    windows: int
    truncated: bool
    unknown: int
    """Number of unknown tokens in the text: `[UNK]`, which stands for characters that the vocabulary lacks."""


class Classified(_TextResult):
    """The classes of one text, highest score first."""

    labels: list[Label]


class Candidate(TypedDict):
    """One way to fill one mask. A target of several tokens has `tokens`, and null as `token_id`."""

    token: str
    token_id: int | None
    score: float
    sequence: str
    tokens: NotRequired[list[str]]
    token_score: NotRequired[float]


@final
class FilledIndependently(_TextResult):
    """Candidates for each mask of one text."""

    masks: list[list[Candidate]]


class Fill(TypedDict):
    """One way to fill all masks of a text."""

    text: str
    tokens: list[str]
    score: float
    token_score: float
    sequence: str


@final
class FilledJointly(_TextResult):
    """Ways to fill all masks of one text together."""

    fills: list[Fill]


Filled = FilledIndependently | FilledJointly


class Tokenized(TypedDict):
    """The tokens of one text or pair as the model reads them, before windows or truncation."""

    tokens: list[str]
    token_ids: list[int]
    token_type_ids: list[int]
    """1 for the tokens of text_pair and the [SEP] after it, otherwise 0."""
    offsets: list[tuple[int, int] | None]
    """For each token, start and end in its text as sent, in code points; null for the added [CLS] and [SEP]."""
    unknown: int


class Usage(TypedDict):
    """The size of a request."""

    tokens: int


class Results(TypedDict, Generic[Result]):
    """The answer of an endpoint: one result for each input, in their order."""

    model: str
    version: str
    results: list[Result]
    usage: Usage
    label_count: NotRequired[int]
    """Number of labels of the model, if the answer has only the best 100 of each text because it has no top_k."""


class Description(TypedDict):
    """One model of the service."""

    name: str
    version: str
    task: str
    max_length: int
    labels: list[str]
    scores: Scores | None
    """What the scores of a classifier are; null for other tasks."""
    top_candidates: int | None
    evaluation: dict[str, Any]
    ready: bool
    backend: str | None


class Descriptions(TypedDict):
    """Every model of the service."""

    models: list[Description]


class Health(TypedDict):
    """The answer to a probe."""

    status: str


class Reload(TypedDict):
    """The result of a reload for each model; for rejected models the reason."""

    loaded: list[str]
    unloaded: list[str]
    unchanged: list[str]
    refused: dict[str, str]


class TensorShape(TypedDict):
    """A tensor of a model under /v2; -1 means a variable size."""

    name: str
    datatype: str
    shape: list[int]


class ModelTensors(TypedDict):
    """The inputs and outputs of a model under /v2."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorShape]
    outputs: list[TensorShape]


class Tensor(TensorShape):
    """A tensor of an answer: `data` in row-major order, or bytes after the JSON."""

    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, Any]]


class Inferred(TypedDict):
    """The answer of /v2/…/infer, or its JSON part if the request asks for binary tensors."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[Tensor]
    parameters: NotRequired[dict[str, Any]]
