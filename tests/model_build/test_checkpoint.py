"""Checkpoint folders that PaddleNLP wrote."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddlenlp import transformers as published

from model_build.checkpoint import CheckpointError, load_model, read_checkpoint
from model_build.export import export_checkpoint

VOCAB = "[PAD]\n[CLS]\n[SEP]\n[MASK]\n[UNK]\n好\n坏\n书\n"
SHAPE = {"vocab_size": 8, "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1,
         "intermediate_size": 16, "max_position_embeddings": 2048}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "task", "labels"),
    [
        ("ErnieForSequenceClassification", "classify", ["bad", "fair", "good"]),
        ("ErnieForTokenClassification", "token-classification", ["bad", "fair", "good"]),
        ("ErnieForMaskedLM", "fill-mask", []),
        ("ErnieForQuestionAnswering", "question-answering", []),
    ],
)
def test_a_folder_that_paddlenlp_saved_is_a_checkpoint_and_can_be_exported(
    tmp_path: Path, kind: str, task: str, labels: list[str]
) -> None:
    names = {0: "bad", 1: "fair", 2: "good"} if labels else {}
    config = published.ErnieConfig(**SHAPE, **({"id2label": names} if names else {}))
    theirs = getattr(published, kind)(config)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    (tmp_path / "theirs" / "vocab.txt").write_text(VOCAB, encoding="utf-8")
    checkpoint = read_checkpoint(tmp_path / "theirs")
    assert (checkpoint.task, checkpoint.labels, checkpoint.max_length) == (task, labels, 512)
    ids = paddle.to_tensor([[1, 5, 3, 7, 2]])
    theirs.eval()
    want, got = (
        each if isinstance(each, tuple) else (each,) for each in (theirs(ids), load_model(tmp_path / "theirs")(ids))
    )
    assert all(np.allclose(left.numpy(), right.numpy(), atol=1e-5) for left, right in zip(want, got, strict=True))
    bundle = export_checkpoint(tmp_path / "theirs", tmp_path / "models")
    assert (bundle.manifest.task, bundle.manifest.labels) == (task, labels)


def test_a_checkpoint_without_a_known_task_or_labels_is_refused(tmp_path: Path) -> None:
    published.ErnieModel(published.ErnieConfig(**SHAPE)).save_pretrained(str(tmp_path))
    (tmp_path / "vocab.txt").write_text(VOCAB, encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r'"task" must be classify or fill-mask or .*, not None; set it to the task'
    ):
        read_checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "task": "classify", "labels": []}), "utf-8")
    with pytest.raises(CheckpointError, match='"labels" must name at least two classes'):
        load_model(tmp_path)
