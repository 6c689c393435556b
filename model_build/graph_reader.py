"""Reads which inputs, outputs and embedding tables a static graph has, without Paddle and without the package onnx.

Both formats are Protocol Buffers messages: ONNX (`onnx.proto3`, ModelProto) and Paddle's program (`framework.proto`,
ProgramDesc). Only the fields that are needed here are read; weights are skipped. The numbers of the fields are from
these two files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import BinaryIO

from model_build.protobuf import Buffer, fields, mapped, number_of, numbers, parts, text, texts

# Operators that do not change the values of their first input.
SAME_VALUES = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"}
SAME_VALUES |= {"assign", "cast", "squeeze2", "unsqueeze2", "reshape2", "flatten_contiguous_range", "share_data"}
# Operators whose first input has the same ids as their output.
SAME_IDS = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
SAME_IDS |= {"cast", "assign", "reshape2", "squeeze2", "unsqueeze2", "flatten_contiguous_range"}
# Operators whose output is a table of the same shape as one of their inputs.
SAME_TABLE = {"Cast", "Identity", "DequantizeLinear", "Mul"}
SAME_TABLE |= {"cast", "assign", "dequantize_linear", "quantize_linear", "elementwise_mul"}
SAME_TABLE |= {"fake_quantize_dequantize_abs_max", "fake_channel_wise_quantize_dequantize_abs_max"}
LOOKUPS = {"Gather", "lookup_table_v2", "lookup_table"}
# Positions are counted, with one of these operators.
COUNTERS = {"CumSum", "Range", "cumsum", "range", "arange"}
# Bytes of an element by Paddle's number of its type (VarType.Type).
PADDLE_SIZES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}


class GraphError(ValueError):
    """A file that is not a graph, or whose parts do not belong together; the message is one sentence."""


@dataclass
class Operator:
    """One operator. `inputs` of an embedding are the table and the ids, in this order."""

    kind: str
    inputs: list[str]
    outputs: list[str]


@dataclass
class StaticGraph:
    """The names and shapes of a graph. `shapes` has the weights only."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._makers: dict[str, Operator] | None = None

    def table_rows(self) -> dict[str, int]:
        """Number of rows of the smallest embedding table for each input that selects rows of one.

        The key `positions` has the table that is indexed by counted positions. Tables that are not found are left out.
        """
        rows: dict[str, int] = {}
        for operator in self.operators:
            if operator.kind not in LOOKUPS or len(operator.inputs) < 2:
                continue
            table, ids = operator.inputs[:2]
            shape = self._shape(table)
            if shape is None:
                continue
            source = self._source(ids)
            name = source if source in self.inputs else "positions" if self._counted(ids) else None
            if name:
                rows[name] = min(shape[0], rows.get(name, shape[0]))
        return rows

    def kinds(self) -> set[str]:
        """The kinds of operators that occur."""
        return {operator.kind for operator in self.operators}

    def last_kind(self) -> str | None:
        """The kind of the operator that computes the first output; operators that do not change values are skipped."""
        name, seen = self.outputs[0], set[str]()
        while (maker := self._maker(name)) and maker.kind in SAME_VALUES and maker.inputs and name not in seen:
            seen.add(name)
            name = maker.inputs[0]
        return maker.kind if maker else None

    def _maker(self, name: str) -> Operator | None:
        if self._makers is None:
            self._makers = {output: operator for operator in self.operators for output in operator.outputs}
        return self._makers.get(name)

    def _walk(self, name: str, through: set[str] | None) -> Iterator[str]:
        """`name` and the names it is computed from, along operators of the kinds `through` (None: all)."""
        seen, left = {name}, [name]
        while left:
            current = left.pop()
            yield current
            maker = self._maker(current)
            if maker and (through is None or maker.kind in through):
                new = [each for each in maker.inputs if each not in seen]
                seen.update(new)
                left += new

    def _shape(self, table: str) -> list[int] | None:
        tables = (self.shapes.get(each, []) for each in self._walk(table, SAME_TABLE))
        return next((shape for shape in tables if len(shape) == 2), None)

    def _source(self, ids: str) -> str:
        while (maker := self._maker(ids)) and maker.kind in SAME_IDS and maker.inputs:
            ids = maker.inputs[0]
        return ids

    def _counted(self, ids: str) -> bool:
        makers = map(self._maker, self._walk(ids, None))
        return any(maker.kind in COUNTERS for maker in makers if maker)


def read_graph(model: Path, params: Path | None) -> StaticGraph:
    """The graph of an ONNX file (`params` is None), or of a Paddle program and its parameters.

    Raises GraphError if a file is damaged, or the parameters are not those of the program; OSError.
    """
    if not model.stat().st_size:
        raise GraphError(f"{model} is empty; copy it again.")
    view = mapped(model)
    try:
        graph = _onnx(view) if params is None else _paddle(view)
    except (ValueError, IndexError, KeyError) as error:
        reason = str(error) if isinstance(error, GraphError) else "it is damaged, or of another format"
        raise GraphError(f"{model} cannot be read as a graph: {reason}; copy it again.") from None
    if not graph.operators or not graph.outputs:
        raise GraphError(f"{model} has no operators or no outputs; export the model again.")
    if params is not None:
        _check_params(graph, model, params)
    return graph


# ONNX


def _onnx(data: Buffer) -> StaticGraph:
    """ModelProto: graph = 7. GraphProto: node = 1, initializer = 5, input = 11, output = 12. TensorProto: dims = 1.

    Weights in other files (external data) have their dims here; bundle_files.py checks the files.
    """
    graphs = parts(data, 7)
    if len(graphs) != 1:
        raise GraphError("it has no graph")
    found = StaticGraph()
    named: list[str] = []
    for number, value in fields(graphs[0]):
        if isinstance(value, int):
            continue
        if number == 1:
            kind = text(value, 4)
            found.operators.append(Operator(kind, texts(value, 1), texts(value, 2)))
            if kind == "Constant":
                for tensor in (tensor for attribute in parts(value, 5) for tensor in parts(attribute, 5)):
                    found.shapes[found.operators[-1].outputs[0]] = numbers(tensor, 1)
        elif number == 5:
            found.shapes[text(value, 8)] = numbers(value, 1)
        elif number == 11:
            named.append(text(value, 1))
        elif number == 12:
            found.outputs.append(text(value, 1))
    # Older exporters list the weights among the inputs too.
    found.inputs = [name for name in named if name not in found.shapes]
    return found


# Paddle


def _paddle(data: Buffer) -> StaticGraph:
    """ProgramDesc: blocks = 1. BlockDesc: vars = 3, ops = 4. VarDesc: name = 1, type = 2, persistable = 3.

    OpDesc: inputs = 1, outputs = 2, type = 3, attrs = 4.
    """
    blocks = parts(data, 1)
    if not blocks:
        raise GraphError("it has no program")
    found = StaticGraph()
    feeds: dict[int, str] = {}
    fetches: dict[int, str] = {}
    for variable in parts(blocks[0], 3):
        # VarType: lod_tensor = 3; LoDTensorDesc: tensor = 1; TensorDesc: dims = 2.
        tensors = [tensor for kind in parts(variable, 2) for lod in parts(kind, 3) for tensor in parts(lod, 1)]
        if number_of(variable, 3) and tensors:
            found.shapes[text(variable, 1)] = numbers(tensors[0], 2)
    for operator in parts(blocks[0], 4):
        kind = text(operator, 3)
        # OpDesc.Var: parameter = 1, arguments = 2.
        taken = {text(each, 1): texts(each, 2) for each in parts(operator, 1)}
        given = {text(each, 1): texts(each, 2) for each in parts(operator, 2)}
        if kind in ("feed", "fetch"):
            # Attr: name = 1, i = 3.
            column = next((number_of(each, 3) for each in parts(operator, 4) if text(each, 1) == "col"), 0)
            (feeds if kind == "feed" else fetches)[column] = (given["Out"] if kind == "feed" else taken["X"])[0]
            continue
        if kind == "scale" and _is_identity(parts(operator, 4)):
            kind = "assign"
        first = ("W", "Ids") if kind in LOOKUPS else ("X",)
        ordered = sorted(taken, key=lambda name: first.index(name) if name in first else len(first))
        inputs = [argument for name in ordered for argument in taken[name]]
        found.operators.append(Operator(kind, inputs, [name for names in given.values() for name in names]))
    found.inputs = [feeds[column] for column in sorted(feeds)]
    found.outputs = [fetches[column] for column in sorted(fetches)]
    return found


def _is_identity(attributes: list[Buffer]) -> bool:
    """Whether a `scale` operator multiplies by 1 and adds 0; `paddle.jit.save` ends every graph with one.

    Attr: name = 1, f = 4.
    """
    floats = {text(each, 1): struct.unpack("<f", struct.pack("<I", number_of(each, 4)))[0] for each in attributes}
    return floats.get("scale", 1.0) == 1.0 and floats.get("bias", 0.0) == 0.0


def _check_params(graph: StaticGraph, model: Path, path: Path) -> None:
    """Compares the shapes in `model.pdiparams`, which are in the order of their sorted names, with the program."""
    wanted = [graph.shapes[name] for name in sorted(graph.shapes)]
    with path.open("rb") as file:
        size = path.stat().st_size
        have = []
        try:
            while file.tell() < size:
                have.append(_param_shape(file, size))
        except (ValueError, IndexError, KeyError, struct.error):
            raise GraphError(f"{path} is damaged or incomplete; copy it again.") from None
    if have != wanted:
        raise GraphError(f"{path} does not hold the weights of {model}; copy both files from the same export.")


def _param_shape(file: BinaryIO, size: int) -> list[int]:
    """One tensor: version, level of detail, version, TensorDesc, values. Raises ValueError if it is incomplete."""
    _, levels = struct.unpack("<IQ", file.read(12))
    if levels > 8 or size < 32:
        raise ValueError("the tensor has more than 8 levels")
    for _ in range(levels):
        (bytes_of_level,) = struct.unpack("<Q", file.read(8))
        file.seek(bytes_of_level, 1)
    _, length = struct.unpack("<II", file.read(8))
    description = memoryview(file.read(length))
    shape, bytes_of_type = numbers(description, 2), PADDLE_SIZES[number_of(description, 1)]
    if min(shape, default=0) < 0 or (end := file.tell() + prod(shape) * bytes_of_type) > size:
        raise ValueError("the file ends too early")
    file.seek(end)
    return shape
