"""The configuration of an ERNIE model, and a table of the published variants.

The values are those of `paddlenlp/transformers/ernie/configuration.py` in PaddleNLP, which publishes the weights.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any


class ConfigError(ValueError):
    """An invalid configuration; the message is one sentence that names the field or the file."""


@dataclasses.dataclass(frozen=True)
class ErnieConfig:
    """The hyper-parameters of an ERNIE model, with the field names of PaddleNLP's `config.json`.

    Raises ConfigError for a value out of range or values that contradict each other.
    """

    vocab_size: int = 18000
    """Rows of the word-embedding table; may be more than the tokens of the vocabulary."""
    hidden_size: int = 768
    """Width of every hidden state."""
    num_hidden_layers: int = 12
    """Number of encoder layers."""
    num_attention_heads: int = 12
    """Attention heads of each layer; `hidden_size` must be divisible by it."""
    intermediate_size: int = 3072
    """Width of the feed-forward layer."""
    hidden_act: str = "relu"
    """Activation of the feed-forward layer and of the masked-LM head: `relu` or `gelu`."""
    max_position_embeddings: int = 513
    """Rows of the position table, and therefore the longest sequence in tokens."""
    type_vocab_size: int = 2
    """Rows of the token-type table."""
    task_type_vocab_size: int = 3
    """Rows of the task-type table (ERNIE 2.0, arXiv:1907.12412); used only with `use_task_id`."""
    use_task_id: bool = False
    """Whether a task-type embedding is added to the input."""
    task_id: int = 0
    """Task type that the model uses if the caller gives none."""
    hidden_dropout_prob: float = 0.1
    """Dropout probability of embeddings, attention output, feed-forward output and heads."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout probability of the attention weights."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    pad_token_id: int = 0
    """Id of `[PAD]`; no token attends to a position with this id."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or value < (0 if field.name.endswith("_id") else 1)):
                raise ConfigError(
                    f"{field.name} must be a whole number of at least 1 (at least 0 for an id), not {value!r}."
                )
        if not self.initializer_range > 0:
            raise ConfigError(f"initializer_range must be above 0, not {self.initializer_range!r}.")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}."
            )
        if self.hidden_act not in ("relu", "gelu"):
            raise ConfigError(f"hidden_act must be 'relu' or 'gelu', not {self.hidden_act!r}.")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary, as stored in checkpoints and bundles."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ErnieConfig:
        """Builds a configuration from a dictionary; keys that are not fields are ignored. Raises ConfigError."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    @classmethod
    def from_json(cls, path: Path) -> ErnieConfig:
        """Reads a `config.json`, or a `model_config.json` of older PaddleNLP releases, which nest it in `init_args`.

        Raises ConfigError if the file is not a JSON object or a value is invalid, OSError if it cannot be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON in UTF-8 ({error}); copy it again.") from error
        while isinstance(values, dict) and isinstance(values.get("init_args"), list) and values["init_args"]:
            values = values["init_args"][0]
        if not isinstance(values, dict):
            raise ConfigError(
                f"{path} must hold a JSON object with the fields of a model configuration; copy it again."
            )
        return cls.from_dict(values)


def _v1(**shape: Any) -> ErnieConfig:
    return ErnieConfig(**shape)


def _v3(layers: int, hidden: int, heads: int, ffn: int, *, tasks: int = 16, use_task_id: bool = True) -> ErnieConfig:
    return ErnieConfig(
        vocab_size=40000, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=ffn, hidden_act="gelu", max_position_embeddings=2048, type_vocab_size=4,
        task_type_vocab_size=tasks, use_task_id=use_task_id,
    )  # fmt: skip


VARIANTS: dict[str, ErnieConfig] = {
    "ernie-1.0-base-zh": _v1(),
    "ernie-1.0-large-zh-cw": _v1(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, max_position_embeddings=512
    ),
    "ernie-2.0-base-zh": _v1(type_vocab_size=4),
    "ernie-2.0-large-zh": _v1(
        vocab_size=12800, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=512, type_vocab_size=4,
    ),
    "ernie-3.0-xbase-zh": _v3(20, 1024, 16, 4096),
    "ernie-3.0-base-zh": _v3(12, 768, 12, 3072, tasks=3),
    "ernie-3.0-medium-zh": _v3(6, 768, 12, 3072),
    "ernie-3.0-mini-zh": _v3(6, 384, 12, 1536),
    "ernie-3.0-micro-zh": _v3(4, 384, 12, 1536),
    "ernie-3.0-nano-zh": _v3(4, 312, 12, 1248),
    "ernie-3.0-tiny-base-v2-zh": _v3(12, 768, 12, 3072, tasks=3, use_task_id=False),
    "ernie-3.0-tiny-medium-v2-zh": _v3(6, 768, 12, 3072, use_task_id=False),
    "ernie-3.0-tiny-mini-v2-zh": _v3(6, 384, 12, 1536, use_task_id=False),
    "ernie-3.0-tiny-micro-v2-zh": _v3(4, 384, 12, 1536, use_task_id=False),
    "ernie-3.0-tiny-nano-v2-zh": _v3(4, 312, 12, 1248, use_task_id=False),
    "ernie-3.0-tiny-pico-v2-zh": _v3(3, 128, 2, 512, use_task_id=False),
}  # fmt: skip


def variant(name: str) -> ErnieConfig:
    """The configuration of the published variant `name`; raises ConfigError that lists the names if it is unknown."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise ConfigError(f"{name!r} is not a known ERNIE variant; give one of {', '.join(VARIANTS)}.") from None
