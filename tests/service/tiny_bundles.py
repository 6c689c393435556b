"""Writes small bundles with random weights: `python tiny_bundles.py KIND DIRECTORY`.

Run as a process of its own, because Paddle and FastDeploy do not belong into one. KIND is `tiny` (a classifier and a
masked LM), `slow` (a classifier whose full batch takes seconds), `many-labels` (a classifier with 7,051 labels) or
`paddlenlp` (a directory as PaddleNLP exports it, with the logits of PaddleNLP's own model beside it).
"""

import json
import sys
import zlib  # noqa: F401  before Paddle, which breaks it otherwise
from collections.abc import Sequence
from pathlib import Path

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


def paddlenlp(directory: Path) -> None:
    """PaddleNLP's recipe: its class, `to_static` with two int64 inputs, `paddle.jit.save`."""
    import paddle
    from paddlenlp.transformers import ErnieConfig, ErnieForSequenceClassification

    paddle.seed(7)
    config = ErnieConfig(
        vocab_size=len(TOKENS), hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=512, initializer_range=0.2, num_labels=3,
    )  # fmt: skip
    model = ErnieForSequenceClassification(config)
    model.eval()
    logits = model(paddle.to_tensor(PAIR_IDS), token_type_ids=paddle.to_tensor(PAIR_TYPES)).numpy().tolist()
    specs = [paddle.static.InputSpec([None, None], "int64", name) for name in ("input_ids", "token_type_ids")]
    export = directory / "reviews"
    paddle.jit.save(paddle.jit.to_static(model, input_spec=specs, full_graph=True), str(export / "model"))
    (export / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    (directory / "logits.json").write_text(json.dumps(logits), encoding="utf-8")


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
        paddlenlp(target)
