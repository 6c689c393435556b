"""The manifests as kustomize renders them for the cluster."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="needs kubectl, which is not on PATH; install it to run this test"
)

Object = dict[str, Any]


def rendered(directory: Path, overlay: str, *components: str) -> list[Object]:
    """The objects that `kubectl kustomize` renders for an overlay with components, in a copy of the manifests."""
    for name in ("base", "overlays", "components"):
        shutil.copytree(K8S / name, directory / name, dirs_exist_ok=True)
    mine = directory / "mine"
    mine.mkdir(exist_ok=True)
    made = {"resources": [f"../overlays/{overlay}"], "components": [f"../components/{name}" for name in components]}
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    done = subprocess.run(["kubectl", "kustomize", str(mine)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def read(path: str) -> Object:
    """The object in a file of k8s/."""
    loaded: Object = yaml.safe_load((K8S / path).read_text(encoding="utf-8"))
    return loaded
