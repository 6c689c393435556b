#!/bin/sh
# ONNX Runtime's quantize_dynamic leaves a matrix product in float32 if its weight is a Constant node.
#
# ONNX allows both forms of a weight: an initializer of the graph, and the output of a Constant node. Exporters such as
# paddle2onnx write Constant nodes. quantize_dynamic returns without an error and without a warning about them, and the
# "quantised" file is as large and as slow as the original.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'onnxruntime==1.23.2' 'onnx==1.16.2' 'numpy==1.26.4'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

EXPECTED = {"initializer": "MatMulInteger", "Constant node": "MatMulInteger"}
RECORDED = {"initializer": "MatMulInteger", "Constant node": "MatMul"}


def graph_of(weight: str) -> onnx.ModelProto:
    values = numpy_helper.from_array(np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32), "w")
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    constant = [helper.make_node("Constant", [], ["w"], value=values)] if weight == "Constant node" else []
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 64]) for name in "xy")
    graph = helper.make_graph([*constant, product], "product", [x], [y], [] if constant else [values])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def main() -> dict[str, str]:
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for weight in RECORDED:
            source, made = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            onnx.save(graph_of(weight), str(source))
            quantize_dynamic(source, made)
            types = [node.op_type for node in onnx.load(str(made)).graph.node]
            found[weight] = next(each for each in types if each.startswith("MatMul"))
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
