"""Loading weights: what does not fit is refused by name."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn


class WeightsError(ValueError):
    """Weights that do not fit the model; the message lists the names."""


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def load_state(model: nn.Layer, state: dict[str, Any], *, new_heads: tuple[str, ...] = ()) -> list[str]:
    """Copies `state` (name -> array) into `model`.

    Parameters of the model whose name starts with one of `new_heads` may be absent from `state` and keep their
    initial values; everything else must be there with the same shape. Entries of `state` for which the model has no
    parameter (the heads of another task) are left out and their names returned.

    Raises WeightsError naming every missing parameter and every differing shape.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state and not name.startswith(new_heads or ("\0",))]
    wrong = []
    for name in own:
        if name in state:
            have, want = list(np.shape(state[name])), list(own[name].shape)
            if have != want and not name.startswith(new_heads or ("\0",)):
                wrong.append(f"{name} (file {have}, model {want})")
    if missing or wrong:
        parts = [f"missing: {_listed(missing)}"] if missing else []
        parts += [f"different shape: {_listed(wrong)}"] if wrong else []
        raise WeightsError("weights do not fit the model; " + "; ".join(parts) + ".")
    for name, parameter in own.items():
        if name in state and list(np.shape(state[name])) == list(parameter.shape):
            parameter.set_value(paddle.to_tensor(np.asarray(state[name]), dtype=parameter.dtype))
    return [name for name in state if name not in own]


def left_at_random(model: nn.Layer, state: Mapping[str, Any]) -> list[str]:
    """Names, sorted, of the parameters that `load_state` does not set: `state` has none, or one of another shape."""
    own = model.state_dict().items()
    return sorted(name for name, value in own if name not in state or [*np.shape(state[name])] != [*value.shape])


def read_pdparams(path: Path) -> dict[str, Any]:
    """Reads a `.pdparams` file, or `model_state.pdparams` in a folder, as PaddleNLP and `training/` write them.

    The names of an encoder saved by itself get the prefix `ernie.` that they have in a model with a head.
    """
    file = path / "model_state.pdparams" if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"{file} does not exist; give a .pdparams file or a folder with model_state.pdparams.")
    try:
        state: dict[str, Any] = paddle.load(str(file), return_numpy=True)
    except (EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file} holds no weights: {error or 'it is empty'}; copy it again.") from error
    if "embeddings.word_embeddings.weight" in state:
        return {f"ernie.{name}": value for name, value in state.items()}
    return state


def read_pretrained(name: str) -> dict[str, Any]:
    """Weights of a published model by its PaddleNLP name; downloads them, so it needs a network."""
    from paddlenlp.transformers import ErnieModel as PublishedErnie

    try:
        published = PublishedErnie.from_pretrained(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"the weights of {name!r} could not be had ({error}); without a network, give a folder that holds "
            "its model_state.pdparams instead."
        ) from error
    return {f"ernie.{key}": value.numpy() for key, value in published.state_dict().items()}
