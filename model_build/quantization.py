"""Post-training quantisation: a bundle's ONNX graph with int8 matrix products, or with weights stored in 16 bits.

int8 is static: the ranges of activations are seen on real text. Weights have a scale for every output channel,
activations one for the tensor, and the graph says so in pairs of QuantizeLinear and DequantizeLinear, which runtimes
turn into integer kernels of their own. What a matrix product gives stays in float: behind ERNIE's feed-forward layers
few values are large and many small, and 8 bits for both cost a point of accuracy. Products of two activations
(attention) stay in float too; they are small.
Method: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference"
(arXiv:1712.05877), as `onnxruntime.quantization` carries it out.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_build.bundle import Bundle, BundleError, GraphFile
from model_build.derived import write_derived
from model_build.runners import Arrays, onnx_runner
from model_build.settings import QuantizeSettings

log = logging.getLogger(__name__)

SMALLEST_TABLE = 64
"""Rows; embedding tables with fewer are not worth a scale a row."""
LARGEST_FP16 = 65504.0


class QuantizationError(RuntimeError):
    """A graph that cannot be quantised as asked; the message is one sentence."""


def quantize(bundle: Bundle, target: Path, settings: QuantizeSettings, batches: Sequence[Arrays]) -> Bundle:
    """Writes the bundle's ONNX graph, quantised, as a bundle of its own; it has no Paddle graph.

    `batches` are inputs of the graph, made of real text, that show how large activations get; 16-bit weights need none.
    Raises BundleError where `target` exists, and QuantizationError where the bundle has no ONNX graph or is quantised.
    """
    check_plain(bundle)
    model = onnx.load(str(bundle.graph("onnx")[0]))
    if settings.precision == "int8":
        if not batches:
            raise QuantizationError("int8 needs text to calibrate on; give some.")
        made = int8_graph(model, batches, settings)
    else:
        made = half_graph(model, settings.precision)

    def write(folder: Path) -> dict[str, GraphFile]:
        onnx.save(made, str(folder / "model.onnx"))
        return {"onnx": GraphFile(path="graph/model.onnx")}

    described = {**dataclasses.asdict(settings), "calibration_rows": sum(map(_rows, batches))}
    return write_derived(bundle, target, write, {"quantization": described})


def check_plain(bundle: Bundle) -> None:
    """Raises QuantizationError for a bundle that cannot be quantised: it has no ONNX graph, or is quantised."""
    if "quantization" in bundle.manifest.provenance:
        source = bundle.manifest.provenance["made_from"]
        raise QuantizationError(
            f"{bundle.directory} is in {bundle.manifest.provenance['quantization']['precision']} already; give the "
            f"bundle that it was made from, {source['name']} {source['version']}."
        )
    try:
        bundle.graph("onnx")
    except BundleError as error:
        raise QuantizationError(f"{error} Export its checkpoint with `ernie-build export`.") from None


def _rows(inputs: Arrays) -> int:
    return len(inputs["input_ids"])


def half_graph(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The graph with matrices and tables stored in 16 bits and cast to float32 where it begins.

    Runtimes carry out the casts once, when they load it; in which precision they compute is a setting of theirs. Raises
    QuantizationError where a weight is too large for fp16.
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
                f"{tensor.name} has weights beyond {LARGEST_FP16:g}, more than fp16 holds; use bf16."
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
    """float32 rounded to the nearest bf16, halves to even; the upper two bytes of each, little-endian."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2").tobytes()


def int8_graph(model: onnx.ModelProto, batches: Sequence[Arrays], settings: QuantizeSettings) -> onnx.ModelProto:
    """The graph with the matrix products of weights in int8, and the embedding tables unless the settings say no.

    Raises QuantizationError where it has no such products, or fewer than are to stay in float.
    """
    plain = with_initializers(model)
    fold_transposes(plain.graph)
    weights = {tensor.name for tensor in plain.graph.initializer if len(tensor.dims) == 2}
    products = [node.name for node in plain.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    if not products:
        raise QuantizationError("the graph has no matrix products with weights.")
    if settings.keep_float >= len(products):
        raise QuantizationError(
            f"the graph has {len(products)} matrix products with weights, so --keep-float {settings.keep_float} leaves "
            "nothing to quantise."
        )
    quantizer = _Quantizer(plain, batches, settings.activations)
    chosen = products
    if settings.keep_float:
        losses = quantizer.losses(products)
        kept = sorted(products, key=lambda name: -losses[name])[: settings.keep_float]
        log.info("in float: %s", ", ".join(f"{name} (alone {losses[name]:.2%} off)" for name in kept))
        chosen = [name for name in products if name not in kept]
    made = quantizer.quantized(chosen)
    if settings.tables:
        quantize_tables(made.graph)
    return _checked(made.graph, model)


class _Quantizer:
    """A graph and the ranges of its activations on the calibration text."""

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
            # 7 bits for weights: processors without VNNI add two products in 16 bits, which 8 bits would overflow, so
            # that a bundle would be right where it was judged and wrong elsewhere.
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
        """For each MatMul node, how far the outputs go astray when it alone is in int8; see `difference`.

        Eight batches of all are enough to rank them.
        """
        some = self.batches[:: -(-len(self.batches) // 8)]
        want = _outputs(self.model, some)
        return {name: difference(want, _outputs(self.quantized([name]), some)) for name in products}


def _outputs(model: onnx.ModelProto, batches: Sequence[Arrays]) -> list[np.ndarray]:
    """The outputs that are float32, of all batches one after the other."""
    names = [each.name for each in model.graph.output if each.type.tensor_type.elem_type == TensorProto.FLOAT]
    run = onnx_runner(model.SerializeToString(), names)
    return [output for inputs in batches for output in run(inputs)]


def difference(want: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """Root mean square of the difference of outputs, as a share of their own spread around zero."""
    squares = sum(float(np.square(a - b, dtype=np.float64).sum()) for a, b in zip(want, got, strict=True))
    return float(np.sqrt(squares / sum(float(np.square(a, dtype=np.float64).sum()) for a in want)))


def quantize_tables(graph: onnx.GraphProto) -> None:
    """Embedding tables float32 [V, H] that are looked up by row become int8 [V, H] and a scale [V, 1].

    Rows differ in size, so a scale for each loses less than one for the table.
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
    """float32 [V, H] -> int8 [V, H] and float32 [V, 1], whose product is the table to half a step of each row."""
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(table / scales).astype(np.int8), scales


def with_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph whose constants are initializers, where quantisers look; paddle2onnx writes them as nodes."""
    made = copy.deepcopy(model)
    graph = made.graph
    graph.initializer.extend(_constants(graph))
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    for number, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type}.unnamed.{number}"  # products are chosen by name
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def fold_transposes(graph: onnx.GraphProto) -> None:
    """Transposed weights, such as the table that a masked LM's decoder shares, become weights themselves.

    In int8 the table and its transpose together are still half of the one in float.
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


def _constants(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for node in graph.node:
        if node.op_type == "Constant":
            tensor = copy.deepcopy(next(each.t for each in node.attribute if each.name == "value"))
            tensor.name = node.output[0]
            yield tensor


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _checked(graph: onnx.GraphProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as a model like the one it comes from."""
    made = helper.make_model(graph, opset_imports=_plain_opsets(model), ir_version=model.ir_version)
    onnx.checker.check_model(made)
    return made


def _plain_opsets(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """Those of the original: quantisers add domains of their own that older runtimes do not know."""
    return [copy.deepcopy(each) for each in model.opset_import]
