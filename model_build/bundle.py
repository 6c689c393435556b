"""The model bundle: a directory that any machine can serve without Paddle.

Layout: `bundle.json`, `vocab.txt`, `graph/` with a Paddle graph, an ONNX graph, or both. A bundle is immutable; it is
written under a temporary name and renamed. A directory exported by PaddleNLP is read as a bundle too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
Task = Literal["classify", "fill-mask", "token-classification", "question-answering"]
TASKS: tuple[Task, ...] = get_args(Task)
T = TypeVar("T", bound=BaseModel)


class BundleError(ValueError):
    """A directory that cannot be served; the message is one sentence that says what and where."""


class OtherTaskError(BundleError):
    """A bundle that is good, but for none of the tasks that were asked for."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TensorSpec(_Strict):
    """Name, dtype and shape of a graph's input or output; -1 is a dynamic axis."""

    name: str
    dtype: str
    shape: list[int]


class TokenizerSettings(_Strict):
    """How text becomes pieces; the vocabulary is `vocab.txt` beside the manifest."""

    do_lower_case: bool = True


class GraphFile(_Strict):
    """One static graph of the bundle. Paths are relative to the bundle."""

    path: str
    params_path: str | None = None
    sha256: dict[str, str] = {}
    parity_max_abs_error: float | None = None


class Manifest(_Strict):
    """The content of `bundle.json`."""

    schema_version: int = SCHEMA_VERSION
    name: str
    version: str
    task: Task
    architecture: dict[str, Any] = {}
    max_length: int
    labels: list[str] = []
    tokenizer: TokenizerSettings = TokenizerSettings()
    graphs: dict[str, GraphFile]
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    top_candidates: int | None = None
    evaluation: dict[str, Any] = {}
    provenance: dict[str, Any] = {}


@dataclass(frozen=True)
class Bundle:
    """A manifest and the directory it describes."""

    directory: Path
    manifest: Manifest

    @property
    def vocab_path(self) -> Path:
        return self.directory / "vocab.txt"

    def graph(self, graph_format: str) -> tuple[Path, Path | None]:
        """Model file and parameter file of the `paddle` or `onnx` graph; raises BundleError when there is none."""
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
    """A file in UTF-8; raises BundleError where it is not, and OSError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: not UTF-8 at byte {error.start}.") from error


def read_vocabulary(path: Path) -> list[str]:
    """Tokens in id order. Lines are `token` (its id is the line's number from 0) or `token<TAB>id` with the same id.

    A missing final newline is tolerated; raises BundleError naming the line for an empty line or another id.
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
    """What is needed of the configuration beside PaddleNLP's export; the rest of it is kept as it is."""

    model_config = ConfigDict(extra="allow")

    id2label: dict[int, str] = {}
    max_position_embeddings: int = 512


def _validated(document: type[T], path: Path) -> T:
    """A JSON file as `document`; raises BundleError naming the first field that is wrong."""
    try:
        return document.model_validate_json(_read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise BundleError(f"{path}: {where}: {first['msg']}.") from error


def _paddlenlp_export(directory: Path) -> Bundle:
    """Describes PaddleNLP's own `to_static` export: two int64 inputs, logits out, labels where a file gives them."""
    config = _ExportConfig()
    for name in ("config.json", "model_config.json"):
        if (directory / name).is_file():
            config = _validated(_ExportConfig, directory / name)
            break
    labels = [config.id2label[index] for index in sorted(config.id2label)]
    for name in ("labels.txt", "label_list.txt"):
        if (directory / name).is_file():
            labels = [line for line in _read_text(directory / name).splitlines() if line]
    ids = [TensorSpec(name=name, dtype="int64", shape=[-1, -1]) for name in ("input_ids", "token_type_ids")]
    manifest = Manifest(
        name=directory.resolve().name,
        version="0",
        task="classify",
        architecture=config.model_dump(exclude_unset=True),
        max_length=min(config.max_position_embeddings, 512),
        labels=labels,
        graphs={"paddle": GraphFile(path="model.pdmodel", params_path="model.pdiparams")},
        inputs=ids,
        outputs=[TensorSpec(name="logits", dtype="float32", shape=[-1, len(labels) or -1])],
        provenance={"source": "PaddleNLP export"},
    )
    return Bundle(directory, manifest)


def new_bundle_path(models: Path, name: str, version: str) -> Path:
    """`<models>/<name>/<version>`, where a bundle is to be written.

    Raises BundleError for a name or version that is no plain name of a folder, and where the folder exists.
    """
    for flag, value in (("--name", name), ("--model-version", version)):
        if not value or value.startswith(".") or "/" in value:
            raise BundleError(f"{flag} {value!r} must be one name, without / and not beginning with a dot.")
    target = models / name / version
    if target.exists():
        raise BundleError(f"{target} exists; bundles are immutable, so give another --model-version or remove it.")
    return target


def open_bundle(directory: Path) -> Bundle:
    """Reads a bundle, or a directory exported by PaddleNLP; raises BundleError in one sentence."""
    try:
        return _read_bundle(directory)
    except OSError as error:
        raise BundleError(f"{directory} cannot be read: {error.strerror or error}.") from error


def _read_bundle(directory: Path) -> Bundle:
    manifest_path = directory / "bundle.json"
    if not manifest_path.is_file():
        needed = ("model.pdmodel", "model.pdiparams", "vocab.txt")
        if all((directory / name).is_file() for name in needed):
            return _paddlenlp_export(directory)
        raise BundleError(
            f"{directory}: neither a bundle (no bundle.json) nor a PaddleNLP export ({', '.join(needed)})."
        )
    manifest = _validated(Manifest, manifest_path)
    if manifest.schema_version > SCHEMA_VERSION:
        raise BundleError(f"{manifest_path}: schema version {manifest.schema_version} is newer than {SCHEMA_VERSION}.")
    bundle = Bundle(directory, manifest)
    for path in [
        bundle.vocab_path,
        *(directory / name for graph in manifest.graphs.values() for name in graph.sha256),
    ]:
        if not path.is_file():
            raise BundleError(f"{path} is missing from the bundle.")
    return bundle


def _version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in version.replace("-", ".").split("."))


def read_repository(root: Path, tasks: Sequence[Task] = TASKS) -> tuple[list[Bundle], dict[str, BundleError]]:
    """The newest good version of every name in a repository `<name>/<version>/`, or the one bundle that `root` is.

    A bundle for none of `tasks` is no good. The second result names what is no good: the directory, relative to `root`,
    and the error whose sentence says why.
    Raises BundleError where `root` is no directory.
    """
    if not root.is_dir():
        raise BundleError(f"{root} is not a directory; give a model repository, a bundle, or a PaddleNLP export.")
    if (root / "bundle.json").is_file() or (root / "model.pdmodel").is_file():
        paths = [root]
    else:
        found = [path for pattern in ("*/*/bundle.json", "*/model.pdmodel") for path in sorted(root.glob(pattern))]
        # What begins with a dot is not whole yet: bundles are written aside under such names.
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
            refused[str(path.relative_to(root))] = error
            continue
        known = newest.get(bundle.manifest.name)
        if not known or _version_key(bundle.manifest.version) > _version_key(known.manifest.version):
            newest[bundle.manifest.name] = bundle
    return list(newest.values()), refused


def find_bundles(root: Path, tasks: Sequence[Task] = TASKS) -> list[Bundle]:
    """`read_repository` for those who want all of it to be good and not to be empty; raises BundleError.

    Bundles for none of `tasks` are passed over, with a warning, unless there is no other.
    """
    bundles, refused = read_repository(root, tasks)
    for error in refused.values():
        if not isinstance(error, OtherTaskError) or not bundles:
            raise error
        log.warning("passed over: %s", error)
    if not bundles:
        raise BundleError(f"{root}: no model found; expected <name>/<version>/bundle.json below it.")
    return bundles


def verify_bundle(bundle: Bundle) -> None:
    """Hashes every graph file again; raises BundleError naming the first that differs."""
    for graph in bundle.manifest.graphs.values():
        for name, expected in graph.sha256.items():
            if sha256_of(bundle.directory / name) != expected:
                raise BundleError(
                    f"{bundle.directory / name} differs from the hash in bundle.json; copy the bundle again."
                )
