"""Which models are the network of this project: ERNIE, and BERT, which is ERNIE without the task-type table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NETWORKS = ("ernie", "bert")
"""The values of `model_type` in `config.json`."""
_CLASS = re.compile(
    r"(Ernie|Bert)(Model|For(MaskedLM|Pretraining|PreTraining|SequenceClassification|TokenClassification|"
    r"QuestionAnswering|MultipleChoice|NextSentencePrediction))"
)
_FIXED: Mapping[str, Any] = {"position_embedding_type": "absolute", "pool_act": "tanh", "is_decoder": False}
"""Fields of `config.json` of which this network has one value."""


def refusal_of(values: Mapping[str, Any]) -> str | None:
    """Why the model of a `config.json` is not this network, as a sentence, or None if it is.

    A file without `architectures` and `model_type` is taken for one of this project.
    """
    names = [name for name in values.get("architectures") or [] if name]
    model_type = values.get("model_type")
    other = next((name for name in names if not isinstance(name, str) or not _CLASS.fullmatch(name)), None)
    if other is not None or model_type not in (None, *NETWORKS):
        named = other if other is not None else f"of the type {model_type}"
        return (
            f"the model is {named}, another architecture than the encoders of ERNIE and BERT that this program reads; "
            "give a model of one of these."
        )
    for name, value in _FIXED.items():
        if values.get(name, value) != value:
            return f"{name} is {values[name]!r}, but this program computes only {value!r}; give another model."
    return None
