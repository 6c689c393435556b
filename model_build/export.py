"""Static-graph export: a checkpoint becomes a model bundle, and the graphs must agree with eager mode."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.static import InputSpec

from model_build.atomic_write import atomic_folder
from model_build.bundle import (
    Bundle,
    GraphFile,
    Manifest,
    TensorSpec,
    TokenizerSettings,
    new_bundle_path,
    open_bundle,
    read_vocabulary,
    sha256_of,
)
from model_build.checkpoint import Checkpoint, load_model, read_checkpoint
from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification, ErnieForTokenClassification
from model_build.last_layer import first_states, states_at
from model_build.runners import Arrays, Runner, onnx_runner, paddle_runner

MAX_PARITY_ERROR = 1e-4
ONNX_OPSET = 13
# Paddle 3 saves graphs as `.json` (PIR), which no runtime of the service reads, so ONNX alone goes into the bundle.
SAVES_PIR = int(paddle.__version__.partition(".")[0]) >= 3
DEFAULT_SENTENCES = (
    "今天天气真好，我们去公园散步吧。",
    "这家酒店的房间很干净，服务也很周到，下次还会再来。",
    "质量太差了，用了两天就坏了，非常失望。",
    "北京是中华人民共和国的首都。",
)


class ExportError(RuntimeError):
    """An export that must not be used; the message is one sentence."""


def _ids(name: str, dimensions: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="int64", shape=[-1] * dimensions)


def _scores(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=list(shape))


class Graph(nn.Layer):
    """What is exported: a model with the inputs and outputs that its bundle tells of.

    `forward` is what the runtimes will execute; `plain` is the same from the model as it was trained, by which the
    exported graphs are judged.
    """

    input_specs: Sequence[TensorSpec] = (_ids("input_ids", 2), _ids("token_type_ids", 2))
    output_specs: Sequence[TensorSpec]

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    def plain(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs that `forward` must give."""
        return self.forward(*inputs)


class LogitsGraph(Graph):
    """The exported classifier of texts: token ids in, logits out; of the last layer the first token alone."""

    def __init__(self, model: ErnieForSequenceClassification, num_labels: int) -> None:
        super().__init__(model)
        self.output_specs = (_scores("logits", -1, num_labels),)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """[B, S] int64 each -> logits float32 [B, num_labels]."""
        ernie = self.model.ernie
        logits = self.model.classifier(ernie.pooler.pooled(first_states(ernie, input_ids, token_type_ids)))
        return paddle.squeeze(logits, axis=1)

    def plain(self, *inputs: Tensor) -> Tensor:
        """The model's own answer."""
        return self.model(*inputs)


class TokenLogitsGraph(Graph):
    """The exported tagger: token ids in, logits of every token out."""

    def __init__(self, model: ErnieForTokenClassification, num_labels: int) -> None:
        super().__init__(model)
        self.output_specs = (_scores("logits", -1, -1, num_labels),)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """[B, S] int64 each -> logits float32 [B, S, num_labels]."""
        return self.model(input_ids, token_type_ids)


class AnswerGraph(Graph):
    """The exported reader: start and end logits of the answer, for every token."""

    output_specs = (_scores("start_logits", -1, -1), _scores("end_logits", -1, -1))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S] int64 each -> start and end logits float32 [B, S]."""
        start, end = self.model(input_ids, token_type_ids)
        return start, end


class FillMaskGraph(Graph):
    """The exported masked LM: only the top candidates and the targets asked for leave it, never the vocabulary."""

    input_specs = (*Graph.input_specs, _ids("mask_positions", 1), _ids("target_ids", 2))

    def __init__(self, model: ErnieForMaskedLM, num_tokens: int, top_candidates: int) -> None:
        super().__init__(model)
        self.output_specs = (
            TensorSpec(name="top_ids", dtype="int64", shape=[-1, top_candidates]),
            _scores("top_scores", -1, top_candidates),
            _scores("target_scores", -1, -1),
        )
        self.num_tokens = num_tokens
        self.top_candidates = top_candidates

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, mask_positions: Tensor, target_ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ids [B, S], mask_positions [N] (row * S + column), target_ids [N, T] -> [N, K] twice and [N, T]."""
        states = states_at(self.model.ernie, input_ids, token_type_ids, mask_positions)
        return self._candidates(paddle.squeeze(self.model.cls.predictions(states), axis=0), target_ids)

    def plain(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same candidates, of the model's own logits."""
        *ids_and_positions, target_ids = inputs
        return self._candidates(self.model(*ids_and_positions), target_ids)

    def _candidates(self, logits: Tensor, target_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Rows of the table beyond the vocabulary are spare; no answer may name one.
        scores = F.softmax(logits[:, : self.num_tokens])
        top_scores, top_ids = paddle.topk(scores, self.top_candidates, axis=-1)
        return top_ids, top_scores, paddle.index_sample(scores, target_ids)


def save_paddle(graph: Graph, directory: Path) -> Path:
    """Writes `model.pdmodel` (Paddle 3: `model.json`) and `model.pdiparams`; returns the first."""
    graph.eval()
    specs = [
        InputSpec([None if size < 0 else size for size in each.shape], each.dtype, each.name)
        for each in graph.input_specs
    ]
    static = paddle.jit.to_static(graph, input_spec=specs, full_graph=True)
    paddle.jit.save(static, str(directory / "model"))
    (directory / "model.pdiparams.info").unlink(missing_ok=True)
    if SAVES_PIR:
        return directory / "model.json"
    strip_callstacks(directory / "model.pdmodel")
    return directory / "model.pdmodel"


def strip_callstacks(path: Path) -> None:
    """Takes out of a `.pdmodel` what Paddle writes into every operator: the Python stack that made it."""
    program = paddle.base.core.ProgramDesc(path.read_bytes())
    for block in map(program.block, range(program.num_blocks())):
        for operator in map(block.op, range(block.op_size())):
            operator.remove_attr("op_callstack")
    path.write_bytes(program.serialize_to_string())


def save_onnx(saved: Path, input_names: Sequence[str], output_names: Sequence[str]) -> None:
    """Converts what `save_paddle` wrote to `model.onnx` beside it, with the same input and output names."""
    import onnx
    import paddle2onnx

    target = saved.with_suffix(".onnx")
    # The optimiser of paddle2onnx 2 installs packages while it runs, and runtimes fold constants themselves.
    options = {"optimize_tool": None} if SAVES_PIR else {}
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
        raise ExportError(f"the ONNX graph takes {have}, but {list(input_names)} was exported.")
    onnx.save(model, str(target))


@contextlib.contextmanager
def quiet() -> Any:
    """Silences what native converters print on the standard streams."""
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


def parity(graph: Graph, run: Runner, batches: Sequence[Arrays]) -> float:
    """Largest absolute difference of the floating-point outputs between the model in eager mode and `run`."""
    worst = 0.0
    for inputs in batches:
        with paddle.no_grad():
            eager = graph.plain(*(paddle.to_tensor(inputs[each.name]) for each in graph.input_specs))
        eager = eager if isinstance(eager, list | tuple) else (eager,)
        for want, got in zip(eager, run(inputs), strict=True):
            # Ids of equally likely candidates may change places; their scores are compared instead.
            if paddle.is_floating_point(want):
                worst = max(worst, float(np.abs(want.numpy() - got).max()))
    return worst


def write_bundle(
    graph: Graph,
    manifest: Manifest,
    vocab_path: Path,
    batches: Sequence[Arrays],
    models: Path,
) -> Bundle:
    """Exports `graph` to `<models>/<name>/<version>/`, for Paddle Inference (not with Paddle 3) and ONNX Runtime.

    `manifest` comes without graphs, inputs and outputs; `batches` are real inputs for the parity check. The directory
    is written under a temporary name and renamed, so it is complete or absent. Raises ExportError when a graph
    differs from eager mode by more than 1e-4, and BundleError when that version is there already.
    """
    target = new_bundle_path(models, manifest.name, manifest.version)
    with atomic_folder(target) as aside:
        directory = aside / "graph"
        directory.mkdir()
        input_names, output_names = ([each.name for each in specs] for specs in (graph.input_specs, graph.output_specs))
        saved = save_paddle(graph, directory)
        save_onnx(saved, input_names, output_names)
        graph.eval()
        manifest.graphs = _checked_graphs(graph, saved, aside, batches)
        manifest.inputs, manifest.outputs = list(graph.input_specs), list(graph.output_specs)
        shutil.copyfile(vocab_path, aside / "vocab.txt")
        (aside / "bundle.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return open_bundle(target)


def export_checkpoint(
    directory: Path,
    models: Path,
    *,
    name: str | None = None,
    version: str = "1",
    top_candidates: int = 100,
    make_graph: Callable[[Checkpoint, nn.Layer, int, int], Graph] | None = None,
) -> Bundle:
    """Writes the bundle of a checkpoint folder; `name` is the folder's, of `reviews/model` reviews, unless given.

    Its graphs are checked on the checkpoint's own `sentences.txt`, or on a few built-in ones. `make_graph` is
    `graph_of` unless given.
    """
    checkpoint = read_checkpoint(directory)
    model = load_model(directory)
    vocab_path = directory / "vocab.txt"
    vocabulary = read_vocabulary(vocab_path)
    top = min(top_candidates, len(vocabulary))
    fill_mask = checkpoint.task == "fill-mask"
    sentences_path = directory / "sentences.txt"
    sentences = sentences_path.read_text(encoding="utf-8").splitlines() if sentences_path.is_file() else []
    ids = {token: index for index, token in enumerate(vocabulary)}
    rows = [character_ids(text, ids, checkpoint.max_length) for text in sentences or DEFAULT_SENTENCES]
    manifest = Manifest(
        name=name or name_of(directory.resolve()),
        version=version,
        task=checkpoint.task,
        architecture=checkpoint.config.to_dict(),
        max_length=checkpoint.max_length,
        labels=checkpoint.labels,
        tokenizer=TokenizerSettings(),
        graphs={},
        inputs=[],
        outputs=[],
        top_candidates=top if fill_mask else None,
        evaluation=checkpoint.evaluation,
        provenance=checkpoint.provenance,
    )
    return write_bundle(
        (make_graph or graph_of)(checkpoint, model, len(vocabulary), top),
        manifest,
        vocab_path,
        parity_batches(rows, checkpoint.task, mask_id=ids["[MASK]"], pad_id=ids["[PAD]"]),
        models,
    )


def name_of(directory: Path) -> str:
    """The name a checkpoint folder gives its bundle: its own, or of `reviews/model` reviews."""
    return directory.parent.name if directory.name == "model" and directory.parent.name else directory.name


def next_version(directory: Path) -> str:
    """The number after the highest version below `directory`, also after 1.5 and 2-beta; bundles stay as they are."""
    firsts = [path.name.replace("-", ".").partition(".")[0] for path in directory.glob("*")]
    return str(max((int(first) for first in firsts if first.isdecimal()), default=0) + 1)


def graph_of(checkpoint: Checkpoint, model: nn.Layer, num_tokens: int, top_candidates: int) -> Graph:
    """The graph of the checkpoint's task."""
    if checkpoint.task == "fill-mask":
        return FillMaskGraph(model, num_tokens, top_candidates)
    if checkpoint.task == "question-answering":
        return AnswerGraph(model)
    labels = len(checkpoint.labels)
    return LogitsGraph(model, labels) if checkpoint.task == "classify" else TokenLogitsGraph(model, labels)


def character_ids(text: str, ids: Mapping[str, int], max_length: int) -> list[int]:
    """[CLS], one id a character, [SEP]: the tokenizer's ids of Chinese text, and real enough for other text."""
    known = [ids.get(character, ids["[UNK]"]) for character in text.lower() if not character.isspace()]
    return [ids["[CLS]"], *known[: max_length - 2], ids["[SEP]"]]


def _checked_graphs(graph: Graph, saved: Path, bundle: Path, batches: Sequence[Arrays]) -> dict[str, GraphFile]:
    """The graphs as the manifest names them; raises ExportError for one that differs from eager mode."""
    params, onnx = saved.with_suffix(".pdiparams"), saved.with_suffix(".onnx")
    graphs = {"onnx": (onnx_runner(onnx, [each.name for each in graph.output_specs]), [onnx])}
    if SAVES_PIR:
        saved.unlink()
        params.unlink()
    else:
        graphs = {"paddle": (paddle_runner(saved, params), [saved, params]), **graphs}
    checked = {}
    for graph_format, (run, files) in graphs.items():
        error = parity(graph, run, batches)
        if not error <= MAX_PARITY_ERROR:
            raise ExportError(
                f"the {graph_format} graph differs from eager mode by {error:.2g}, more than {MAX_PARITY_ERROR:g}."
            )
        checked[graph_format] = _graph_file(bundle, files, error)
    return checked


def _graph_file(bundle: Path, files: Sequence[Path], error: float) -> GraphFile:
    names = [file.relative_to(bundle).as_posix() for file in files]
    return GraphFile(
        path=names[0],
        params_path=names[1] if names[1:] else None,
        sha256={name: sha256_of(bundle / name) for name in names},
        parity_max_abs_error=error,
    )


def parity_batches(rows: Sequence[Sequence[int]], task: str, *, mask_id: int, pad_id: int) -> list[Arrays]:
    """Real sentences as graph inputs: each alone, and all of them padded to one batch.

    For fill-mask the middle token of every row is masked and its own id, and the next one's, are the targets.
    """
    batches = []
    for chosen in [[row] for row in rows[:8]] + [list(rows)]:
        ids = np.full((len(chosen), max(map(len, chosen))), pad_id, dtype=np.int64)
        for index, row in enumerate(chosen):
            ids[index, : len(row)] = row
        inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
        if task == "fill-mask":
            columns = np.array([len(row) // 2 for row in chosen])
            every = np.arange(len(chosen))
            inputs["target_ids"] = np.stack([ids[every, columns], ids[every, columns - 1]], axis=1)
            ids[every, columns] = mask_id
            inputs["mask_positions"] = every * ids.shape[1] + columns
        batches.append(inputs)
    return batches
