"""Where a graph's time goes in OpenVINO and ONNX Runtime: the kinds of operators that each really executes.

    python -m benchmarks.graph_profile BUNDLE [BUNDLE …] --shape 32x64

Runtimes fuse a graph's operators when they load it; what stands here is what is left, with its share of the time of one
thread as the runtime's own profiler counts it. FastDeploy gives no profile; the ONNX Runtime in it is 1.12, which this
command profiles in an environment that has onnxruntime 1.12 installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model_build.bundle import Bundle, open_bundle

RUNS = 20


@dataclass
class Profile:
    """Of one graph in one runtime: time by kind of operator, in any unit, and how many of the kind there are."""

    runtime: str
    seconds: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)

    def rows(self, at_least: float = 0.01) -> Iterator[tuple[str, int, float]]:
        """Kind, number and share, largest first; what is below `at_least` together."""
        total = sum(self.seconds.values())
        small = 0.0
        for kind, seconds in self.seconds.most_common():
            if seconds < at_least * total:
                small += seconds / total
            else:
                yield kind, self.nodes[kind], seconds / total
        yield "everything else", sum(self.nodes[kind] for kind, spent in self.seconds.items()
                                     if spent < at_least * total), small  # fmt: skip


def random_inputs(bundle: Bundle, rows: int, length: int) -> dict[str, np.ndarray]:
    """Texts of random tokens, with one mask each where the graph is a masked LM's."""
    ids = np.random.default_rng(0).integers(5, bundle.manifest.architecture["vocab_size"], (rows, length))
    inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    if bundle.manifest.task == "fill-mask":
        inputs |= {"mask_positions": np.arange(rows) * length + 1, "target_ids": ids[:, :1].copy()}
    return inputs


def in_openvino(bundle: Bundle, inputs: dict[str, np.ndarray], precision: str) -> Profile:
    """OpenVINO names a node's type and the kernel that it chose; a `Subgraph` is several operators in one."""
    import openvino

    compiled = openvino.Core().compile_model(
        str(bundle.graph("onnx")[0]), "CPU",
        {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision, "PERF_COUNT": True},
    )  # fmt: skip
    request = compiled.create_infer_request()
    found = Profile(f"OpenVINO {openvino.get_version().partition('-')[0]} {precision}")
    for run in range(RUNS + 1):
        request.infer(inputs, share_inputs=True)
        for node in request.profiling_info if run else ():  # the first run chooses kernels
            if node.status == openvino.ProfilingInfo.Status.EXECUTED and node.real_time.total_seconds():
                kind = f"{node.node_type} ({node.exec_type})"
                found.seconds[kind] += node.real_time.total_seconds()
                found.nodes[kind] += run == 1
    return found


def in_onnxruntime(bundle: Bundle, inputs: dict[str, np.ndarray]) -> Profile:
    """ONNX Runtime writes an event for every node that it runs."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(
            str(bundle.graph("onnx")[0]), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(RUNS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found = Profile(f"ONNX Runtime {onnxruntime.__version__}")
    seen = set()
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            kind = event["args"]["op_name"]
            found.seconds[kind] += event["dur"]
            found.nodes[kind] += event["name"] not in seen
            seen.add(event["name"])
    return found


def profiles(bundle: Bundle, inputs: dict[str, np.ndarray]) -> Iterator[Profile]:
    """In every runtime that is installed and can be looked into."""
    if importlib.util.find_spec("openvino"):
        yield in_openvino(bundle, inputs, "f32")
        if "quantization" not in bundle.manifest.provenance:
            yield in_openvino(bundle, inputs, "bf16")
    if importlib.util.find_spec("onnxruntime"):
        yield in_onnxruntime(bundle, inputs)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_profile", description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--shape", default="32x64", help="texts by tokens of a batch (default: 32x64)")
    arguments = parser.parse_args()
    rows, length = map(int, arguments.shape.split("x"))
    for path in arguments.bundles:
        bundle = open_bundle(path)
        for profile in profiles(bundle, random_inputs(bundle, rows, length)):
            print(f"\n{bundle.manifest.name} {bundle.manifest.version}, {profile.runtime}, {arguments.shape}\n")
            print("| operator | nodes | time |\n|---|---|---|")
            for kind, nodes, share in profile.rows():
                print(f"| {kind} | {nodes} | {share:.1%} |")


if __name__ == "__main__":
    main()
