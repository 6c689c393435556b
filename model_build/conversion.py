"""Conversion of a checkpoint folder between the formats of PaddleNLP and Hugging Face."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import paddle

from model_build.atomic_write import atomic_folder
from model_build.bundle import read_vocabulary
from model_build.checkpoint import (
    WITH_POOLER,
    Checkpoint,
    CheckpointError,
    check_vocabulary,
    load_checkpoint_state,
    model_of,
    published_fields,
    published_task,
    read_checkpoint,
    write_checkpoint,
    write_vocabulary,
)
from model_build.config import ErnieConfig
from model_build.ernie import ErnieModel
from model_build.formats.names import hugging_face_names
from model_build.formats.tokenizer_json import read_tokenizer_json
from model_build.tokenizer_config import read_tokenizer_config, write_tokenizer_config
from model_build.weights import load_state, read_weights

log = logging.getLogger(__name__)

Format = Literal["paddlenlp", "huggingface"]
FORMATS: tuple[Format, ...] = get_args(Format)
PADDLENLP_EPSILON = 1e-12
"""The epsilon of all layer norms of PaddleNLP's ERNIE; it does not read `layer_norm_eps`."""


def convert(source: Path, output: Path, target: Format) -> None:
    """Writes the model of the folder `source`, of any format that is read, to the new folder `output`.

    A folder with only an encoder (`ErnieModel`, `BertModel`) stays one. Weights become float32. BERT becomes ERNIE
    without the task-type table, which is the same network. Raises CheckpointError, ConfigError or WeightsError if the
    source cannot be read or its weights do not fit, FileExistsError if `output` exists.
    """
    with tempfile.TemporaryDirectory() as aside:
        vocab = _vocabulary(source, Path(aside))
        config = ErnieConfig.from_json(source / "config.json")
        check_vocabulary(vocab, config, str(source))
        values = json.loads((source / "config.json").read_text(encoding="utf-8-sig"))
        state = {name: value.astype(np.float32) for name, value in read_weights(source).items()}
        checkpoint = read_checkpoint(source, vocab) if values.get("task") or published_task(values) else None
        if checkpoint:
            load_checkpoint_state(model_of(checkpoint, source), checkpoint, state)
        else:
            load_state(ErnieModel(config), _without_prefix(state))
            checkpoint = Checkpoint(config, "fill-mask", 0, tokenizer=read_tokenizer_config(source))
            state = _without_prefix(state)
        with atomic_folder(output) as folder:
            if target == "paddlenlp":
                _write_paddlenlp(folder, checkpoint, state, vocab, source)
            else:
                _write_hugging_face(folder, checkpoint, state, vocab)


def _vocabulary(source: Path, aside: Path) -> Path:
    """The `vocab.txt` of a folder, or one written into `aside` from its `tokenizer.json`."""
    vocab, tokenizer = source / "vocab.txt", source / "tokenizer.json"
    if not vocab.is_file() and tokenizer.is_file():
        vocab = aside / "vocab.txt"
        vocab.write_text("".join(token + "\n" for token in read_tokenizer_json(tokenizer)), encoding="utf-8")
    for path in (source / "config.json", vocab):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; give a folder with config.json, vocab.txt and weights.")
    read_vocabulary(vocab)
    return vocab


def _without_prefix(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of the encoder alone, as a file of `ErnieModel` names them."""
    return {name.removeprefix("ernie."): value for name, value in state.items() if name.startswith("ernie.")}


def _is_encoder(state: Mapping[str, Any]) -> bool:
    return "embeddings.word_embeddings.weight" in state


def _write_paddlenlp(
    folder: Path, checkpoint: Checkpoint, state: Mapping[str, np.ndarray], vocab: Path, source: Path
) -> None:
    if checkpoint.config.layer_norm_eps != PADDLENLP_EPSILON:
        log.warning(
            "layer_norm_eps is %g; PaddleNLP's ERNIE always computes with %g, so its outputs differ slightly. "
            "ernie-build and ernie-train use the value.", checkpoint.config.layer_norm_eps, PADDLENLP_EPSILON,
        )  # fmt: skip
    sentences = source / "sentences.txt"
    lines = sentences.read_text(encoding="utf-8").splitlines() if sentences.is_file() else []
    tensors = {name: paddle.to_tensor(value) for name, value in state.items()}
    if not _is_encoder(state):
        write_checkpoint(folder, checkpoint, tensors, vocab, lines)
        return
    paddle.save(tensors, str(folder / "model_state.pdparams"))
    _write_description(folder, {**dataclasses.asdict(checkpoint.config), **_ENCODER}, vocab)
    write_tokenizer_config(folder, checkpoint.tokenizer)


def _write_hugging_face(folder: Path, checkpoint: Checkpoint, state: Mapping[str, np.ndarray], vocab: Path) -> None:
    from safetensors.numpy import save_file

    fields = published_fields(checkpoint, state)
    fields["architectures"] = [name.replace("ForPretraining", "ForPreTraining") for name in fields["architectures"]]
    if _is_encoder(state):
        fields |= _ENCODER
        named = {name.removeprefix("ernie."): value for name, value in hugging_face_names(_with_prefix(state)).items()}
    else:
        reader = checkpoint.task == "question-answering"
        # Hugging Face's classes without a head on the pooler have no pooler.
        keep = checkpoint.task in WITH_POOLER or "cls.seq_relationship.weight" in state
        kept = {name: value for name, value in state.items() if keep or not name.startswith("ernie.pooler.")}
        named = hugging_face_names(kept, question_answering=reader)
    save_file(named, str(folder / "model.safetensors"), metadata={"format": "pt"})
    _write_description(folder, fields, vocab)
    write_tokenizer_config(folder, checkpoint.tokenizer, tokenizer_class="BertTokenizer")


_ENCODER = {"model_type": "ernie", "architectures": ["ErnieModel"]}


def _with_prefix(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"ernie.{name}": value for name, value in state.items()}


def _write_description(folder: Path, fields: Mapping[str, Any], vocab: Path) -> None:
    text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    write_vocabulary(folder, vocab)
