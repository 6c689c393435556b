"""A small classifier and a small masked LM with large random weights, and inputs for their graphs."""

from pathlib import Path

import numpy as np
import paddle

from model_build.bundle import Bundle
from model_build.checkpoint import Checkpoint, save_checkpoint
from model_build.config import ErnieConfig
from model_build.export import export_checkpoint
from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification
from model_build.runners import Arrays

CHARACTERS = "今天气真好我们去公园散步吧这家酒店的房间很干净服务周到下次还会再来质量太差了用两就坏非常失望，。"
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *"ab1", "##a", "##b", "word", *dict.fromkeys(CHARACTERS)]
LABELS = ["差", "中", "好"]


def small_checkpoint(directory: Path, task: str, **shape: object) -> Path:
    """Writes a checkpoint to `directory/<task>`; returns this path."""
    paddle.seed(5)
    config = ErnieConfig.from_dict(
        {
            "vocab_size": len(TOKENS) + 3,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
            **shape,
        }
    )
    model = ErnieForMaskedLM(config) if task == "fill-mask" else ErnieForSequenceClassification(config, len(LABELS))
    directory.mkdir(parents=True, exist_ok=True)
    vocab = directory / "vocab-source.txt"
    vocab.write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    about = Checkpoint(
        config, task, 64, LABELS if task == "classify" else [], provenance={"labels": LABELS}  # type: ignore[arg-type]
    )  # fmt: skip
    save_checkpoint(directory / task, about, model, vocab, ["今天天气真好。", "房间很干净，服务周到。"])
    return directory / task


def small_bundle(directory: Path, task: str, **shape: object) -> Bundle:
    """Exports a small checkpoint as the bundle `directory/models/m/1`."""
    return export_checkpoint(small_checkpoint(directory, task, **shape), directory / "models", name="m")


def batches(task: str, count: int = 12, size: int = 4) -> list[Arrays]:
    """Inputs with random ids and padding; for a masked LM with one mask in every row."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        lengths = rng.integers(4, 20, size=size)
        ids = np.zeros((size, lengths.max()), dtype=np.int64)
        for row, length in enumerate(lengths):
            ids[row, :length] = [1, *rng.integers(5, len(TOKENS), size=length - 2), 2]
        inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
        if task == "fill-mask":
            inputs["target_ids"] = ids[:, 1:3].copy()
            ids[:, 1] = 3
            inputs["mask_positions"] = np.arange(size) * ids.shape[1] + 1
        found.append(inputs)
    return found
