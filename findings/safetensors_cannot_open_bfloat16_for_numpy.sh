#!/bin/sh
# safetensors' safe_open(path, framework="np") raises TypeError for a tensor of type BF16 unless ml_dtypes is imported.
#
# BF16 is a type of the format, and many published models have weights of this type. The message names neither the file
# nor the tensor, and does not say that `import ml_dtypes` is enough to read the same tensor: this import gives numpy
# the type. deserialize() returns the bytes of the tensor without it, and a reader can widen them to float32.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'safetensors==0.8.0' 'ml-dtypes==0.5.4' 'numpy==1.26.4'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import json
import struct
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors

VALUES = np.array([1.0, -2.5], np.float32)  # both are exact in BF16, the upper half of a float32
EXPECTED = {"F32": VALUES.tolist(), "BF16": VALUES.tolist(), "BF16, ml_dtypes": VALUES.tolist()}
RECORDED = {**EXPECTED, "BF16": "TypeError: data type 'bfloat16' not understood"}


def write(path: Path, kind: str, data: bytes) -> None:
    header = json.dumps({"w": {"dtype": kind, "shape": [2], "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def opened(path: Path) -> list[float] | str:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return [float(each) for each in file.get_tensor("w")]
    except TypeError as error:
        return f"TypeError: {error}"


def main() -> dict[str, list[float] | str]:
    print(f"safetensors {version('safetensors')}, numpy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        single, half = Path(folder, "f32.safetensors"), Path(folder, "bf16.safetensors")
        write(single, "F32", VALUES.tobytes())
        write(half, "BF16", (VALUES.view(np.uint32) >> 16).astype(np.uint16).tobytes())
        found = {"F32": opened(single), "BF16": opened(half)}
        import ml_dtypes  # noqa: F401  (it registers the type with numpy)

        return {**found, "BF16, ml_dtypes": opened(half)}


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
