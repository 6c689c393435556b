"""Checkpoint folders that PaddleNLP wrote."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddlenlp import transformers as published

from model_build.bundle import BundleError, open_bundle
from model_build.checkpoint import CheckpointError, load_model, read_checkpoint
from model_build.config import ConfigError
from model_build.conversion import convert
from model_build.export import export_checkpoint
from model_build.tokenizer_config import TokenizerSettings, read_tokenizer_config, write_tokenizer_config
from model_build.weights import WeightsError
from training.finetuning.starting_point import starting_point

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


def saved(directory: Path, kind: str = "ErnieForSequenceClassification", **fields: object) -> Path:
    """A folder of PaddleNLP, with these fields of `config.json` changed afterwards."""
    paddle.seed(2)
    getattr(published, kind)(published.ErnieConfig(**SHAPE, id2label={0: "bad", 1: "fair", 2: "good"})).save_pretrained(
        str(directory)
    )
    (directory / "vocab.txt").write_text(VOCAB, encoding="utf-8")
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")
    return directory


def test_safetensors_of_paddlenlp_are_read(tmp_path: Path) -> None:
    model = published.ErnieForTokenClassification(published.ErnieConfig(**SHAPE, id2label={0: "a", 1: "b", 2: "c"}))
    model.save_pretrained(str(tmp_path), safe_serialization=True)
    (tmp_path / "vocab.txt").write_text(VOCAB, encoding="utf-8")
    assert not (tmp_path / "model_state.pdparams").exists()
    model.eval()
    ids = paddle.to_tensor([[1, 5, 3, 7, 2]])
    assert np.allclose(model(ids).numpy(), load_model(tmp_path)(ids).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["ErnieForMaskedLM", "ErnieForTokenClassification", "ErnieForQuestionAnswering"])
def test_a_task_that_does_not_read_the_pooler_needs_none(tmp_path: Path, kind: str) -> None:
    saved(tmp_path, kind)
    weights = paddle.load(str(tmp_path / "model_state.pdparams"))
    kept = {name: value for name, value in weights.items() if ".pooler." not in name}
    assert len(kept) == len(weights) - 2
    ids = paddle.to_tensor([[1, 5, 3, 7, 2]])
    want = load_model(tmp_path)(ids)
    paddle.save(kept, str(tmp_path / "model_state.pdparams"))
    got = load_model(tmp_path)(ids)
    pairs = zip(want, got, strict=True) if isinstance(want, tuple) else [(want, got)]
    assert all(np.array_equal(left.numpy(), right.numpy()) for left, right in pairs)


def test_a_classifier_without_a_pooler_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    weights = paddle.load(str(tmp_path / "model_state.pdparams"))
    kept = {name: value for name, value in weights.items() if ".pooler." not in name}
    paddle.save(kept, str(tmp_path / "model_state.pdparams"))
    with pytest.raises(WeightsError, match=r"missing: ernie\.pooler\.dense"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"architectures": ["ErnieMForSequenceClassification"], "model_type": "ernie_m"}, "ErnieMForSequence"),
        ({"architectures": ["ErnieGramForSequenceClassification"]}, "ErnieGramForSequence"),
        ({"architectures": ["UIE"]}, "UIE"),
        ({"architectures": ["UTC"]}, "UTC"),
        ({"architectures": ["RobertaForSequenceClassification"], "model_type": "roberta"}, "RobertaForSequence"),
        ({"architectures": None, "model_type": "electra"}, "of the type electra"),
        ({"architectures": ["BertLMHeadModel"], "model_type": "bert"}, "BertLMHeadModel"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"pool_act": "relu"}, "pool_act is 'relu'"),
    ],
)
def test_another_architecture_is_refused_by_its_name(tmp_path: Path, fields: dict, named: str) -> None:
    folder = saved(tmp_path, **fields)
    for read in (read_checkpoint, load_model, lambda path: starting_point(str(path))):
        with pytest.raises(ConfigError, match=rf"config\.json: (the model is )?{named}"):
            read(folder)


def test_a_folder_of_bert_is_read_as_ernie_without_the_task_table(tmp_path: Path) -> None:
    paddle.seed(2)
    theirs = published.BertForSequenceClassification(
        published.BertConfig(**SHAPE, type_vocab_size=2, id2label={0: "bad", 1: "fair", 2: "good"})
    )
    theirs.save_pretrained(str(tmp_path))
    (tmp_path / "vocab.txt").write_text(VOCAB, encoding="utf-8")
    theirs.eval()
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.task, checkpoint.config.use_task_id) == ("classify", False)
    ids = paddle.to_tensor([[1, 5, 3, 7, 2, 0, 0]])
    assert np.allclose(theirs(ids).numpy(), load_model(tmp_path)(ids).numpy(), atol=1e-5)


def test_a_vocabulary_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    (folder / "vocab.txt").write_text(VOCAB + "一\n二\n三\n", encoding="utf-8")
    for read in (lambda: export_checkpoint(folder, tmp_path / "models"), lambda: starting_point(str(folder))):
        with pytest.raises(CheckpointError, match=r"vocab\.txt has 11 tokens, more than .* has embeddings \(8\)"):
            read()
    (folder / "vocab.txt").write_text(VOCAB.replace("[PAD]\n[CLS]", "[CLS]\n[PAD]"), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has \[PAD\] as token 1, but .* pads with token 0"):
        export_checkpoint(folder, tmp_path / "models")


@pytest.mark.parametrize(
    ("written", "rules"),
    [
        ({"architectures": ["ErnieForSequenceClassification"]}, "paddlenlp"),
        ({"architectures": ["ErnieForSequenceClassification"], "paddlenlp_version": "2.8.1"}, "paddlenlp"),
        ({"architectures": ["ErnieForSequenceClassification"], "transformers_version": "4.40.0"}, "bert"),
        ({"task": "classify"}, "bert"),
    ],
)
def test_the_rules_of_the_tokenizer_are_those_of_the_program_that_wrote_the_folder(
    tmp_path: Path, written: dict[str, Any], rules: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(written), encoding="utf-8")
    assert read_tokenizer_config(tmp_path) == TokenizerSettings(rules=rules)  # type: ignore[arg-type]
    given = TokenizerSettings(do_lower_case=False, rules="paddlenlp", fold_width=True)
    write_tokenizer_config(tmp_path, given)
    assert read_tokenizer_config(tmp_path) == given


def test_upper_and_lower_case_are_as_the_tokenizer_configuration_says(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    assert read_checkpoint(folder).tokenizer.do_lower_case
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    bundle = export_checkpoint(folder, tmp_path / "models")
    assert not bundle.manifest.tokenizer.do_lower_case
    assert not starting_point(str(folder)).tokenizer.do_lower_case
    for name in ("model.pdmodel", "model.pdiparams"):
        shutil.copyfile(bundle.directory / "graph" / name, folder / name)
    assert not open_bundle(folder).manifest.tokenizer.do_lower_case
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": "no"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer_config\.json: do_lower_case must be true or false"):
        read_checkpoint(folder)
    with pytest.raises(BundleError, match=r"tokenizer_config\.json: do_lower_case must be true or false"):
        open_bundle(folder)


def test_a_vocabulary_in_tokenizer_json_is_read_by_convert(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m")
    tokens = VOCAB.split()
    (folder / "vocab.txt").unlink()
    model = {"type": "WordPiece", "vocab": {token: index for index, token in enumerate(tokens)}}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"vocab\.txt is missing; `ernie-build convert .* writes it from"):
        read_checkpoint(folder)
    convert(folder, tmp_path / "out", "paddlenlp")
    assert (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").split() == tokens
    assert load_model(tmp_path / "out")
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json has no WordPiece vocabulary"):
        convert(folder, tmp_path / "other", "paddlenlp")
