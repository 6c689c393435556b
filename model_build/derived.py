"""Bundles made of other bundles: written aside, judged beside their original, and refused where they are worse."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_build.atomic_write import atomic_folder, rename_folder, sync_tree
from model_build.bundle import Bundle, GraphFile, new_bundle_path, open_bundle, sha256_of

Figures = Mapping[str, Mapping[str, Any]]
"""By part of the evaluation set, such as "test", figures by name, such as "accuracy"."""


class WorseThanOriginal(RuntimeError):
    """A bundle that loses more than was allowed; the message is one sentence with both figures."""


def write_derived(
    original: Bundle, target: Path, write: Callable[[Path], dict[str, GraphFile]], provenance: Mapping[str, Any]
) -> Bundle:
    """A bundle with the manifest and vocabulary of `original` and other graphs.

    `write` puts the files into the folder that it is given, the bundle's `graph/`, and names them. What was evaluated
    was the original, so no figures are taken over. The folder is `<name>/<version>` of the new bundle.
    Raises BundleError where `target` exists.
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
        (aside / "bundle.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return open_bundle(target)


def described(bundle: Bundle) -> dict[str, Any]:
    """Which bundle it is, by name, version and the hashes of its graphs."""
    graphs = {path: digest for graph in bundle.manifest.graphs.values() for path, digest in graph.sha256.items()}
    return {"name": bundle.manifest.name, "version": bundle.manifest.version, "sha256": graphs}


def check_drop(before: Figures, after: Figures, metrics: Mapping[str, str], max_drop: float) -> None:
    """Raises WorseThanOriginal where a bundle lost more than `max_drop` points in any part.

    `metrics` name the figure that decides in each part, a share of which more is better; a point is a hundredth.
    """
    for part, metric in metrics.items():
        drop = 100 * (before[part][metric] - after[part][metric])
        if not drop <= max_drop:
            raise WorseThanOriginal(
                f"{metric} on {part} falls by {drop:.2f} points, from {100 * before[part][metric]:.2f} % to "
                f"{100 * after[part][metric]:.2f} %, more than --max-drop {max_drop:g}; nothing was written."
            )


def side_by_side(before: Figures, after: Figures) -> dict[str, Any]:
    """The `evaluation` of a bundle that was made of another: its own figures by part, and the original's."""
    return {**after, "original": {part: dict(found) for part, found in before.items()}}


def publish(made: Bundle, target: Path, evaluation: Mapping[str, Any], provenance: Mapping[str, Any]) -> Bundle:
    """Moves a bundle that was written aside to `target`, with figures, and with more of its provenance.

    Raises BundleError where `target` exists.
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
