"""The configuration of an ERNIE model, and a table of the published variants.

The values are those of `paddlenlp/transformers/ernie/configuration.py` in PaddleNLP, which publishes the weights.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from model_build.architecture import refusal_of


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
    layer_norm_eps: float = 1e-12
    """Epsilon of all layer norms. PaddleNLP's ERNIE ignores the field of `config.json` and always uses 1e-12."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or value < (0 if field.name.endswith("_id") else 1)):
                raise ConfigError(
                    f"{field.name} must be a whole number of at least 1 (at least 0 for an id), not {value!r}."
                )
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not isinstance(value, float | int) or not value > 0:
                raise ConfigError(f"{name} must be above 0, not {value!r}.")
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

        Raises ConfigError if the file is not a JSON object, a value is invalid, or the file describes another network
        than that of ERNIE and BERT (see `model_build.architecture`); OSError if it cannot be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ConfigError(f"{path} is not JSON in UTF-8 ({error}); copy it again.") from error
        init_class = values.get("init_class") if isinstance(values, dict) else None
        while isinstance(values, dict) and isinstance(values.get("init_args"), list) and values["init_args"]:
            values = values["init_args"][0]
        if not isinstance(values, dict):
            raise ConfigError(
                f"{path} must hold a JSON object with the fields of a model configuration; copy it again."
            )
        if refusal := refusal_of({**values, "architectures": values.get("architectures") or [init_class]}):
            raise ConfigError(f"{path}: {refusal}")
        return cls.from_dict(values)


def _v3(layers: int, hidden: int, heads: int, ffn: int, *, tasks: int = 16, use_task_id: bool = True) -> ErnieConfig:
    return ErnieConfig(
        vocab_size=40000, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=ffn, hidden_act="gelu", max_position_embeddings=2048, type_vocab_size=4,
        task_type_vocab_size=tasks, use_task_id=use_task_id,
    )  # fmt: skip


_V1 = ErnieConfig()
_LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_EN: dict[str, Any] = {"vocab_size": 30522, "hidden_act": "gelu", "max_position_embeddings": 512, "type_vocab_size": 4}
_EN_BASE, _EN_LARGE = ErnieConfig(**_EN), ErnieConfig(**_EN, **_LARGE, intermediate_size=4096)
_V3 = {
    "base": _v3(12, 768, 12, 3072, tasks=3),
    "medium": _v3(6, 768, 12, 3072),
    "mini": _v3(6, 384, 12, 1536),
    "micro": _v3(4, 384, 12, 1536),
    "nano": _v3(4, 312, 12, 1248),
}

VARIANTS: dict[str, ErnieConfig] = {
    "ernie-1.0": _V1,
    "ernie-1.0-base-zh": _V1,
    "ernie-1.0-base-zh-cw": ErnieConfig(
        vocab_size=40000, hidden_act="gelu", max_position_embeddings=512, type_vocab_size=4, use_task_id=True
    ),
    "ernie-1.0-large-zh-cw": ErnieConfig(**_LARGE, max_position_embeddings=512),
    "ernie-tiny": ErnieConfig(
        vocab_size=50006, hidden_size=1024, num_hidden_layers=3, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=600,
    ),
    "ernie-2.0-base-zh": ErnieConfig(type_vocab_size=4),
    "ernie-2.0-large-zh": ErnieConfig(
        **_LARGE, vocab_size=12800, intermediate_size=4096, max_position_embeddings=512, type_vocab_size=4
    ),
    "ernie-2.0-base-en": _EN_BASE,
    "ernie-2.0-base-en-finetuned-squad": _EN_BASE,
    "ernie-2.0-large-en": _EN_LARGE,
    "ernie-3.0-xbase-zh": _v3(20, 1024, 16, 4096),
    **{f"ernie-3.0-{size}-zh": shape for size, shape in _V3.items()},
    **{f"ernie-3.0-tiny-{size}-v1-zh": shape for size, shape in _V3.items()},
    **{f"ernie-3.0-tiny-{size}-v2-zh": dataclasses.replace(shape, use_task_id=False) for size, shape in _V3.items()},
    "ernie-3.0-tiny-pico-v2-zh": _v3(3, 128, 2, 512, use_task_id=False),
    "ernie-3.0-tiny-mini-v2-en": ErnieConfig(
        vocab_size=50265, hidden_size=384, num_hidden_layers=6, intermediate_size=1536, hidden_act="gelu",
        max_position_embeddings=514, type_vocab_size=1,
    ),
    "ernie-search-base-dual-encoder-marco-en": _EN_BASE,
    "ernie-search-large-cross-encoder-marco-en": _EN_LARGE,
    **{f"rocketqa-zh-dureader-{part}-encoder": _V1 for part in ("query", "para", "cross")},
    **{f"rocketqa-v1-marco-{part}-encoder": _EN_BASE for part in ("query", "para", "cross")},
    **{f"rocketqav2-en-marco-{part}-encoder": _EN_BASE for part in ("query", "para", "cross")},
    **{f"rocketqa-{size}-cross-encoder": shape for size, shape in _V3.items()},
    **{f"rocketqa-zh-{size}-{part}-encoder": shape for size, shape in _V3.items() for part in ("query", "para")},
}  # fmt: skip
"""The published encoders of PaddleNLP 2.8 that are this network; UIE and UTC have it too, but with other heads."""


def variant(name: str) -> ErnieConfig:
    """The configuration of the published variant `name`; raises ConfigError that lists the names if it is unknown."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise ConfigError(f"{name!r} is not a known ERNIE variant; give one of {', '.join(VARIANTS)}.") from None
