"""What is checked of a bundle before a runtime loads it: hashes, names of inputs, sizes of embedding tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model_build.bundle import Bundle, BundleError, Manifest, Task, read_vocabulary, verify_bundle
from model_build.graph_reader import GraphError, StaticGraph, read_graph

INPUT_NAMES: dict[str, tuple[str, ...]] = {
    "input_ids": ("input_ids", "src_ids"),
    "token_type_ids": ("token_type_ids", "sent_ids", "segment_ids"),
}
"""The names that a graph may give to an input; the others (`mask_positions`, `target_ids`) have one name."""
TENSORS: dict[Task, tuple[list[str], list[str]]] = {
    "classify": (["input_ids", "token_type_ids"], ["logits"]),
    "fill-mask": (
        ["input_ids", "token_type_ids", "mask_positions", "target_ids"],
        ["top_ids", "top_scores", "target_scores"],
    ),
}
"""Inputs and outputs of the graphs of the tasks that the service serves; the outputs have this order."""


def input_names(named: Sequence[str], wanted: Sequence[str]) -> dict[str, str] | None:
    """The name in the graph for each input that is wanted; None if one is missing or the graph has another one."""
    found = {}
    for name in wanted:
        known = [each for each in named if each in INPUT_NAMES.get(name, (name,))]
        if len(known) != 1:
            return None
        found[name] = known[0]
    return found if len(found) == len(named) else None


def check_bundle(bundle: Bundle) -> None:
    """Checks the files of a bundle before a runtime loads them: hashes, names, sizes of the embedding tables.

    A runtime that looks up an id outside its table reads foreign memory, returns zeros, or ends the process. Raises
    BundleError.
    """
    manifest = bundle.manifest
    inputs, outputs = [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs]
    wanted_inputs, wanted_outputs = TENSORS.get(manifest.task, (inputs, outputs))
    if sorted(inputs) != sorted(wanted_inputs) or outputs != wanted_outputs:
        raise BundleError(
            f"{bundle.directory / 'bundle.json'} has the inputs {', '.join(inputs)} and the outputs "
            f"{', '.join(outputs)}, but {manifest.task} needs {', '.join(wanted_inputs)} and "
            f"{', '.join(wanted_outputs)}."
        )
    try:
        verify_bundle(bundle)
        tokens = len(read_vocabulary(bundle.vocab_path))
        for graph_format in bundle.manifest.graphs:
            model, params = bundle.graph(graph_format)
            if (params is None) != (graph_format == "onnx"):
                raise BundleError(f"{bundle.directory}: an ONNX graph has one file, and a Paddle graph has two.")
            graph = read_graph(model, params)
            if params is not None:
                _check_operators(model, graph)
            _check_graph(bundle.manifest, model, graph, tokens)
    except GraphError as error:
        raise BundleError(str(error)) from error
    except OSError as error:
        raise BundleError(f"{bundle.directory} cannot be read: {error.strerror or error}.") from error


def _check_operators(model: Path, graph: StaticGraph) -> None:
    """Refuses a Paddle graph with operators for quantised weights.

    FastDeploy 1.0.7 with Paddle Inference returns wrong outputs for such graphs, without an error; OpenVINO refuses
    them (findings/fastdeploy_scores_of_quantised_graphs_are_wrong.sh).
    """
    if kinds := sorted(kind for kind in graph.kinds() if "quantize" in kind):
        raise BundleError(
            f"{model} has the operator {kinds[0]} of a compressed model, which no runtime computes correctly; "
            "export the model without compression, or quantise a bundle with ernie-build quantize."
        )


def _check_graph(manifest: Manifest, model: Path, graph: StaticGraph, tokens: int) -> None:
    inputs, outputs = [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs]
    named = input_names(graph.inputs, inputs)
    if named is None:
        known = "; ".join(" or ".join(INPUT_NAMES.get(name, (name,))) for name in inputs)
        raise BundleError(
            f"{model}: the inputs of the graph are {', '.join(graph.inputs)}, but they must be: {known}; export the "
            "model again with these names in input_spec."
        )
    if len(graph.outputs) != len(outputs) or (set(graph.outputs) == set(outputs) and graph.outputs != outputs):
        raise BundleError(
            f"{model}: the outputs of the graph are {', '.join(graph.outputs)}, but {', '.join(outputs)} are needed."
        )
    rows = graph.table_rows()
    size = manifest.architecture.get("vocab_size")
    table = rows.get(named.get("input_ids", ""), size if isinstance(size, int) else None)
    if table is None:
        raise BundleError(
            f"{model}: the embedding table of input_ids was not found in the graph; write its number of rows as "
            "vocab_size in config.json or in the architecture of bundle.json."
        )
    if tokens > table:
        raise BundleError(
            f"{model.parent}: the vocabulary has {tokens} tokens, but the embedding table of the graph has {table} "
            "rows; use the vocab.txt of its training."
        )
    if (positions := rows.get("positions")) and manifest.max_length > positions:
        raise BundleError(
            f"{model}: the maximum length is {manifest.max_length} tokens, but the graph has {positions} positions; "
            f"write {positions} as max_position_embeddings in config.json, or as max_length in bundle.json."
        )
    if rows.get(named.get("token_type_ids", ""), 2) < 2:
        raise BundleError(f"{model}: the graph has one token type, but 2 are needed for pairs of texts.")
