"""ONNX graphs: conversion of a saved Paddle graph, with the weights as initializers."""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

ONNX_OPSET = 13


class ExportError(RuntimeError):
    """An export whose graphs are wrong; the message is one sentence."""


def save_onnx(saved: Path, input_names: Sequence[str], output_names: Sequence[str]) -> None:
    """Converts a graph that `save_paddle` wrote to `model.onnx` in the same folder.

    The outputs get the names `output_names`, and the weights are initializers. Raises ExportError if the inputs of the
    ONNX graph are not `input_names`.
    """
    import paddle2onnx

    target = saved.with_suffix(".onnx")
    # The optimiser of paddle2onnx 2 calls pip, and writes another graph if the packages are missing. It is not needed,
    # because runtimes fold constants.
    known = inspect.signature(paddle2onnx.export).parameters
    options = {"optimize_tool": None} if "optimize_tool" in known else {}
    with quiet():
        paddle2onnx.export(
            str(saved),
            str(saved.with_suffix(".pdiparams")),
            str(target),
            opset_version=ONNX_OPSET,
            enable_onnx_checker=True,
            **options,
        )
    model = onnx.load(str(target))
    renamed = dict(zip((output.name for output in model.graph.output), output_names, strict=True))
    for output in model.graph.output:
        output.name = renamed[output.name]
    for node in model.graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    have = [value.name for value in model.graph.input]
    if sorted(have) != sorted(input_names):
        raise ExportError(
            f"paddle2onnx wrote a graph with the inputs {have} instead of {list(input_names)}; install the version of "
            "paddle2onnx that constraints.txt names."
        )
    onnx.save(with_initializers(model), str(target))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discards everything that is printed on standard output and standard error, also by native libraries."""
    with open(os.devnull, "w") as null:
        saved = os.dup(1), os.dup(2)
        os.dup2(null.fileno(), 1)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


def with_initializers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph with its constants as initializers. Every node gets a name.

    Paddle2onnx writes constants as nodes. Quantisers, such as ONNX Runtime's `quantize_dynamic`, look for weights only
    among the initializers, and sessions can share only these. A constant that is an output of the graph stays a node.
    """
    made = copy.deepcopy(model)
    graph = made.graph
    outputs, used = {each.name for each in graph.output}, {name for node in graph.node for name in node.input}
    nodes = []
    for number, node in enumerate(graph.node):
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in outputs:
            if node.output[0] in used:  # ONNX Runtime warns about the others
                tensor = graph.initializer.add()
                tensor.CopyFrom(value)
                tensor.name = node.output[0]
        else:
            kept = copy.deepcopy(node)
            kept.name = node.name or f"{node.op_type}.unnamed.{number}"  # quantisers select nodes by name
            nodes.append(kept)
    del graph.node[:]
    graph.node.extend(nodes)
    return made
