"""Every runtime gives the answers of FastDeploy, the reference, and refuses what it cannot do."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from model_build.bundle import Bundle, open_bundle
from service.runtime import load
from service.runtime.base import RuntimeName, RuntimeOptions, RuntimeUnavailable
from service.runtime.load import chosen, installed, load_runtime

OTHERS: list[RuntimeName] = ["onnxruntime", "openvino"]
RNG = np.random.default_rng(4)


@pytest.fixture(params=["reviews", "characters"])
def bundle(request: pytest.FixtureRequest, tiny_models: Path) -> Bundle:
    return open_bundle(tiny_models / request.param / "1")


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")


def inputs(bundle: Bundle, rows: int, length: int) -> dict[str, np.ndarray]:
    """Random tokens, some rows padded, and two masks a row."""
    ids = RNG.integers(5, 40, (rows, length))
    ids[::2, max(1, length - 2) :] = 0
    arrays = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    if bundle.manifest.task == "fill-mask":
        arrays["mask_positions"] = np.sort(RNG.choice(rows * length, min(2 * rows, rows * length), replace=False))
        arrays["target_ids"] = RNG.integers(0, 40, (len(arrays["mask_positions"]), 2))
    return arrays


@pytest.mark.parametrize("name", OTHERS)
def test_answers_are_those_of_fastdeploy(bundle: Bundle, name: RuntimeName) -> None:
    needs(name)
    reference = load_runtime(bundle, RuntimeOptions(runtime="fastdeploy", cpu_threads=1))
    runtime = load_runtime(bundle, RuntimeOptions(runtime=name, cpu_threads=1))
    for rows, length in ((1, 1), (3, 7), (1, 64), (8, 33), (3, 7)):
        arrays = inputs(bundle, rows, length)
        expected = reference.run(arrays)
        found = runtime.run(arrays)
        assert found.keys() == expected.keys()
        for output, values in expected.items():
            if output != "top_ids":  # of equal scores either may come first
                assert np.abs(found[output] - values).max() <= 1e-5, output


@pytest.mark.parametrize("name", OTHERS)
def test_an_answer_stays_as_it_is_when_the_next_one_is_made(bundle: Bundle, name: RuntimeName) -> None:
    needs(name)
    runtime = load_runtime(bundle, RuntimeOptions(runtime=name, cpu_threads=1))
    first = runtime.run(inputs(bundle, 2, 9))
    kept = {output: values.copy() for output, values in first.items()}
    runtime.run(inputs(bundle, 2, 9))
    assert all((first[output] == kept[output]).all() for output in kept)


@pytest.mark.parametrize("name", OTHERS)
def test_inputs_that_are_not_the_graphs_are_refused(bundle: Bundle, name: RuntimeName) -> None:
    needs(name)
    runtime = load_runtime(bundle, RuntimeOptions(runtime=name, cpu_threads=1))
    good = inputs(bundle, 2, 5)
    for bad in (
        {name: array for name, array in good.items() if name != "token_type_ids"},
        {**good, "input_ids": good["input_ids"].astype(np.int32)},
        {**good, "input_ids": good["input_ids"][0]},
        {**good, "input_ids": good["input_ids"][:0]},
    ):
        with pytest.raises(ValueError, match="input_ids"):
            runtime.run(bad)


def test_a_forward_pass_that_fails_in_onnx_runtime_is_an_error_that_the_engine_knows(tiny_models: Path) -> None:
    needs("onnxruntime")
    options = RuntimeOptions(runtime="onnxruntime", cpu_threads=1)
    runtime = load_runtime(open_bundle(tiny_models / "reviews" / "1"), options)
    ids = np.full((1, 3), 5)
    with pytest.raises(RuntimeError, match="ONNX Runtime: "):
        runtime.run({"input_ids": ids + 10**6, "token_type_ids": np.zeros_like(ids)})
    assert runtime.run({"input_ids": ids, "token_type_ids": np.zeros_like(ids)})["logits"].shape == (1, 3)


def test_bf16_answers_are_near_those_of_fp32(tiny_models: Path) -> None:
    needs("openvino")
    bundle = open_bundle(tiny_models / "reviews" / "1")
    try:
        half = load_runtime(bundle, RuntimeOptions(precision="bf16", cpu_threads=1))
    except RuntimeUnavailable as error:
        pytest.skip(str(error))
    assert half.backend == "openvino bf16"
    full = load_runtime(bundle, RuntimeOptions(runtime="openvino", cpu_threads=1))
    arrays = inputs(bundle, 4, 20)
    difference = np.abs(half.run(arrays)["logits"] - full.run(arrays)["logits"]).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (RuntimeOptions(runtime="onnxruntime", precision="bf16"), "no bf16 on the CPU"),
        (RuntimeOptions(runtime="onnxruntime", device="gpu"), "no CUDAExecutionProvider"),
        (RuntimeOptions(runtime="onnxruntime", device="gpu", precision="fp16"), "no TensorrtExecutionProvider"),
        (RuntimeOptions(runtime="openvino", device="gpu"), "for the CPU here"),
        (RuntimeOptions(runtime="openvino", precision="fp16"), "fp32 and bf16"),
    ],
)
def test_what_a_runtime_cannot_do_is_refused(bundle: Bundle, options: RuntimeOptions, sentence: str) -> None:
    needs(options.runtime)
    with pytest.raises(RuntimeUnavailable, match=sentence):
        load_runtime(bundle, options)


def test_auto_is_fastdeploy_where_it_can_do_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    here: list[RuntimeName] = ["fastdeploy", "onnxruntime", "openvino"]
    monkeypatch.setattr(load, "installed", lambda: here)
    assert chosen(RuntimeOptions()) == "fastdeploy"
    assert chosen(RuntimeOptions(precision="bf16")) == "openvino"
    here.remove("openvino")
    with pytest.raises(RuntimeUnavailable, match="install openvino, or use fp32"):
        chosen(RuntimeOptions(precision="bf16"))
    with pytest.raises(RuntimeUnavailable, match="openvino is not installed"):
        chosen(RuntimeOptions(runtime="openvino"))
    here.remove("fastdeploy")
    assert chosen(RuntimeOptions()) == "onnxruntime"
    here.clear()
    with pytest.raises(RuntimeUnavailable, match="no runtime is installed"):
        chosen(RuntimeOptions())


def test_runtimes_are_told_by_what_is_installed() -> None:
    assert "fastdeploy" in installed()
