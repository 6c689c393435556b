"""The model bundle: a directory that any machine can serve without Paddle.

Layout: `bundle.json`, `vocab.txt`, and `graph/` with a Paddle graph, an ONNX graph, or both. A bundle is never changed.
It is written under a temporary name that begins with a dot and then renamed, so it is complete or absent. A directory
exported by PaddleNLP can be read as a bundle too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from model_build.bundle_files import (
    MAX_VOCABULARY_BYTES,
    FilesError,
    check_documents,
    check_files,
    check_name,
    check_size,
    check_values,
    readable,
)
from model_build.labels import LabelError, Scores, labels_of_folder, scores_of_folder
from model_build.tokenizer_config import TokenizerConfigError, TokenizerSettings, read_tokenizer_config

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
Task = Literal["classify", "fill-mask", "token-classification", "question-answering"]
TASKS: tuple[Task, ...] = get_args(Task)
T = TypeVar("T", bound=BaseModel)


class BundleError(ValueError):
    """A directory that is not a usable bundle; the message is one sentence that names the file and the error."""


class OtherTaskError(BundleError):
    """A valid bundle whose task is not one of the requested tasks."""


class NotUtf8Error(BundleError):
    """A directory whose name is not UTF-8."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"{name!r} has a character that cannot be printed")
    return name


def _plain(name: str) -> str:
    if name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} must be one name, without / and without a dot at its start")
    return _printable(name)


# A name becomes part of paths, addresses, logs and metrics.
Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain)]
Label = Annotated[str, Field(max_length=1024)]
FilePath = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_printable)]
Dimension = Annotated[int, Field(ge=-1, lt=1 << 31)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TensorSpec(_Strict):
    """Name, dtype and shape of one input or output of a graph; -1 marks a dynamic axis."""

    name: FilePath
    dtype: Annotated[str, Field(max_length=32)]
    shape: Annotated[list[Dimension], Field(max_length=8)]


class GraphFile(_Strict):
    """The files of one static graph, with paths relative to the bundle.

    `parity_max_abs_error` is the largest difference from the outputs of the model in eager mode.
    """

    path: FilePath
    params_path: FilePath | None = None
    sha256: Annotated[dict[FilePath, str], Field(max_length=64)] = {}
    parity_max_abs_error: float | None = None


class Manifest(_Strict):
    """The content of `bundle.json`. Bundles of earlier releases lack `vocab_sha256`."""

    schema_version: Annotated[int, Field(ge=1)] = SCHEMA_VERSION
    name: Name
    version: Name
    task: Task
    architecture: dict[str, Any] = {}
    max_length: Annotated[int, Field(ge=2, le=65536)]
    labels: Annotated[list[Label], Field(max_length=1_000_000)] = []
    scores: Scores = "softmax"
    """what the scores of a classifier are; no effect for other tasks"""
    tokenizer: TokenizerSettings = TokenizerSettings()
    vocab_sha256: Annotated[str, Field(max_length=64)] | None = None
    graphs: Annotated[dict[str, GraphFile], Field(max_length=16)]
    inputs: Annotated[list[TensorSpec], Field(max_length=16)]
    outputs: Annotated[list[TensorSpec], Field(max_length=16)]
    top_candidates: Annotated[int, Field(ge=1, le=100_000)] | None = None
    evaluation: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read: its directory and its manifest."""

    directory: Path
    manifest: Manifest

    @property
    def vocab_path(self) -> Path:
        return self.directory / "vocab.txt"

    def graph(self, graph_format: str) -> tuple[Path, Path | None]:
        """Model file and parameter file (None for ONNX) of the graph `paddle` or `onnx`.

        Raises BundleError if the bundle has no such graph.
        """
        graph = self.manifest.graphs.get(graph_format)
        if graph is None:
            has = " and ".join(sorted(self.manifest.graphs))
            raise BundleError(f"{self.directory}: the bundle has no {graph_format} graph, only {has}.")
        return self.directory / graph.path, self.directory / graph.params_path if graph.params_path else None


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark.

    Raises BundleError if it is not UTF-8, OSError if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a `vocab.txt` in the order of their ids.

    Line n, counted from 0, is `token` or `token<TAB>n`. The last line may lack its newline. Raises BundleError with the
    line number if a line is empty or has another id. `native.vocabulary.read_vocabulary` follows the same rules.
    """
    lines = _read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    tokens = []
    for number, line in enumerate(lines):
        token, tab, written_id = line.rstrip("\r").partition("\t")
        if not token or (tab and written_id != str(number)):
            raise BundleError(f"{path}: line {number + 1} must hold the token with id {number}, but is {line!r}.")
        tokens.append(token)
    return tokens


class _ExportConfig(BaseModel):
    """The fields of PaddleNLP's `config.json` that are used here; the other fields are kept unchanged."""

    model_config = ConfigDict(extra="allow")

    max_position_embeddings: int = 512


def _validated(document: type[T], path: Path) -> T:
    """Reads a JSON file as the class `document`; raises BundleError that names the first invalid field."""
    try:
        return document.model_validate_json(_read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BundleError(f"{path}: {where}: {first['msg']}.") from error


def _paddlenlp_export(directory: Path) -> Bundle:
    """A manifest for a folder that PaddleNLP's `to_static` exported: a classifier with two int64 inputs and logits.

    Labels and scores come from the files that `model_build.labels` names.
    """
    names = [name for name in ("config.json", "model_config.json") if (directory / name).is_file()]
    config = _validated(_ExportConfig, directory / names[0]) if names else _ExportConfig()
    named, config_name = config.model_dump(), names[0] if names else "config.json"
    try:
        labels = labels_of_folder(directory, named, config_name)
        scores = scores_of_folder(directory, named, config_name)
        tokenizer = read_tokenizer_config(directory)
    except (LabelError, TokenizerConfigError) as error:
        raise BundleError(str(error)) from error
    ids = [TensorSpec(name=name, dtype="int64", shape=[-1, -1]) for name in ("input_ids", "token_type_ids")]
    manifest = Manifest(
        name=directory.resolve().name,
        version="0",
        task="classify",
        architecture=config.model_dump(exclude_unset=True),
        max_length=min(config.max_position_embeddings, 512),
        labels=labels,
        scores=scores,
        tokenizer=tokenizer,
        graphs={"paddle": GraphFile(path="model.pdmodel", params_path="model.pdiparams")},
        inputs=ids,
        outputs=[TensorSpec(name="logits", dtype="float32", shape=[-1, len(labels) or -1])],
        provenance={"source": "PaddleNLP export"},
    )
    return Bundle(directory, manifest)


def new_bundle_path(models: Path, name: str, version: str) -> Path:
    """The path `<models>/<name>/<version>` of a new bundle.

    Raises BundleError if the name or the version is not a plain folder name, or if the path exists.
    """
    for flag, value in (("--name", name), ("--model-version", version)):
        if not value or value.startswith(".") or "/" in value:
            raise BundleError(f"{flag} {value!r} must be one name, without / and without a dot at its start.")
    target = models / name / version
    if target.exists():
        raise BundleError(f"{target} exists, and bundles are immutable; give another --model-version or remove it.")
    return target


def open_bundle(directory: Path) -> Bundle:
    """Reads a bundle or a directory exported by PaddleNLP.

    Raises BundleError if a file is missing, invalid or cannot be read. Hashes are not checked; see `verify_bundle`.
    """
    try:
        check_name(directory)
    except FilesError as error:
        raise NotUtf8Error(str(error)) from error
    try:
        check_documents(directory)
        bundle = _read_bundle(directory)
        check_size(bundle.vocab_path, MAX_VOCABULARY_BYTES)
        check_files(directory, ["vocab.txt", *_graph_files(bundle.manifest)])
        return bundle
    except FilesError as error:
        raise BundleError(str(error)) from error
    except ValidationError as error:  # the manifest of an export, which is made from the names of folders and labels
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{directory}: the {where} of this export: {first['msg']}.") from error
    except OSError as error:
        raise BundleError(f"{directory} cannot be read: {error.strerror or error}.") from error


def _read_bundle(directory: Path) -> Bundle:
    manifest_path = directory / "bundle.json"
    if not manifest_path.is_file():
        needed = ("model.pdmodel", "model.pdiparams", "vocab.txt")
        if all((directory / name).is_file() for name in needed):
            return _paddlenlp_export(directory)
        raise BundleError(
            f"{directory} is neither a bundle (it lacks bundle.json) nor a PaddleNLP export ({', '.join(needed)})."
        )
    manifest = _validated(Manifest, manifest_path)
    check_values(
        manifest_path,
        {
            "architecture": manifest.architecture,
            "evaluation": manifest.evaluation,
            "provenance": manifest.provenance,
        },
    )
    if manifest.schema_version > SCHEMA_VERSION:
        raise BundleError(
            f"{manifest_path} has schema version {manifest.schema_version}, but this release reads up to "
            f"{SCHEMA_VERSION}; install a newer release."
        )
    bundle = Bundle(directory, manifest)
    if manifest.vocab_sha256 and bundle.vocab_path.is_file() and sha256_of(bundle.vocab_path) != manifest.vocab_sha256:
        raise BundleError(f"{bundle.vocab_path} differs from its hash in bundle.json; copy the bundle again.")
    for path in [
        bundle.vocab_path,
        *(directory / name for graph in manifest.graphs.values() for name in graph.sha256),
    ]:
        if not path.is_file():
            raise BundleError(f"{path} is missing from the bundle; copy the bundle again.")
    return bundle


def _graph_files(manifest: Manifest) -> list[str]:
    """Paths of all files of the graphs, relative to the bundle."""
    names = []
    for graph in manifest.graphs.values():
        names += [graph.path, *([graph.params_path] if graph.params_path else []), *graph.sha256]
    return names


def _version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in version.replace("-", ".").split("."))


def read_repository(root: Path, tasks: Sequence[Task] = TASKS) -> tuple[list[Bundle], dict[str, BundleError]]:
    """The newest valid version of every name in a model repository `<name>/<version>/`.

    `root` may also be a single bundle. The second result maps each refused directory, relative to `root`, to its error:
    an invalid bundle, or one whose task is not in `tasks` (OtherTaskError). Raises BundleError if `root` is not a
    directory.
    """
    if not root.is_dir():
        raise BundleError(f"{root} is not a directory; give a model repository, a bundle, or a PaddleNLP export.")
    if (root / "bundle.json").is_file() or (root / "model.pdmodel").is_file():
        paths = [root]
    else:
        found = [path for pattern in ("*/*/bundle.json", "*/model.pdmodel") for path in sorted(root.glob(pattern))]
        # A name that begins with a dot belongs to a bundle that is still being written.
        paths = [
            path.parent for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
    newest: dict[str, Bundle] = {}
    refused: dict[str, BundleError] = {}
    for path in paths:
        try:
            bundle = open_bundle(path)
            if bundle.manifest.task not in tasks:
                raise OtherTaskError(f"{path}: the bundle is for {bundle.manifest.task}, not for {' or '.join(tasks)}.")
        except BundleError as error:
            refused[readable(path.relative_to(root))] = error
            continue
        known = newest.get(bundle.manifest.name)
        if not known or _version_key(bundle.manifest.version) > _version_key(known.manifest.version):
            newest[bundle.manifest.name] = bundle
    return list(newest.values()), refused


def find_bundles(root: Path, tasks: Sequence[Task] = TASKS) -> list[Bundle]:
    """The newest version of every name in a model repository, all of which must be valid.

    Bundles whose task is not in `tasks` are skipped with a warning. Raises BundleError for the first invalid bundle,
    and if no bundle is left.
    """
    bundles, refused = read_repository(root, tasks)
    for error in refused.values():
        if not isinstance(error, OtherTaskError | NotUtf8Error) or not bundles:
            raise error
        log.warning("skipped: %s", error)
    if not bundles:
        raise BundleError(f"{root} contains no model; expected <name>/<version>/bundle.json in it.")
    return bundles


def verify_bundle(bundle: Bundle) -> None:
    """Compares the SHA-256 of every file with the manifest; raises BundleError for the first that differs."""
    expected = {name: digest for graph in bundle.manifest.graphs.values() for name, digest in graph.sha256.items()}
    if bundle.manifest.vocab_sha256:
        expected["vocab.txt"] = bundle.manifest.vocab_sha256
    for name, digest in expected.items():
        if sha256_of(bundle.directory / name) != digest:
            raise BundleError(f"{bundle.directory / name} differs from its hash in bundle.json; copy the bundle again.")
