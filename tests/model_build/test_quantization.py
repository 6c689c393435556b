"""A quantised graph is smaller than the original, has similar outputs, and runs in the same runtimes."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_build.bundle import Bundle, BundleError, find_bundles, open_bundle, verify_bundle
from model_build.onnx_graph import with_initializers
from model_build.quantization import (
    QuantizationError,
    half_graph,
    int8_graph,
    quantize,
    quantize_tables,
    relative_error,
)
from model_build.runners import Runner, bf16_runner, has_bf16, onnx_runner
from model_build.settings import QuantizeSettings
from tests.model_build.small_models import batches, small_bundle


@pytest.fixture(scope="module", params=["classify", "fill-mask"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp(request.param), request.param, vocab_size=400)


def scores(bundle: Bundle, count: int = 6) -> list[np.ndarray]:
    """The float outputs for batches that are not used for calibration."""
    names = [spec.name for spec in bundle.manifest.outputs if spec.dtype == "float32"]
    run = onnx_runner(bundle.graph("onnx")[0], names)
    return [output for inputs in batches(bundle.manifest.task, 12 + count)[12:] for output in run(inputs)]


def quantized(bundle: Bundle, target: Path, **settings: object) -> Bundle:
    return quantize(bundle, target / "m" / "2", QuantizeSettings(**settings), batches(bundle.manifest.task))  # type: ignore[arg-type]


def types(bundle: Bundle) -> list[str]:
    return [node.op_type for node in onnx.load(str(bundle.graph("onnx")[0])).graph.node]


@pytest.mark.parametrize("precision", ["int8", "fp16", "bf16"])
def test_the_outputs_are_close_to_the_originals_and_the_file_is_smaller(
    bundle: Bundle, tmp_path: Path, precision: str
) -> None:
    made = quantized(bundle, tmp_path, precision=precision)
    near = {"int8": 0.08, "fp16": 2e-3, "bf16": 2e-2}[precision]
    assert 0 < relative_error(scores(bundle), scores(made)) < near
    sizes = [each.graph("onnx")[0].stat().st_size for each in (bundle, made)]
    assert sizes[1] < sizes[0] * (0.6 if precision == "int8" else 0.7)
    assert made.manifest.provenance["quantization"]["precision"] == precision
    assert made.manifest.provenance["made_from"]["name"] == "m"
    assert made.manifest.provenance["labels"] == bundle.manifest.provenance["labels"]
    assert set(made.manifest.graphs) == {"onnx"}
    verify_bundle(made)


def test_exactly_the_products_with_weights_are_in_int8(bundle: Bundle, tmp_path: Path) -> None:
    graph = onnx.load(str(quantized(bundle, tmp_path).graph("onnx")[0])).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    products = [[makers.get(name) for name in node.input] for node in graph.node if node.op_type == "MatMul"]
    quantised = ["DequantizeLinear", "DequantizeLinear"]
    # Two layers with six matrices each, and two of the head; the attention has two other products in each layer.
    assert products.count(quantised) == 14
    assert len(products) == 18
    assert not any("DequantizeLinear" in found for found in products if found != quantised)


def test_onnx_runtime_converts_no_quantised_matrix_back_to_float(bundle: Bundle, tmp_path: Path) -> None:
    """It would, for every batch, if the first factor of a product with a bias had two axes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "executed.onnx")
    path = quantized(bundle, tmp_path).graph("onnx")[0]
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    executed = onnx.load(options.optimized_model_filepath).graph
    kinds = [node.op_type for node in executed.node]
    assert kinds.count("MatMulIntegerToFloat") == 14
    weights = {tensor.name for tensor in executed.initializer if len(tensor.dims) == 2}
    assert not [node for node in executed.node if node.op_type == "DequantizeLinear" and node.input[0] in weights]


def test_no_float_copy_of_a_quantised_matrix_remains(bundle: Bundle, tmp_path: Path) -> None:
    graph = onnx.load(str(quantized(bundle, tmp_path).graph("onnx")[0])).graph
    large = [tensor.name for tensor in graph.initializer if np.prod(tensor.dims) > 1024]
    kinds = {tensor.data_type for tensor in graph.initializer if tensor.name in large and 32 in tensor.dims}
    # The position table has 64 rows, the word table 400.
    assert kinds == {TensorProto.INT8}


def test_weights_have_seven_bits_and_signed_activations_have_zero_point_0(bundle: Bundle, tmp_path: Path) -> None:
    """Without VNNI, 2 × 255 × 127 overflows 16 bits. TensorRT requires zero point 0."""
    graph = onnx.load(str(quantized(bundle, tmp_path, activations="int8", tables=False).graph("onnx")[0])).graph
    tensors = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    weights = [values for values in tensors.values() if values.dtype == np.int8 and values.ndim == 2]
    assert len(weights) == 14
    assert max(np.abs(values.astype(int)).max() for values in weights) == 64
    zeros = [tensors[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(zeros) >= 8
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


def test_tables_can_stay_in_float(bundle: Bundle, tmp_path: Path) -> None:
    with_tables = quantized(bundle, tmp_path / "a")
    without = quantized(bundle, tmp_path / "b", tables=False)
    assert with_tables.graph("onnx")[0].stat().st_size < without.graph("onnx")[0].stat().st_size
    assert types(without).count("Gather") == types(bundle).count("Gather")
    assert types(with_tables).count("Gather") == types(bundle).count("Gather") + 2


def test_each_row_of_a_table_has_its_own_scale() -> None:
    """The error of a row is at most half of its own scale, also if another row is a thousand times larger."""
    table = np.random.default_rng(1).normal(size=(100, 8)).astype(np.float32)
    table[7] /= 1000
    made = run_of_table(table)
    (rows,) = made({"ids": np.arange(100)[None]})
    steps = np.abs(table).max(axis=1, keepdims=True) / 127
    assert (np.abs(rows[0] - table) <= steps * 0.501).all()


def run_of_table(table: np.ndarray) -> Runner:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gather", ["table", "ids"], ["found"])],
            "g",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, [None, None])],
            [helper.make_tensor_value_info("found", TensorProto.FLOAT, [None, None, 8])],
            [numpy_helper.from_array(table, "table")],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=7,
    )
    quantize_tables(model.graph)
    onnx.checker.check_model(model)
    return onnx_runner(model.SerializeToString(), ["found"])


def test_the_products_with_the_largest_errors_can_stay_in_float(bundle: Bundle, tmp_path: Path) -> None:
    all_of_them = quantized(bundle, tmp_path / "a", tables=False)
    fewer = quantized(bundle, tmp_path / "b", tables=False, keep_float=6)
    losses = [relative_error(scores(bundle), scores(made)) for made in (all_of_them, fewer)]
    assert losses[1] < losses[0]
    assert types(fewer).count("QuantizeLinear") < types(all_of_them).count("QuantizeLinear")
    with pytest.raises(QuantizationError, match="has 14 matrix products with weights, so --keep-float 14 leaves noth"):
        quantized(bundle, tmp_path / "c", keep_float=14)


def test_bf16_is_rounded_to_the_nearest() -> None:
    values = np.random.default_rng(2).normal(size=(50, 20)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [50, 50])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [50, 20])],
        [numpy_helper.from_array(values, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    run = onnx_runner(half_graph(model, "bf16").SerializeToString(), ["y"])
    (stored,) = run({"x": np.eye(50, dtype=np.float32)})
    # The significand has 8 bits: the rounding error is at most 2**-8 of a value; with truncation it would be 2**-7.
    assert (np.abs(stored - values) <= np.abs(values) * 2**-8).all()
    assert (stored != values).any()


def test_the_error_for_weights_too_large_for_fp16_names_them(bundle: Bundle) -> None:
    model = with_initializers(onnx.load(str(bundle.graph("onnx")[0])))
    tensor = next(each for each in model.graph.initializer if len(each.dims) == 2)
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = 1e5
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(QuantizationError, match=rf"{tensor.name} has weights beyond 65504, .*use --precision bf16"):
        half_graph(model, "fp16")


def test_int8_without_calibration_text_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="needs text to calibrate on"):
        quantize(bundle, tmp_path / "m" / "2", QuantizeSettings(), [])
    assert not (tmp_path / "m").exists()


def test_the_same_text_gives_the_same_bytes(bundle: Bundle) -> None:
    model = onnx.load(str(bundle.graph("onnx")[0]))
    made = [int8_graph(model, batches(bundle.manifest.task), QuantizeSettings()) for _ in range(2)]
    assert made[0].SerializeToString(deterministic=True) == made[1].SerializeToString(deterministic=True)


def test_an_existing_version_is_not_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    made = quantized(bundle, tmp_path)
    before = (made.directory / "bundle.json").read_bytes()
    with pytest.raises(BundleError, match="bundles are immutable"):
        quantized(bundle, tmp_path, precision="fp16")
    assert (made.directory / "bundle.json").read_bytes() == before
    assert [each.directory for each in find_bundles(tmp_path)] == [made.directory]
    assert not [path for path in (tmp_path / "m").iterdir() if path.name.startswith(".")]


def test_a_bundle_without_an_onnx_graph_cannot_be_quantised(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.directory, tmp_path / "m" / "1")
    path = tmp_path / "m" / "1" / "bundle.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["graphs"]["paddle"] = manifest["graphs"].pop("onnx")
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(QuantizationError, match=r"has no onnx graph, only paddle\. Export its checkpoint"):
        quantized(open_bundle(path.parent), tmp_path)


@pytest.mark.skipif(not has_bf16(), reason="needs OpenVINO (extra openvino) and a processor that computes in bf16")
def test_openvino_computes_in_bf16(bundle: Bundle) -> None:
    names = [spec.name for spec in bundle.manifest.outputs if spec.dtype == "float32"]
    path = bundle.graph("onnx")[0]
    inputs = batches(bundle.manifest.task, 3)
    exact, rounded = ([out for each in inputs for out in run(each)]
                      for run in (onnx_runner(path, names), bf16_runner(path, names)))  # fmt: skip
    assert 1e-5 < relative_error(exact, rounded) < 0.1


def test_a_quantised_bundle_cannot_be_quantised_again(bundle: Bundle, tmp_path: Path) -> None:
    made = quantized(bundle, tmp_path, precision="fp16")
    with pytest.raises(
        QuantizationError, match=r"is in fp16 already; give the bundle that it was made from, m version 1\."
    ):
        quantize(made, tmp_path / "m" / "3", QuantizeSettings(), batches(bundle.manifest.task))
