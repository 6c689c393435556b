#!/bin/sh
# PaddleNLP's ErnieModel ignores `layer_norm_eps` of its configuration and always uses 1e-12.
#
# ErnieConfig documents the parameter, and BertModel of the same release uses its own. A model that was trained with
# another epsilon, for example 1e-5, is computed with 1e-12 without a message, and its outputs are slightly wrong.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'paddlenlp==2.8.1' 'paddlepaddle==2.6.2' 'paddle2onnx==1.2.11' 'onnx==1.16.2' 'numpy==1.26.4' 'protobuf==3.20.3' \
    'huggingface-hub==0.23.5' 'aistudio-sdk==0.2.4' 'datasets==2.21.0' 'pyarrow==17.0.0' 'setuptools==65.5.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import zlib  # noqa: F401  (first: Paddle 2.6 contains another copy of it)
from importlib.metadata import version

import paddle
from paddlenlp.transformers import BertConfig, BertModel, ErnieConfig, ErnieModel

SIZES = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
EPSILONS = (1e-12, 1e-3)
EXPECTED = {"BertModel": [1e-12, 1e-3, "other outputs"], "ErnieModel": [1e-12, 1e-3, "other outputs"]}
RECORDED = {"BertModel": [1e-12, 1e-3, "other outputs"], "ErnieModel": [1e-12, 1e-12, "equal outputs"]}


def main() -> dict[str, list[float | str]]:
    print(f"paddlenlp {version('paddlenlp')}, paddlepaddle {paddle.__version__}")
    found = {}
    for kind, config in ((BertModel, BertConfig), (ErnieModel, ErnieConfig)):
        used, outputs = [], []
        for epsilon in EPSILONS:
            paddle.seed(1)  # the same weights each time
            model = kind(config(layer_norm_eps=epsilon, **SIZES))
            model.eval()
            [only] = {each._epsilon for each in model.sublayers() if isinstance(each, paddle.nn.LayerNorm)}
            used.append(only)
            outputs.append(model(paddle.to_tensor([[1, 2, 3]]))[0].numpy())
        found[kind.__name__] = [*used, "equal outputs" if (outputs[0] == outputs[1]).all() else "other outputs"]
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
