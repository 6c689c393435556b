"""The machine that figures are measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LIBRARIES = ("fastdeploy-python", "onnxruntime", "openvino")


def machine() -> dict[str, str]:
    """Processor, cores, Python, and the versions of the runtimes."""
    found = {
        "processor": processor(CPUINFO), "cores": str(len(os.sched_getaffinity(0))), "Python": platform.python_version()
    }  # fmt: skip
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def processor(cpuinfo: Path) -> str:
    """Its name and the names of its instruction sets that matter for matrix products, from /proc/cpuinfo."""
    text = cpuinfo.read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    known = flags.group(1).split() if flags else []
    return ", ".join([name.group(1) if name else platform.machine(), *(each for each in INSTRUCTIONS if each in known)])
