"""Reads weights and copies them into a model; refuses weights that do not fit and names them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from model_build.formats.errors import WeightsError
from model_build.formats.files import read_arrays, weights_file
from model_build.formats.names import our_names
from model_build.formats.torch_file import from_bits

__all__ = ["WeightsError", "left_at_random", "load_state", "read_pretrained", "read_weights"]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def load_state(model: nn.Layer, state: dict[str, Any], *, new_heads: tuple[str, ...] = ()) -> list[str]:
    """Copies `state`, arrays by parameter name, into `model`; returns the names that the model does not have.

    `state` must have every parameter of the model, with the same shape. An exception are parameters whose name starts
    with one of `new_heads`: they keep their initial values if they are missing or have another shape. The heads of
    another task are skipped.

    Raises WeightsError that names up to 20 missing parameters, up to 20 with another shape, and up to 20 of the encoder
    (`ernie.…`) that the model does not use.
    """
    own = model.state_dict()
    if unused := [name for name in state if name.startswith("ernie.") and name not in own]:
        raise WeightsError(
            f"the model does not use these weights of the encoder: {_listed(unused)}; correct its shape "
            "(num_hidden_layers, use_task_id) to that of the weights, in config.json or with the flags."
        )
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


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """The weights of a file, or of the file in a folder: float arrays by the parameter names of PaddleNLP's ERNIE.

    Reads `.pdparams`, `.safetensors` and PyTorch files of PaddleNLP and Hugging Face, of ERNIE and BERT; see
    `model_build.formats`. Raises WeightsError if a file is missing or damaged. A `.pdparams` file is a pickle, which
    can run code: read only files that you trust. The other formats cannot.
    """
    file = weights_file(path)
    return our_names(_read_pdparams(file) if file.suffix == ".pdparams" else read_arrays(file), file)


def _read_pdparams(file: Path) -> dict[str, np.ndarray]:
    try:
        state: dict[str, Any] = paddle.load(str(file), return_numpy=True)
    except (EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file} holds no weights ({error or 'it is empty'}); copy it again.") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{file} holds a {type(state).__name__}, not weights by name; save model.state_dict().")
    # Paddle has no bf16 in NumPy and returns its bits.
    arrays = {name: np.asarray(value) for name, value in state.items() if name != "StructuredToParameterName@@"}
    return {name: from_bits(value) if value.dtype == np.uint16 else value for name, value in arrays.items()}


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
            "weights instead."
        ) from error
    return {f"ernie.{key}": value.numpy() for key, value in published.state_dict().items()}
