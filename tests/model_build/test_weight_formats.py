"""Weights of Hugging Face and PaddleNLP in every format give the outputs of the program that wrote them.

The folders in `hugging_face/` were written by Hugging Face's own classes; see `hugging_face/write.py`.
"""

import contextlib
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import paddle
import pytest

from model_build import heads
from model_build.checkpoint import load_model, read_checkpoint
from model_build.config import ErnieConfig
from model_build.conversion import convert
from model_build.formats.errors import WeightsError
from model_build.formats.files import read_arrays
from model_build.weights import load_state, read_weights

FOLDERS = Path(__file__).parent / "hugging_face"
WITH_HEAD = ["ernie-fill-mask", "ernie-pretraining", "ernie-classify", "ernie-token-classification",
             "ernie-question-answering", "bert-fill-mask", "bert-classify"]  # fmt: skip


def differences(model: paddle.nn.Layer, folder: Path) -> list[float]:
    """The largest difference of each output from that of Hugging Face, at the tokens that are not padding."""
    expected = np.load(folder / "expected.npz")
    real = expected["input_ids"] != 0
    model.eval()
    with paddle.no_grad():
        found = model(*(paddle.to_tensor(expected[name]) for name in ("input_ids", "token_type_ids")))
    gaps = []
    for number, output in enumerate(found if isinstance(found, tuple) else (found,)):
        gap = np.abs(output.numpy() - expected[f"output_{number}"])
        gaps.append(float((gap if len(gap.shape) < 2 or gap.shape[1] != real.shape[1] else gap[real]).max()))
    return gaps


@pytest.mark.parametrize("name", WITH_HEAD)
def test_a_folder_of_hugging_face_gives_its_outputs(name: str) -> None:
    checkpoint = read_checkpoint(FOLDERS / name)
    assert checkpoint.labels == (["差评", "中评", "好评"] if "class" in name else [])
    assert checkpoint.config.layer_norm_eps == 1e-5
    model = load_model(FOLDERS / name)
    if name == "ernie-pretraining":
        assert checkpoint.task == "fill-mask"
        model = heads.ErnieForPretraining(checkpoint.config)
        load_state(model, read_weights(FOLDERS / name))
    assert max(differences(model, FOLDERS / name)) <= 1e-5


def test_the_encoder_alone_starts_a_model(tmp_path: Path) -> None:
    folder = FOLDERS / "ernie-encoder"
    model = heads.ErnieForMaskedLM(ErnieConfig.from_json(folder / "config.json"))
    load_state(model, read_weights(folder), new_heads=("cls.",))
    assert max(differences(model.ernie, folder)) <= 1e-5


@pytest.mark.parametrize("name", [*WITH_HEAD, "ernie-encoder"])
def test_a_conversion_to_paddlenlp_and_back_keeps_every_weight(name: str, tmp_path: Path) -> None:
    convert(FOLDERS / name, tmp_path / "paddle", "paddlenlp")
    convert(tmp_path / "paddle", tmp_path / "back", "huggingface")
    before = read_arrays(next(FOLDERS.glob(f"{name}/*.safetensors"), FOLDERS / name / "pytorch_model.bin"))
    after = read_arrays(tmp_path / "back" / "model.safetensors")
    before = {each.replace("bert.", "ernie."): value for each, value in before.items() if ".decoder." not in each}
    assert sorted(before) == sorted(after)
    assert all(np.array_equal(before[each], after[each]) for each in before)
    described = json.loads((tmp_path / "back" / "config.json").read_text(encoding="utf-8"))
    theirs = json.loads((FOLDERS / name / "config.json").read_text(encoding="utf-8"))
    assert described["architectures"] == [theirs["architectures"][0].replace("Bert", "Ernie")]
    assert described.get("id2label") == theirs.get("id2label")


def test_parts_of_weights_are_read_together(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    weights = read_arrays(FOLDERS / "ernie-classify" / "model.safetensors")
    names = sorted(weights)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for part, chosen in parts.items():
        save_file({name: weights[name].copy() for name in chosen}, str(tmp_path / part))
    index = {"weight_map": {name: part for part, chosen in parts.items() for name in chosen}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert all(np.array_equal(value, weights[name]) for name, value in read_arrays(
        tmp_path / "model.safetensors.index.json").items())  # fmt: skip
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"two\.safetensors is missing, but model\.safetensors\.index"):
        read_weights(tmp_path)


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    bits = np.array([1.0, -2.5, 3e38], dtype=np.float32).view(np.uint32) >> 16
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bits.astype("<u2").tobytes())
    found = read_arrays(tmp_path / "m.safetensors")["a"]
    assert found.dtype == np.float32
    assert np.allclose(found, [1.0, -2.5, 3e38], rtol=2**-8)


class Command:
    def __reduce__(self) -> tuple:
        return (print, ("this must never run",))


@pytest.mark.parametrize("form", ["zip", "pickles"])
def test_code_in_a_pytorch_file_is_refused_by_name_and_not_run(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "pytorch_model.bin"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"weight": Command()}))
    else:
        path.write_bytes(pickle.dumps(Command()))
    with pytest.raises(WeightsError, match=r"contains builtins\.print, which is not part of a file of weights"):
        read_weights(tmp_path)
    assert not capsys.readouterr().out


def test_any_damage_to_a_pytorch_file_is_one_sentence(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for name in ("bert-classify", "bert-fill-mask"):
        whole = (FOLDERS / name / "pytorch_model.bin").read_bytes()
        for _ in range(150):
            damaged = bytearray(whole[: random.integers(len(whole))] if random.random() < 0.2 else whole)
            for _ in range(random.integers(1, 4)):
                if damaged:
                    damaged[random.integers(min(len(damaged), 4000))] = random.integers(256)
            path = tmp_path / "pytorch_model.bin"
            path.write_bytes(damaged)
            with contextlib.suppress(WeightsError):  # any other exception fails the test
                read_arrays(path)


def test_weights_of_the_encoder_that_the_model_does_not_use_are_an_error(tmp_path: Path) -> None:
    shutil.copytree(FOLDERS / "ernie-classify", tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**described, "num_hidden_layers": 1}), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"does not use these weights of the encoder: ernie\.encoder\.layers\.1\."):
        load_model(tmp_path / "m")
    path.write_text(json.dumps({**described, "use_task_id": False}), encoding="utf-8")
    with pytest.raises(WeightsError, match=r"encoder: ernie\.embeddings\.task_type_embeddings\.weight; correct"):
        load_model(tmp_path / "m")


def test_a_masked_lm_that_does_not_share_its_decoder_with_the_word_table_is_refused(tmp_path: Path) -> None:
    state = {name: paddle.to_tensor(value) for name, value in read_weights(FOLDERS / "bert-fill-mask").items()}
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    paddle.save(state, str(tmp_path / "model_state.pdparams"))
    with pytest.raises(WeightsError, match=r"cls\.predictions\.decoder\.weight differs from the table"):
        read_weights(tmp_path)


def test_a_folder_without_weights_names_the_files_that_are_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no weights; give a folder with model_state\.pdparams, model\.safe"):
        read_weights(tmp_path)
