#!/bin/sh
# paddle2onnx writes the table of an Embedding with padding_idx twice into the ONNX file.
#
# The second copy is a mask of the table's size, with zeros in the row of the padding and ones elsewhere. A Mul node
# applies it to the table. The file of a small encoder with a large vocabulary becomes half as large again.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'paddlepaddle==2.6.2' 'paddle2onnx==1.2.11' 'onnx==1.16.2' 'numpy==1.26.4' 'protobuf==3.20.3' 'setuptools==65.5.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import tempfile
import zlib  # noqa: F401  (first: Paddle 2.6 contains another copy of it)
from importlib.metadata import version
from pathlib import Path

import onnx
import paddle
from paddle.static import InputSpec

EXPECTED = {"without padding_idx": 1, "padding_idx=0": 1}
RECORDED = {"without padding_idx": 1, "padding_idx=0": 2}
SHAPE = [1000, 32]


class Table(paddle.nn.Layer):
    def __init__(self, padding_idx: int | None) -> None:
        super().__init__()
        self.table = paddle.nn.Embedding(*SHAPE, padding_idx=padding_idx)

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        return self.table(ids)


def main() -> dict[str, int]:
    print(f"paddlepaddle {paddle.__version__}, paddle2onnx {version('paddle2onnx')}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, padding in (("without padding_idx", None), ("padding_idx=0", 0)):
            path, spec = Path(folder, "table"), InputSpec([None, None], "int64", "ids")
            paddle.onnx.export(Table(padding), str(path), input_spec=[spec], opset_version=13)
            graph = onnx.load(f"{path}.onnx").graph
            constants = [each.t for node in graph.node for each in node.attribute if node.op_type == "Constant"]
            found[name] = sum(list(each.dims) == SHAPE for each in [*constants, *graph.initializer])
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
