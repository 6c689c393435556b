"""What figures were measured on."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from pathlib import Path

from benchmarks.contenders import PEERS
from service.runtime.cores import cores

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LIBRARIES = ("fastdeploy-python", "onnxruntime", "openvino")


def machine() -> dict[str, str]:
    """Processor, cores, and the versions of what is compared."""
    told = {"processor": processor(Path("/proc/cpuinfo")), "cores": str(cores()), "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            told[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            told[name] = "not installed"
    for peer in PEERS:
        pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", peer.requirements.read_text(encoding="utf-8"), re.MULTILINE))
        told[f"peer {peer.name}"] = ", ".join(
            f"{name} {pinned[name]}" for name in (*peer.libraries, "onnxruntime", "tokenizers")
        )
    return told


def processor(cpuinfo: Path) -> str:
    """Its name and those of its instruction sets that matter for matrix products; as /proc/cpuinfo has them."""
    text = cpuinfo.read_text(encoding="utf-8")
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    known = flags.group(1).split() if flags else []
    return ", ".join([name.group(1) if name else platform.machine(), *(each for each in INSTRUCTIONS if each in known)])
