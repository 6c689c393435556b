#!/bin/sh
# OpenVINO compiles kernels at the first run of every new input shape, long after compile_model has returned.
#
# A model with dynamic axes is compiled once, so one expects the first text of 23 tokens to take as long as the second
# one. On the CPU it takes many times as long. A server that batches texts of any length meets a new shape in most
# batches, unless it rounds the shapes up to a few and runs each of them once at the start.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'openvino==2026.4.1' 'numpy==1.26.4'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import time
from statistics import median

import numpy as np
import openvino
import openvino.opset13 as ops

EXPECTED = "first runs take less than 3 times as long as later runs"
RECORDED = "first runs take more than 3 times as long as later runs"


def main() -> str:
    print(f"openvino {openvino.__version__}")
    rng = np.random.default_rng(1)
    ids = ops.parameter([-1, -1], np.int64)
    hidden = ops.gather(ops.constant(rng.normal(size=(1000, 64)).astype(np.float32)), ids, ops.constant(0))
    for _ in range(8):
        weight = ops.constant(rng.normal(size=(64, 64)).astype(np.float32) / 8)
        hidden = ops.relu(ops.matmul(hidden, weight, False, False))
    compiled = openvino.Core().compile_model(openvino.Model([hidden], [ids]), "CPU")
    request = compiled.create_infer_request()

    def seconds(length: int) -> float:
        start = time.perf_counter()
        request.infer([np.ones((1, length), np.int64)])
        return time.perf_counter() - start

    seconds(8)
    ratios = []
    for length in range(9, 40):
        first = seconds(length)
        ratios.append(first / median(seconds(length) for _ in range(5)))
    print(f"median ratio over {len(ratios)} shapes: {median(ratios):.1f}")
    return RECORDED if median(ratios) > 3 else EXPECTED


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
