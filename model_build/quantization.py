"""Post-training quantisation: a bundle's ONNX graph with int8 matrix products, or with weights stored in 16 bits.

int8 quantisation is static: the ranges of the activations are measured on real text. Weights have one scale for each
output channel, activations one for the whole tensor. The graph stores them as pairs of QuantizeLinear and
DequantizeLinear nodes, which runtimes replace by integer kernels. The outputs of matrix products stay in float: after
ERNIE's feed-forward layers a few values are large and most are small, and 8 bits for both cost one point of accuracy.
Products of two activations (in the attention) stay in float too, because they are small.

Method: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference"
(arXiv:1712.05877), as implemented in `onnxruntime.quantization`.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_build.bundle import Bundle, BundleError, GraphFile
from model_build.derived import write_derived
from model_build.onnx_graph import with_initializers
from model_build.runners import Arrays, onnx_runner
from model_build.settings import QuantizeSettings

log = logging.getLogger(__name__)

SMALLEST_TABLE = 64
"""Rows; embedding tables with fewer stay in float, because they would hardly become smaller."""
LARGEST_FP16 = 65504.0
"""The largest finite fp16 number."""


class QuantizationError(RuntimeError):
    """A bundle or graph that cannot be quantised with these settings; the message is one sentence."""


def quantize(bundle: Bundle, target: Path, settings: QuantizeSettings, batches: Sequence[Arrays]) -> Bundle:
    """Quantises the ONNX graph of a bundle and writes it as a new bundle `target`, which has no Paddle graph.

    `batches` are inputs of the graph from real text, on which the ranges of the activations are measured; only int8
    needs them. Raises BundleError if `target` exists. Raises QuantizationError if the bundle has no ONNX graph or is
    quantised already, if int8 has no batches, or if the settings do not fit the graph.
    """
    check_plain(bundle)
    model = onnx.load(str(bundle.graph("onnx")[0]))
    if settings.precision == "int8":
        if not batches:
            raise QuantizationError("int8 needs text to calibrate on; give examples with --train or --dataset.")
        made = int8_graph(model, batches, settings)
    else:
        made = half_graph(model, settings.precision)

    def write(folder: Path) -> dict[str, GraphFile]:
        onnx.save(made, str(folder / "model.onnx"))
        return {"onnx": GraphFile(path="graph/model.onnx")}

    described = {**dataclasses.asdict(settings), "calibration_rows": sum(map(_rows, batches))}
    return write_derived(bundle, target, write, {"quantization": described})


def check_plain(bundle: Bundle) -> None:
    """Raises QuantizationError if a bundle has no ONNX graph or is quantised already."""
    if "quantization" in bundle.manifest.provenance:
        source = bundle.manifest.provenance["made_from"]
        raise QuantizationError(
            f"{bundle.directory} is in {bundle.manifest.provenance['quantization']['precision']} already; give the "
            f"bundle that it was made from, {source['name']} version {source['version']}."
        )
    try:
        bundle.graph("onnx")
    except BundleError as error:
        raise QuantizationError(f"{error} Export its checkpoint with `ernie-build export`.") from None


def _rows(inputs: Arrays) -> int:
    return len(inputs["input_ids"])


def half_graph(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The graph with matrices and tables stored in 16 bits and cast to float32 at the start of the graph.

    Runtimes execute the casts once, when they load the graph; the precision of the computation is a setting of the
    runtime. Raises QuantizationError if a weight is too large for fp16.
    """
    graph = with_initializers(model).graph
    kind = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.BFLOAT16
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2:
            continue
        if precision == "fp16" and np.abs(values).max() > LARGEST_FP16:
            raise QuantizationError(
                f"{tensor.name} has weights beyond {LARGEST_FP16:g}, the largest fp16 number; use --precision bf16."
            )
        name = tensor.name
        stored = values.astype(np.float16).tobytes() if precision == "fp16" else _bf16_bytes(values)
        tensor.CopyFrom(helper.make_tensor(f"{name}.{precision}", kind, values.shape, stored, raw=True))
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}.float", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return _checked(graph, model)


def _bf16_bytes(values: np.ndarray) -> bytes:
    """float32 values rounded to the nearest bf16 (ties to even), as little-endian bytes."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2").tobytes()


def int8_graph(model: onnx.ModelProto, batches: Sequence[Arrays], settings: QuantizeSettings) -> onnx.ModelProto:
    """The graph with its matrix products with weights in int8, and its embedding tables if `settings.tables`.

    `settings.keep_float` of the products stay in float. Raises QuantizationError if no product is left to quantise.
    """
    plain = with_initializers(model)
    fold_transposes(plain.graph)
    weights = {tensor.name for tensor in plain.graph.initializer if len(tensor.dims) == 2}
    products = [node.name for node in plain.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    if not products:
        raise QuantizationError("the graph has no matrix products with weights to quantise; give another bundle.")
    if settings.keep_float >= len(products):
        raise QuantizationError(
            f"the graph has {len(products)} matrix products with weights, so --keep-float {settings.keep_float} leaves "
            "nothing to quantise; give a smaller number."
        )
    quantizer = _Quantizer(plain, batches, settings.activations)
    chosen = products
    if settings.keep_float:
        losses = quantizer.losses(products)
        kept = sorted(products, key=lambda name: -losses[name])[: settings.keep_float]
        log.info("kept in float: %s", ", ".join(f"{name} (output error in int8: {losses[name]:.2%})" for name in kept))
        chosen = [name for name in products if name not in kept]
    made = quantizer.quantized(chosen)
    if settings.tables:
        quantize_tables(made.graph)
    return _checked(made.graph, model)


class _Quantizer:
    """Quantises products of one graph, with the ranges of its activations measured on the calibration batches."""

    def __init__(self, model: onnx.ModelProto, batches: Sequence[Arrays], activations: str) -> None:
        from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
        from onnxruntime.quantization.calibrate import create_calibrator

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.left = iter(batches)

            def get_next(self) -> Arrays | None:
                return next(self.left, None)

        self.model, self.batches, self.symmetric = model, batches, activations == "int8"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(model, str(path))
            calibrator = create_calibrator(
                path, ["MatMul"], augmented_model_path=str(Path(folder) / "watched.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
            calibrator.collect_data(Reader())
            self.ranges = calibrator.compute_data()
            del calibrator

    def quantized(self, products: Sequence[str]) -> onnx.ModelProto:
        """A copy of the graph with the MatMul nodes `products` in int8."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        made = QDQQuantizer(
            copy.deepcopy(self.model),
            per_channel=True,
            # 7 bits for weights: processors without VNNI add two products in 16 bits, and with 8-bit weights this sum
            # can overflow. A bundle would then be right on one processor and wrong on another.
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if self.symmetric else QuantType.QUInt8,
            tensors_range=self.ranges,
            nodes_to_quantize=list(products),
            nodes_to_exclude=[],
            op_types_to_quantize=["MatMul"],
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
                "ActivationSymmetric": self.symmetric,
            },
        )
        made.quantize_model()
        made.model.topological_sort()
        model: onnx.ModelProto = made.model.model
        return model

    def losses(self, products: Sequence[str]) -> dict[str, float]:
        """For each MatMul node, the error of the outputs if only this node is in int8; see `relative_error`.

        About eight of the batches are used, which is enough to rank the nodes.
        """
        some = self.batches[:: -(-len(self.batches) // 8)]
        want = _outputs(self.model, some)
        return {name: relative_error(want, _outputs(self.quantized([name]), some)) for name in products}


def _outputs(model: onnx.ModelProto, batches: Sequence[Arrays]) -> list[np.ndarray]:
    """The float32 outputs of a graph for all batches, in the order of the batches."""
    names = [each.name for each in model.graph.output if each.type.tensor_type.elem_type == TensorProto.FLOAT]
    run = onnx_runner(model.SerializeToString(), names)
    return [output for inputs in batches for output in run(inputs)]


def relative_error(want: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """Root mean square of the difference of the outputs, divided by the root mean square of the wanted outputs."""
    squares = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(want, got, strict=True))
    return float(np.sqrt(squares / sum(float(np.square(a, dtype=np.float64).sum()) for a in want)))


def quantize_tables(graph: onnx.GraphProto) -> None:
    """Replaces embedding tables float32 [V, H] by int8 [V, H] and float32 scales [V, 1], in place.

    An embedding table is a constant that a Gather node reads by row. The sizes of the rows differ, so one scale for
    each row loses less than one for the table.
    """
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    nodes: list[Any] = []
    for node in graph.node:
        tensor = tables.get(node.input[0]) if node.op_type == "Gather" and not _axis(node) else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT or tensor.dims[0] < SMALLEST_TABLE:
            nodes.append(node)
            continue
        name, found = tensor.name, node.output[0]
        rows, scales = _int8_rows(numpy_helper.to_array(tensor))
        graph.initializer.append(numpy_helper.from_array(rows, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
        nodes += [
            helper.make_node("Gather", [f"{name}.int8", node.input[1]], [f"{found}.int8"], name=f"{name}.rows"),
            helper.make_node("Gather", [f"{name}.scale", node.input[1]], [f"{found}.scale"], name=f"{name}.scales"),
            helper.make_node("Cast", [f"{found}.int8"], [f"{found}.float"], name=f"{name}.cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{found}.float", f"{found}.scale"], [found], name=f"{name}.scaled"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)


def _int8_rows(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [V, H] -> int8 [V, H] and scales float32 [V, 1]; their product differs by at most half a scale."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales


def fold_transposes(graph: onnx.GraphProto) -> None:
    """Replaces Transpose nodes on weights by transposed weights, in place.

    A masked LM has one for the word table, which its decoder shares. In int8, the table and its transpose together are
    half as large as the table in float.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in tensors:
            order = next((list(each.ints) for each in node.attribute if each.name == "perm"), None)
            values = numpy_helper.to_array(tensors[node.input[0]]).transpose(order)
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), node.output[0]))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _checked(graph: onnx.GraphProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the graph, with the opset and IR version of `model`; raises an error of ONNX if it is invalid."""
    made = helper.make_model(graph, opset_imports=_plain_opsets(model), ir_version=model.ir_version)
    onnx.checker.check_model(made)
    return made


def _plain_opsets(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """The opsets of the original model; quantisers add other domains, which older runtimes do not know."""
    return [copy.deepcopy(each) for each in model.opset_import]
