"""PaddleNLP reads checkpoints and bundles as they are, with equal names and scores."""

import shutil
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddlenlp import Taskflow
from paddlenlp import transformers as published

from model_build.bundle import Bundle
from model_build.checkpoint import Checkpoint, load_model, save_checkpoint
from model_build.config import ErnieConfig
from model_build.export import export_checkpoint
from model_build.heads import (
    ErnieForMaskedLM,
    ErnieForPretraining,
    ErnieForQuestionAnswering,
    ErnieForSequenceClassification,
    ErnieForTokenClassification,
)
from model_build.runners import onnx_runner
from native import ErnieTokenizer

TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *"今天气真好坏书店，。"]
TEXT = "今天天气真好，书店"
LABELS = ["差评", "中评", "好评"]
CONFIG = ErnieConfig(
    vocab_size=len(TOKENS), hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
    hidden_act="gelu", max_position_embeddings=32, use_task_id=True, initializer_range=0.4,
)  # fmt: skip
MODELS = {
    "classify": lambda: ErnieForSequenceClassification(CONFIG, 3),
    "token-classification": lambda: ErnieForTokenClassification(CONFIG, 3),
    "question-answering": lambda: ErnieForQuestionAnswering(CONFIG),
    "fill-mask": lambda: ErnieForMaskedLM(CONFIG),
    "pretraining": lambda: ErnieForPretraining(CONFIG),
}
CLASSES = {
    "classify": "ForSequenceClassification", "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering", "fill-mask": "ForMaskedLM", "pretraining": "ForMaskedLM",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of every task; the vocabulary that it is written from has ids after its tokens."""
    folder = tmp_path_factory.mktemp("checkpoints")
    vocab = folder / "vocab.txt"
    vocab.write_text("".join(f"{token}\t{index}\n" for index, token in enumerate(TOKENS)), encoding="utf-8")
    for name, make in MODELS.items():
        paddle.seed(4)
        task = "fill-mask" if name == "pretraining" else name
        about = Checkpoint(CONFIG, task, 32, LABELS if "class" in name else [])
        save_checkpoint(folder / name, about, make(), vocab, [TEXT])
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_checkpoint(checkpoints / "classify", tmp_path_factory.mktemp("models"), name="m")


def ids_of(text: str) -> np.ndarray:
    return np.array([ErnieTokenizer(TOKENS).encode(text).ids], dtype=np.int64)


@pytest.mark.parametrize("name", MODELS)
def test_the_class_of_the_task_and_the_auto_class_give_the_same_outputs(checkpoints: Path, name: str) -> None:
    folder = checkpoints / name
    want = load_model(folder)(paddle.to_tensor(ids_of(TEXT)))
    for kind in (f"Ernie{CLASSES[name]}", f"AutoModel{CLASSES[name]}"):
        theirs = getattr(published, kind).from_pretrained(str(folder))
        theirs.eval()
        got = theirs(paddle.to_tensor(ids_of(TEXT)))
        pairs = zip(want, got, strict=True) if isinstance(want, tuple) else [(want, got)]
        assert all(np.abs(left.numpy() - right.numpy()).max() <= 1e-5 for left, right in pairs)
        if "class" in name:
            assert theirs.config.id2label == dict(enumerate(LABELS))
            assert theirs.config.label2id == {label: index for index, label in enumerate(LABELS)}
    encoder = published.AutoModel.from_pretrained(str(folder))
    assert isinstance(encoder, published.ErnieModel)


def test_the_head_for_the_order_of_sentences_is_read_too(checkpoints: Path) -> None:
    theirs = published.ErnieForPretraining.from_pretrained(str(checkpoints / "pretraining"))
    ours = paddle.load(str(checkpoints / "pretraining" / "model_state.pdparams"))
    name = "cls.seq_relationship.weight"
    assert np.array_equal(theirs.state_dict()[name].numpy(), ours[name].numpy())
    assert theirs.config.architectures == ["ErnieForPretraining"]


def test_the_auto_tokenizer_gives_the_same_ids(checkpoints: Path, bundle: Bundle) -> None:
    for folder in (checkpoints / "classify", bundle.directory / "graph"):
        tokenizer = published.AutoTokenizer.from_pretrained(str(folder))
        assert isinstance(tokenizer, published.ErnieTokenizer)
        assert tokenizer(TEXT)["input_ids"] == ids_of(TEXT)[0].tolist()


def test_taskflow_classifies_with_a_checkpoint_and_with_the_graph_of_a_bundle(
    checkpoints: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlenlp.taskflow.task.download_check", lambda _: None)  # it reports the use to a server
    run = onnx_runner(bundle.graph("onnx")[0], ["logits"])
    logits = run({"input_ids": ids_of(TEXT), "token_type_ids": np.zeros_like(ids_of(TEXT))})[0][0]
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    shutil.copytree(checkpoints / "classify", tmp_path / "checkpoint")
    shutil.copytree(bundle.directory / "graph", tmp_path / "graph")
    for folder, static in (("checkpoint", False), ("graph", True)):
        flow = Taskflow("text_classification", task_path=str(tmp_path / folder), is_static_model=static)
        found = flow(TEXT)[0]["predictions"][0]
        assert found["label"] == LABELS[int(scores.argmax())]
        assert abs(found["score"] - scores.max()) <= 1e-5


def test_taskflow_fills_a_mask(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddlenlp.taskflow.task.download_check", lambda _: None)
    shutil.copytree(checkpoints / "fill-mask", tmp_path / "m")
    ids = ids_of("今天真好")
    ids[0, 2] = 3
    logits = load_model(checkpoints / "fill-mask")(paddle.to_tensor(ids)).numpy()[0, 2]
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = Taskflow("fill_mask", task_path=str(tmp_path / "m"))("今[MASK]真好")[0][0]
    assert best["token"] == int(scores.argmax())
    assert abs(best["score"] - scores.max()) <= 1e-5
