"""Static-graph export: writes a checkpoint as a model bundle and compares its graphs with the model in eager mode."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from model_build.atomic_write import atomic_folder
from model_build.bundle import (
    Bundle,
    GraphFile,
    Manifest,
    Scores,
    new_bundle_path,
    open_bundle,
    read_vocabulary,
    sha256_of,
)
from model_build.checkpoint import (
    Checkpoint,
    check_vocabulary,
    load_model,
    published_fields,
    read_checkpoint,
    write_vocabulary,
)
from model_build.config import ErnieConfig
from model_build.graphs import FillMaskGraph, Graph, LogitsGraph, QuestionAnsweringGraph, TokenLogitsGraph
from model_build.onnx_graph import ExportError, save_onnx
from model_build.runners import Arrays, Runner, onnx_runner, paddle_runner
from model_build.tokenizer_config import write_tokenizer_config

MAX_PARITY_ERROR = 1e-4
NEEDED = ("[CLS]", "[SEP]", "[UNK]")
"""Tokens that every vocabulary must have. A classifier needs neither [MASK] nor [PAD], whose id is `pad_token_id`."""
# Paddle 3 saves graphs as `.json` (PIR), which no runtime of the service reads, so the bundle gets only the ONNX graph.
SAVES_PIR = int(paddle.__version__.partition(".")[0]) >= 3
DEFAULT_SENTENCES = (
    "今天天气真好，我们去公园散步吧。",
    "这家酒店的房间很干净，服务也很周到，下次还会再来。",
    "质量太差了，用了两天就坏了，非常失望。",
    "北京是中华人民共和国的首都。",
)


def save_paddle(graph: Graph, directory: Path) -> Path:
    """Writes `model.pdmodel` (`model.json` with Paddle 3) and `model.pdiparams`; returns the path of the first."""
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
    """Removes the Python call stacks, with local paths, that Paddle stores in the operators of a `.pdmodel`."""
    program = paddle.base.core.ProgramDesc(path.read_bytes())
    for block in map(program.block, range(program.num_blocks())):
        for operator in map(block.op, range(block.op_size())):
            operator.remove_attr("op_callstack")
    path.write_bytes(program.serialize_to_string())


def parity(graph: Graph, run: Runner, batches: Sequence[Arrays]) -> float:
    """The largest absolute difference between the float outputs of the model in eager mode and those of `run`."""
    worst = 0.0
    for inputs in batches:
        with paddle.no_grad():
            eager = graph.plain(*(paddle.to_tensor(inputs[each.name]) for each in graph.input_specs))
        eager = eager if isinstance(eager, list | tuple) else (eager,)
        for want, got in zip(eager, run(inputs), strict=True):
            # Candidates with equal scores may be in another order, so ids are not compared, only scores.
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
    """Exports `graph` to the bundle `<models>/<name>/<version>`, as a Paddle graph (not with Paddle 3) and as ONNX.

    `manifest` has name and version; this function sets its graphs, inputs and outputs. `batches` are real inputs for
    the parity check. The bundle is written under a temporary name and renamed, so it is complete or absent. Raises
    ExportError if a graph differs from eager mode by more than 1e-4, BundleError if the version exists.
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
        write_vocabulary(aside, vocab_path)
        manifest.vocab_sha256 = sha256_of(aside / "vocab.txt")
        if "paddle" in manifest.graphs:
            _write_description(directory, manifest, vocab_path)
        (aside / "bundle.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return open_bundle(target)


def _write_description(directory: Path, manifest: Manifest, vocab_path: Path) -> None:
    """Writes the files with which PaddleNLP's Taskflow and AutoTokenizer read the folder of the Paddle graph."""
    config = ErnieConfig.from_dict(manifest.architecture)
    about = Checkpoint(config, manifest.task, manifest.max_length, manifest.labels, scores=manifest.scores)
    text = json.dumps(published_fields(about), indent=2, ensure_ascii=False) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    write_vocabulary(directory, vocab_path)
    write_tokenizer_config(directory, manifest.tokenizer)


def export_checkpoint(
    directory: Path,
    models: Path,
    *,
    name: str | None = None,
    version: str = "1",
    top_candidates: int = 100,
    scores: Scores | None = None,
    make_graph: Callable[[Checkpoint, nn.Layer, int, int], Graph] | None = None,
) -> Bundle:
    """Writes the bundle `<models>/<name>/<version>` of a checkpoint folder; `name` defaults to `name_of` the folder.

    The graphs are checked on the sentences in the checkpoint's `sentences.txt`, or on a few built-in sentences.
    `top_candidates` applies to fill-mask only; `scores` replaces those of the checkpoint, which must be a classifier of
    texts; `make_graph` replaces `graph_of`. Raises CheckpointError, ConfigError or WeightsError for a checkpoint that
    cannot be read, ExportError for `scores` that do not fit, and the errors of `write_bundle`.
    """
    checkpoint = read_checkpoint(directory)
    if scores:
        _check_scores(checkpoint, scores, directory)
    vocab_path = directory / "vocab.txt"
    check_vocabulary(vocab_path, checkpoint.config, str(directory))
    model = load_model(directory)
    vocabulary = read_vocabulary(vocab_path)
    top = min(top_candidates, len(vocabulary))
    fill_mask = checkpoint.task == "fill-mask"
    sentences_path = directory / "sentences.txt"
    sentences = sentences_path.read_text(encoding="utf-8").splitlines() if sentences_path.is_file() else []
    ids = _ids(vocabulary, vocab_path, [*NEEDED, "[MASK]"] if fill_mask else NEEDED)
    rows = [character_ids(text, ids, checkpoint.max_length) for text in sentences or DEFAULT_SENTENCES]
    manifest = Manifest(
        name=name or name_of(directory.resolve()),
        version=version,
        task=checkpoint.task,
        architecture=checkpoint.config.to_dict(),
        max_length=checkpoint.max_length,
        labels=checkpoint.labels,
        scores=scores or checkpoint.scores,
        tokenizer=checkpoint.tokenizer,
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
        parity_batches(rows, checkpoint.task, mask_id=ids.get("[MASK]", 0), pad_id=checkpoint.config.pad_token_id),
        models,
    )


def _check_scores(checkpoint: Checkpoint, scores: Scores, directory: Path) -> None:
    """Raises ExportError if a model cannot have such scores."""
    if checkpoint.task != "classify":
        raise ExportError(
            f"--scores is for classifiers of texts, but {directory} is for {checkpoint.task}; leave it out."
        )
    if scores == "softmax" and len(checkpoint.labels) == 1:
        raise ExportError(
            f"--scores softmax needs at least two labels, but {directory} has one; give --scores raw or sigmoid."
        )


def _ids(vocabulary: Sequence[str], path: Path, needed: Sequence[str]) -> dict[str, int]:
    """The id of each token; raises ExportError if a token that the model needs is missing."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    if missing := [token for token in needed if token not in ids]:
        raise ExportError(
            f"{path} lacks {' and '.join(missing)}, which the model needs; copy the vocabulary of its training."
        )
    return ids


def name_of(directory: Path) -> str:
    """The name of a checkpoint folder, or of its parent folder if it is called `model`: `reviews/model` -> reviews."""
    return directory.parent.name if directory.name == "model" and directory.parent.name else directory.name


def next_version(directory: Path) -> str:
    """The next whole number after the versions in the folder `directory`.

    3 after 1.5 and 2-beta, 1 if there is none.
    """
    firsts = [path.name.replace("-", ".").partition(".")[0] for path in directory.glob("*")]
    return str(max((int(first) for first in firsts if first.isdecimal()), default=0) + 1)


def graph_of(checkpoint: Checkpoint, model: nn.Layer, num_tokens: int, top_candidates: int) -> Graph:
    """The graph to export for the task of the checkpoint."""
    if checkpoint.task == "fill-mask":
        return FillMaskGraph(model, num_tokens, top_candidates)
    if checkpoint.task == "question-answering":
        return QuestionAnsweringGraph(model)
    labels = len(checkpoint.labels)
    return LogitsGraph(model, labels) if checkpoint.task == "classify" else TokenLogitsGraph(model, labels)


def character_ids(text: str, ids: Mapping[str, int], max_length: int) -> list[int]:
    """[CLS], one id for each character, [SEP].

    For Chinese text these are the ids of the tokenizer. For other text they differ, which is good enough for the check.
    """
    known = [ids.get(character, ids["[UNK]"]) for character in text.lower() if not character.isspace()]
    return [ids["[CLS]"], *known[: max_length - 2], ids["[SEP]"]]


def _checked_graphs(graph: Graph, saved: Path, bundle: Path, batches: Sequence[Arrays]) -> dict[str, GraphFile]:
    """The entries `graphs` of the manifest; raises ExportError if a graph differs too much from eager mode."""
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
                f"the {graph_format} graph differs from eager mode by {error:.2g}, more than {MAX_PARITY_ERROR:g}; no "
                "bundle was written."
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
    """Graph inputs for the parity check: up to eight sentences, each alone, and all sentences padded to one batch.

    For fill-mask, the middle token of every row is masked; the targets are this token and the token before it.
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
