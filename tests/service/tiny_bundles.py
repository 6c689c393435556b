"""Writes small bundles with random weights: `python tiny_bundles.py KIND DIRECTORY`.

Run as a process of its own, because Paddle and FastDeploy do not belong into one. KIND is `tiny` (a classifier and a
masked LM), `slow` (a classifier whose full batch takes seconds), `many-labels` (a classifier with 7,051 labels),
`paddlenlp` (a directory as PaddleNLP exports it, with the logits of PaddleNLP's own model beside it) or `heads` (such
directories with other heads and label files).
"""

import json
import sys
import zlib  # noqa: F401  before Paddle, which breaks it otherwise
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHARACTERS = "今天气真好我们去公园散步吧这家酒店的房间很干净服务周到下次还会再来北京是中国首都，。！"
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "ok", "##ay", *dict.fromkeys(CHARACTERS)]
PAIR_IDS = [[1, 7, 8, 9, 2, 10, 11, 2], [1, 12, 13, 2, 0, 0, 0, 0]]
PAIR_TYPES = [[0, 0, 0, 0, 0, 1, 1, 1], [0] * 8]


def save(directory: Path, task: str, name: str, classes: Sequence[str] = ("差", "中", "好"), **shape: int) -> None:
    import paddle

    from model_build.checkpoint import Checkpoint, save_checkpoint
    from model_build.config import ErnieConfig
    from model_build.export import export_checkpoint
    from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification

    paddle.seed(5)
    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        **shape,
    }
    # Weights far from zero, so that a wrong input gives visibly other scores.
    config = ErnieConfig(
        vocab_size=len(TOKENS) + 3, intermediate_size=2 * sizes["hidden_size"], initializer_range=0.2, **sizes
    )
    model = ErnieForMaskedLM(config) if task == "fill-mask" else ErnieForSequenceClassification(config, len(classes))
    labels = list(classes) if task == "classify" else []
    vocab = directory / "vocab-source.txt"
    vocab.write_text("\n".join(TOKENS), encoding="utf-8")
    about = Checkpoint(config, task, sizes["max_position_embeddings"], labels)  # type: ignore[arg-type]
    save_checkpoint(directory / "checkpoints" / name, about, model, vocab, [])
    export_checkpoint(directory / "checkpoints" / name, directory / "models", name=name, top_candidates=30)


def paddlenlp_model(labels: int) -> Any:
    """PaddleNLP's own classifier with random weights."""
    import paddle
    from paddlenlp.transformers import ErnieConfig, ErnieForSequenceClassification

    paddle.seed(7)
    config = ErnieConfig(
        vocab_size=len(TOKENS), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, initializer_range=0.2, num_labels=labels,
    )  # fmt: skip
    model = ErnieForSequenceClassification(config)
    model.eval()
    return model


def paddlenlp_export(model: Any, export: Path) -> None:
    """PaddleNLP's recipe: `to_static` with two int64 inputs, `paddle.jit.save`."""
    import paddle

    specs = [paddle.static.InputSpec([None, None], "int64", name) for name in ("input_ids", "token_type_ids")]
    paddle.jit.save(paddle.jit.to_static(model, input_spec=specs, full_graph=True), str(export / "model"))
    (export / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")


def paddlenlp(directory: Path) -> None:
    import paddle

    model = paddlenlp_model(3)
    logits = model(paddle.to_tensor(PAIR_IDS), token_type_ids=paddle.to_tensor(PAIR_TYPES)).numpy().tolist()
    paddlenlp_export(model, directory / "reviews")
    (directory / "logits.json").write_text(json.dumps(logits), encoding="utf-8")


def heads(directory: Path) -> None:
    """Exports whose outputs are logits of labels that do not exclude each other, probabilities, and one number."""
    import paddle

    class Softmaxed(paddle.nn.Layer):  # type: ignore[misc,unused-ignore]
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, token_type_ids: Any) -> Any:
            return paddle.nn.functional.softmax(self.model(input_ids, token_type_ids))

    several, one, two = (paddlenlp_model(labels) for labels in (3, 1, 2))
    for model, bias in ((several, [4.0, 4.0, -4.0]), (one, [0.7])):
        model.classifier.weight.set_value(paddle.zeros_like(model.classifier.weight))
        model.classifier.bias.set_value(paddle.to_tensor(bias))
    softmaxed = Softmaxed(two)
    softmaxed.eval()
    eager = softmaxed(paddle.to_tensor(PAIR_IDS), paddle.to_tensor(PAIR_TYPES)).numpy().tolist()
    (directory / "probabilities.json").write_text(json.dumps(eager), encoding="utf-8")
    for name, exported in (("topics", several), ("match", one), ("softmaxed", softmaxed)):
        paddlenlp_export(exported, directory / "models" / name)
    topics = directory / "models" / "topics"
    names = {"2": "环境", "0": "物流", "1": "质量"}
    (topics / "id2label.json").write_text("\ufeff" + json.dumps(names, ensure_ascii=False), encoding="utf-8")
    (topics / "config.json").write_text('{"problem_type": "multi_label_classification"}', encoding="utf-8")


if __name__ == "__main__":
    kind, target = sys.argv[1], Path(sys.argv[2])
    if kind == "tiny":
        save(target, "classify", "reviews")
        save(target, "fill-mask", "characters")
    elif kind == "slow":
        wide = {"hidden_size": 256, "num_hidden_layers": 6, "max_position_embeddings": 512}
        save(target, "classify", "slow", **wide)
    elif kind == "many-labels":
        save(target, "classify", "entities", [f"实体{number}" for number in range(7051)])
    else:
        {"paddlenlp": paddlenlp, "heads": heads}[kind](target)
