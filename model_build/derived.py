"""Bundles derived from other bundles, for example by quantisation, and the check that they are not much worse."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_build.atomic_write import atomic_folder, rename_folder, sync_tree
from model_build.bundle import Bundle, GraphFile, new_bundle_path, open_bundle, sha256_of

Figures = Mapping[str, Mapping[str, Any]]
"""Evaluation figures, such as "accuracy", by part of the data set, such as "test"."""


class WorseThanOriginal(RuntimeError):
    """A derived bundle whose figures fall by more than allowed; the message is one sentence with both figures."""


def write_derived(
    original: Bundle, target: Path, write: Callable[[Path], dict[str, GraphFile]], provenance: Mapping[str, Any]
) -> Bundle:
    """Writes a bundle with the manifest and the vocabulary of `original` and other graphs.

    `target` is the path `<models>/<name>/<version>` of the new bundle. `write` gets its folder `graph/`, writes the
    files of the graphs into it and returns their entries for the manifest. The evaluation figures of the original are
    not copied. Raises BundleError if `target` exists.
    """
    target = new_bundle_path(target.parent.parent, target.parent.name, target.name)
    with atomic_folder(target) as aside:
        (aside / "graph").mkdir()
        graphs = write(aside / "graph")
        for graph in graphs.values():
            names = [name for name in (graph.path, graph.params_path) if name]
            graph.sha256 = {name: sha256_of(aside / name) for name in names}
        manifest = original.manifest.model_copy(
            update={
                "name": target.parent.name,
                "version": target.name,
                "graphs": graphs,
                "evaluation": {},
                "provenance": {**original.manifest.provenance, "made_from": described(original), **provenance},
            }
        )
        shutil.copyfile(original.vocab_path, aside / "vocab.txt")
        manifest.vocab_sha256 = sha256_of(aside / "vocab.txt")
        (aside / "bundle.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return open_bundle(target)


def described(bundle: Bundle) -> dict[str, Any]:
    """Identifies a bundle by name, version and the hashes of its graphs."""
    graphs = {path: digest for graph in bundle.manifest.graphs.values() for path, digest in graph.sha256.items()}
    return {"name": bundle.manifest.name, "version": bundle.manifest.version, "sha256": graphs}


def check_drop(before: Figures, after: Figures, metrics: Mapping[str, str], max_drop: float) -> None:
    """Raises WorseThanOriginal if a figure falls by more than `max_drop` points in any part of the data set.

    `metrics` gives the figure to compare in each part. It must be a share between 0 and 1, of which more is better; a
    point is 0.01.
    """
    for part, metric in metrics.items():
        drop = 100 * (before[part][metric] - after[part][metric])
        if not drop <= max_drop:
            raise WorseThanOriginal(
                f"{metric} on {part} falls by {drop:.2f} points, from {100 * before[part][metric]:.2f} % to "
                f"{100 * after[part][metric]:.2f} %, more than --max-drop {max_drop:g}; nothing was written."
            )


def side_by_side(before: Figures, after: Figures) -> dict[str, Any]:
    """The field `evaluation` of a derived bundle: its own figures by part, and those of the original bundle."""
    return {**after, "original": {part: dict(found) for part, found in before.items()}}


def publish(made: Bundle, target: Path, evaluation: Mapping[str, Any], provenance: Mapping[str, Any]) -> Bundle:
    """Moves a finished bundle to `target` and adds evaluation figures and provenance to its manifest.

    Raises BundleError if `target` exists.
    """
    target = new_bundle_path(target.parent.parent, target.parent.name, target.name)
    manifest = made.manifest.model_copy(
        update={
            "name": target.parent.name,
            "version": target.name,
            "evaluation": dict(evaluation),
            "provenance": {**made.manifest.provenance, **provenance},
        }
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    (made.directory / "bundle.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sync_tree(made.directory)
    rename_folder(made.directory, target)
    return open_bundle(target)
