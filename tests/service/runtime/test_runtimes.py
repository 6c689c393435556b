"""Every runtime gives the answers of FastDeploy, the reference, and refuses what it cannot do."""

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from model_build.bundle import Bundle, find_bundles, open_bundle
from service.runtime import choice
from service.runtime.base import Backend, RuntimeName, RuntimeOptions, RuntimeUnavailable
from service.runtime.choice import chosen, installed, load_runtime
from tests.service.conftest import ROOT, python_with, run_script

OTHERS: list[RuntimeName] = ["onnxruntime", "openvino"]
EMBEDDED = ROOT / "models"
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


Batches = list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


def batches(bundle: Bundle) -> list[dict[str, np.ndarray]]:
    """Inputs of several shapes, one of them twice."""
    return [inputs(bundle, rows, length) for rows, length in ((1, 1), (3, 7), (1, 64), (8, 33), (3, 7))]


def answered_by_fastdeploy(
    bundle: Bundle, asked: list[dict[str, np.ndarray]], directory: Path, backend: Backend = "auto"
) -> Batches:
    """Inputs, and what FastDeploy answers to each."""
    for number, arrays in enumerate(asked):
        np.savez(directory / f"{number}.npz", **arrays)  # type: ignore[arg-type]
    script = Path(__file__).with_name("fastdeploy_answers.py")
    run_script(python_with("fastdeploy"), script, bundle.directory, directory, backend)
    return [(arrays, dict(np.load(directory / f"{number}.out.npz"))) for number, arrays in enumerate(asked)]


def differ(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Largest difference of scores; ids are left out, for of equal scores either may come first."""
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - expected[name]).max()) for name in expected if name != "top_ids")


@pytest.fixture(scope="module", params=["reviews", "characters", "sentiment", "masked-lm"])
def answered(
    request: pytest.FixtureRequest, tiny_models: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Batches]:
    """A tiny or an embedded model, and FastDeploy's answers."""
    bundles = {bundle.manifest.name: bundle for models in (tiny_models, EMBEDDED) for bundle in find_bundles(models)}
    bundle = bundles[request.param]
    return bundle, answered_by_fastdeploy(bundle, batches(bundle), tmp_path_factory.mktemp("answers"))


@pytest.mark.parametrize("name", OTHERS)
def test_answers_are_those_of_fastdeploy(answered: tuple[Bundle, Batches], name: RuntimeName) -> None:
    needs(name)
    bundle, known = answered
    runtime = load_runtime(bundle, RuntimeOptions(runtime=name, cpu_threads=1))
    # In int8 a value that lies between two steps may go to either, and the next layer sees that.
    most = 0.2 if "quantization" in bundle.manifest.provenance else 1e-5
    assert max(differ(runtime.run(arrays), expected) for arrays, expected in known) <= most


@pytest.mark.parametrize("answered", ["reviews", "characters", "masked-lm"], indirect=True)
def test_both_graphs_of_a_bundle_give_the_same_answers_in_fastdeploy(
    answered: tuple[Bundle, Batches], tmp_path: Path
) -> None:
    bundle, by_onnx = answered
    by_paddle = answered_by_fastdeploy(bundle, [arrays for arrays, _ in by_onnx], tmp_path, "paddle")
    assert max(differ(paddle, onnx) for (_, paddle), (_, onnx) in zip(by_paddle, by_onnx, strict=True)) <= 1e-4


@pytest.mark.parametrize("name", OTHERS)
def test_an_answer_stays_as_it_is_when_the_next_one_is_made(bundle: Bundle, name: RuntimeName) -> None:
    needs(name)
    runtime = load_runtime(bundle, RuntimeOptions(runtime=name, cpu_threads=1))
    first = runtime.run(inputs(bundle, 2, 9))
    kept = {output: values.copy() for output, values in first.items()}
    runtime.run(inputs(bundle, 2, 9))
    assert all((first[output] == kept[output]).all() for output in kept)


@pytest.mark.parametrize("most", [0, 10**9], ids=["compiled once", "compiled for each"])
def test_streams_of_openvino_give_the_same_answers_beside_each_other(
    bundle: Bundle, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("openvino")
    monkeypatch.setattr("service.runtime.openvino.SMALL_GRAPH_BYTES", most)
    runtime = load_runtime(bundle, RuntimeOptions(runtime="openvino", streams=3, cpu_threads=1))
    asked = batches(bundle)
    alone = [runtime.run(arrays) for arrays in asked]

    def run(stream: int) -> float:
        return max(
            differ(runtime.run(arrays, stream), known)
            for _ in range(20)
            for arrays, known in zip(asked, alone, strict=True)
        )

    with ThreadPoolExecutor(3) as threads:
        assert max(threads.map(run, range(3))) <= 1e-6


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


def test_auto_is_the_fastest_that_can_do_what_is_asked_for(tiny_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = open_bundle(tiny_models / "reviews" / "1")
    graphs = {"paddle": both.manifest.graphs["paddle"]}
    paddle_only = Bundle(both.directory, both.manifest.model_copy(update={"graphs": graphs}))
    here: list[RuntimeName] = ["fastdeploy", "onnxruntime", "openvino"]
    monkeypatch.setattr(choice, "installed", lambda: here)
    assert chosen(both, RuntimeOptions()) == ("openvino", [])
    assert chosen(both, RuntimeOptions(runtime="fastdeploy")) == ("fastdeploy", [])
    assert chosen(both, RuntimeOptions(backend="paddle")) == ("fastdeploy", ["openvino has no backend paddle"])
    assert chosen(both, RuntimeOptions(device="gpu")) == ("fastdeploy", [])
    assert chosen(paddle_only, RuntimeOptions()) == ("fastdeploy", [])
    here.remove("fastdeploy")
    assert chosen(both, RuntimeOptions(device="gpu", backend="trt"))[0] == "onnxruntime"
    assert chosen(paddle_only, RuntimeOptions()) == ("openvino", ["fastdeploy is not installed"])
    with pytest.raises(RuntimeUnavailable, match=r"fastdeploy is not installed.*onnxruntime has no backend paddle"):
        chosen(both, RuntimeOptions(backend="paddle"))
    here.remove("openvino")
    assert chosen(both, RuntimeOptions()) == (
        "onnxruntime", ["openvino is not installed", "fastdeploy is not installed"],
    )  # fmt: skip
    with pytest.raises(RuntimeUnavailable, match="needs an ONNX graph, which the bundle lacks"):
        chosen(paddle_only, RuntimeOptions())
    with pytest.raises(RuntimeUnavailable, match=r"openvino is not installed.*onnxruntime computes no bf16"):
        chosen(both, RuntimeOptions(precision="bf16"))
    with pytest.raises(RuntimeUnavailable, match=r"^openvino is not installed"):
        chosen(both, RuntimeOptions(runtime="openvino"))


def test_runtimes_are_told_by_what_is_installed() -> None:
    assert ("fastdeploy" in installed()) == (sys.version_info < (3, 11))
    assert {"onnxruntime", "openvino"} <= set(installed())
