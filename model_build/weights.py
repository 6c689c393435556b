"""Reads weights and copies them into a model; refuses weights that do not fit and names them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn


class WeightsError(ValueError):
    """Weights that cannot be read or do not fit the model; the message names the file or the parameters."""


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def load_state(model: nn.Layer, state: dict[str, Any], *, new_heads: tuple[str, ...] = ()) -> list[str]:
    """Copies `state`, arrays by parameter name, into `model`; returns the names that the model does not have.

    `state` must have every parameter of the model, with the same shape. An exception are parameters whose name starts
    with one of `new_heads`: they keep their initial values if they are missing or have another shape. Entries that the
    model does not have, such as the heads of another task, are skipped.

    Raises WeightsError that names up to 20 missing parameters and up to 20 with another shape.
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
        raise WeightsError("the weights do not fit the model; " + "; ".join(parts) + ".")
    for name, parameter in own.items():
        if name in state and list(np.shape(state[name])) == list(parameter.shape):
            parameter.set_value(paddle.to_tensor(np.asarray(state[name]), dtype=parameter.dtype))
    return [name for name in state if name not in own]


def left_at_random(model: nn.Layer, state: Mapping[str, Any]) -> list[str]:
    """Sorted names of the parameters that `load_state` leaves randomly initialised.

    `state` lacks them or has them with another shape.
    """
    own = model.state_dict().items()
    return sorted(name for name, value in own if name not in state or [*np.shape(state[name])] != [*value.shape])


def read_pdparams(path: Path) -> dict[str, Any]:
    """Reads a `.pdparams` file, or `model_state.pdparams` in a folder: arrays by parameter name.

    If the file holds an encoder without a head, its names get the prefix `ernie.`, which they have in a model with a
    head. Raises WeightsError if the file is missing or holds no weights. The file is a pickle, which can run code: read
    only files that you trust.
    """
    file = path / "model_state.pdparams" if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(f"{file} does not exist; give a .pdparams file or a folder with model_state.pdparams.")
    try:
        state: dict[str, Any] = paddle.load(str(file), return_numpy=True)
    except (EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file} holds no weights ({error or 'it is empty'}); copy it again.") from error
    if "embeddings.word_embeddings.weight" in state:
        return {f"ernie.{name}": value for name, value in state.items()}
    return state


def read_pretrained(name: str) -> dict[str, Any]:
    """Downloads the weights of a published model by its PaddleNLP name; arrays by parameter name.

    Raises WeightsError if the download fails.
    """
    from paddlenlp.transformers import ErnieModel as PublishedErnie

    try:
        published = PublishedErnie.from_pretrained(name)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"the weights of {name!r} cannot be downloaded ({error}); without a network, give a folder with "
            "model_state.pdparams instead."
        ) from error
    return {f"ernie.{key}": value.numpy() for key, value in published.state_dict().items()}
