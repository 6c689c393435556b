"""Names and layouts of the parameters of ERNIE and BERT: PaddleNLP's, which this project uses, and Hugging Face's.

PyTorch stores the matrix of a linear layer as [out, in], Paddle as [in, out]. Everything else has the same shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model_build.formats.errors import WeightsError

WORDS = "embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
DECODER_BIASES = ("cls.predictions.decoder.bias", "cls.predictions.decoder_bias")
"""PaddleNLP stores the bias of the masked-LM decoder under both names."""
PREFIXES = ("ernie.", "bert.", "")
"""Before the names of the encoder: that of a model with a head, or none in a file that holds only the encoder."""
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
"""Not weights; older releases of Hugging Face store them."""
LAYER_LINEARS = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
}
LAYER_NORMS = {"attention.output.LayerNorm": "norm1", "output.LayerNorm": "norm2"}
LINEARS = {
    "ernie.pooler.dense": "ernie.pooler.dense",
    "cls.predictions.transform.dense": "cls.predictions.transform",
    "cls.seq_relationship": "cls.seq_relationship",
    "classifier": "classifier",
    "qa_outputs": "classifier",
}
NORMS = {
    "ernie.embeddings.LayerNorm": "ernie.embeddings.layer_norm",
    "cls.predictions.transform.LayerNorm": "cls.predictions.layer_norm",
}
_THEIR_LAYER = re.compile(r"ernie\.encoder\.layer\.(\d+)\.(.+)")
_OUR_LAYER = re.compile(r"ernie\.encoder\.layers\.(\d+)\.(.+)")


def our_names(arrays: Mapping[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
    """Weights under the names and in the layout of this project, from a file of PaddleNLP or Hugging Face.

    The encoder gets the prefix `ernie.`, also that of BERT. A masked-LM head without the matrix that it shares with the
    word table gets it. Raises WeightsError, which names `file`, if the head has another matrix or two different biases.
    """
    found = {f"ernie.{_bare(name, arrays)}" if _of_encoder(name, arrays) else name: value
             for name, value in arrays.items() if not name.endswith(BUFFERS)}  # fmt: skip
    if any(_THEIR_LAYER.match(name) for name in found):
        found = dict(_from_hugging_face(name, value) for name, value in found.items())
    return _with_shared(found, file)


def _prefix(arrays: Mapping[str, np.ndarray]) -> str | None:
    return next((prefix for prefix in PREFIXES if f"{prefix}{WORDS}" in arrays), None)


def _of_encoder(name: str, arrays: Mapping[str, np.ndarray]) -> bool:
    prefix = _prefix(arrays)
    return prefix is not None and name.startswith(prefix)


def _bare(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    return name.removeprefix(_prefix(arrays) or "")


def _from_hugging_face(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    module, _, kind = name.rpartition(".")
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    layer = _THEIR_LAYER.fullmatch(module)
    inner = layer.group(2) if layer else ""
    if layer and (ours := LAYER_LINEARS.get(inner) or LAYER_NORMS.get(inner)):
        linear, module = inner in LAYER_LINEARS, f"ernie.encoder.layers.{layer.group(1)}.{ours}"
    else:
        linear, module = module in LINEARS, LINEARS.get(module) or NORMS.get(module) or module
    return f"{module}.{kind}", value.T if linear and value.ndim == 2 else value


def _with_shared(found: dict[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
    """The weights with every name of the masked-LM decoder, whose matrix is the word table."""
    words = found.get(f"ernie.{WORDS}")
    matrix = found.pop("cls.predictions.decoder_weight", None)  # the name in PaddleNLP before 2.5
    matrix = found.get(DECODER, matrix)
    biases = [found[name] for name in ("cls.predictions.bias", *DECODER_BIASES) if name in found]
    found.pop("cls.predictions.bias", None)
    if matrix is not None and words is not None and not np.array_equal(matrix, words):
        raise WeightsError(
            f"{file}: {DECODER} differs from the table of the word embeddings, which this network shares with it; give "
            "a model with tied embeddings."
        )
    if any(not np.array_equal(biases[0], other) for other in biases[1:]):
        raise WeightsError(f"{file}: the masked-LM head has two different biases; save the model again.")
    if biases:
        found |= dict.fromkeys(DECODER_BIASES, biases[0])
        if words is not None:
            found[DECODER] = words
    return found


def hugging_face_names(state: Mapping[str, np.ndarray], *, question_answering: bool = False) -> dict[str, np.ndarray]:
    """The inverse of `our_names` for Hugging Face: `state` under its names, with linear layers as [out, in].

    The matrix of the masked-LM decoder, which it shares with the word table, is left out. The head of question
    answering has another name than those of the classifiers.
    """
    linears = {ours: theirs for theirs, ours in LINEARS.items() if theirs != "qa_outputs"}
    if question_answering:
        linears["classifier"] = "qa_outputs"
    norms = {ours: theirs for theirs, ours in NORMS.items()}
    in_layer = {ours: theirs for theirs, ours in (LAYER_LINEARS | LAYER_NORMS).items()}
    found = {}
    for name, value in state.items():
        if name in (DECODER, DECODER_BIASES[1]):
            continue
        module, _, kind = name.rpartition(".")
        layer = _OUR_LAYER.fullmatch(module)
        if name == DECODER_BIASES[0]:
            module, linear = "cls.predictions", False
        elif layer:
            linear = in_layer[layer.group(2)] in LAYER_LINEARS
            module = f"ernie.encoder.layer.{layer.group(1)}.{in_layer[layer.group(2)]}"
        else:
            linear, module = module in linears, linears.get(module) or norms.get(module) or module
        found[f"{module}.{kind}"] = np.ascontiguousarray(value.T if linear and value.ndim == 2 else value)
    return found
