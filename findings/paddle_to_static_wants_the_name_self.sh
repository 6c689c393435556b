#!/bin/sh
# Paddle's to_static cannot call a Layer whose forward() names its instance `s` instead of `self`.
#
# `self` is a custom of Python and not a rule, and the same layer runs without to_static. Paddle recognises a method by
# the name of its first argument. The error says that the input `x` is missing, and shows it among the given arguments.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'paddlepaddle==2.6.2' 'numpy==1.26.4' 'protobuf==3.20.3' 'setuptools==65.5.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import zlib  # noqa: F401  (first: Paddle 2.6 contains another copy of it)

import paddle

EXPECTED = {"self": 2.0, "self, to_static": 2.0, "s": 2.0, "s, to_static": 2.0}
RECORDED = {**EXPECTED, "s, to_static": "ValueError: `forward()` requires `x` arguments"}


class NamedSelf(paddle.nn.Layer):
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x + 1


class NamedS(paddle.nn.Layer):
    def forward(s, x: paddle.Tensor) -> paddle.Tensor:  # noqa: N805
        return x + 1


def outcome(layer: paddle.nn.Layer) -> float | str:
    try:
        return float(layer(paddle.ones([1])))
    except ValueError as error:
        return f"ValueError: {str(error).split(',')[0]}"


def main() -> dict[str, float | str]:
    print(f"paddlepaddle {paddle.__version__}")
    found = {}
    for name, layer in (("self", NamedSelf), ("s", NamedS)):
        found[name] = outcome(layer())
        found[f"{name}, to_static"] = outcome(paddle.jit.to_static(layer()))
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
