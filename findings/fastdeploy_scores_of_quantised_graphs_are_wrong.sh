#!/bin/sh
# FastDeploy's Paddle backend runs a graph that Paddle has quantised and returns wrong numbers, without an error.
#
# The graph is Linear, tanh, Linear. FastDeploy's outputs equal those of Paddle's own executor before Paddle's static
# PostTrainingQuantization. After it they are more than 50 times too small (seen on an Intel CPU with AVX-512 VNNI).
#
# PYTHON names the interpreter, 3.10 at most (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'paddlepaddle==2.6.2' 'numpy==1.26.4' 'protobuf==3.20.3' 'setuptools==65.5.0' 'fastapi==0.162.5' 'pyyaml==6.0.3' \
    'requests==2.34.2' 'six==1.17.0' 'tqdm==4.70.1' &&
  "$folder/bin/pip" install --quiet --no-deps --disable-pip-version-check 'fastdeploy-python==1.0.7' 'opencv-python-headless==4.10.0.84'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

from importlib.metadata import version  # it imports zlib, before Paddle 2.6, which contains another copy of it
from subprocess import run

import numpy as np
import paddle
from paddle.static.quantization import PostTrainingQuantization

NAMES = {"model_filename": "g.pdmodel", "params_filename": "g.pdiparams"}
EXPECTED = {"float": "right", "quantize_linear": "right", "fake_quantize_range_abs_max": "right"}
RECORDED = {"float": "right", "quantize_linear": "wrong", "fake_quantize_range_abs_max": "wrong"}
ROW = np.linspace(-1, 1, 16, dtype="float32")[None]
FASTDEPLOY = """if True:
    import numpy, fastdeploy
    option = fastdeploy.RuntimeOption()
    option.set_model_path("g.pdmodel", "g.pdiparams")
    option.use_paddle_infer_backend()
    numpy.save("y.npy", fastdeploy.Runtime(option).infer({"x": numpy.linspace(-1, 1, 16, dtype="float32")[None]})[0])"""


def main() -> dict[str, str]:
    print(f"fastdeploy-python {version('fastdeploy-python')}, paddlepaddle {paddle.__version__}")
    paddle.enable_static()
    paddle.seed(1)
    executor, x = paddle.static.Executor(paddle.CPUPlace()), paddle.static.data("x", [None, 16])
    y = paddle.nn.Linear(16, 3)(paddle.tanh(paddle.nn.Linear(16, 16)(x)))
    executor.run(paddle.static.default_startup_program())
    paddle.static.save_inference_model("float/g", [x], [y], executor)
    loader = paddle.io.DataLoader([tuple(ROW)], feed_list=[x], places=executor.place, return_list=False)
    found = {}
    for name in RECORDED:
        if name != "float":
            form = {"onnx_format": name == "quantize_linear", "algo": "abs_max", "quantizable_op_type": ["matmul_v2"]}
            quantisation = PostTrainingQuantization(executor, "float", **NAMES, data_loader=loader, **form)
            assert name in [operator.type for operator in quantisation.quantize().global_block().ops]
            quantisation.save_quantized_model(name, **NAMES)
        graph, _, outputs = paddle.static.load_inference_model(name, executor, **NAMES)
        [right] = executor.run(graph, feed={"x": ROW}, fetch_list=outputs)
        run([sys.executable, "-c", FASTDEPLOY], cwd=name, check=True)
        served = np.load(f"{name}/y.npy")
        print(f"{name}: Paddle {right[0]}, FastDeploy {served[0]}")
        found[name] = "right" if np.abs(served - right).max() < 0.1 * np.abs(right).max() else "wrong"
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
