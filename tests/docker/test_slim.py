"""Removing unused files from the libraries of the image; FastDeploy still works afterwards."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.docker.dockerfiles import DOCKER, ROOT

RUN_MODELS = """
import json, sys
from pathlib import Path
import fastdeploy
from model_build.bundle import find_bundles
from service.engine.tensors import Tensors
from service.runtime.base import RuntimeOptions
from service.runtime.fastdeploy import FastDeployRuntime

made = {"fastdeploy": fastdeploy.__file__}
for bundle in find_bundles(Path(sys.argv[1])):
    for backend in ("ort", "paddle") if "paddle" in bundle.manifest.graphs else ("ort",):
        runtime = FastDeployRuntime(bundle, RuntimeOptions(backend=backend, cpu_threads=1))
        tensors = Tensors(bundle)
        arrays = runtime.run(tensors.inputs(tensors.example(2, 16)))
        made[f"{bundle.manifest.name} {backend}"] = [array.tolist() for array in arrays.values()]
print(json.dumps(made))
"""


def slim(site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(DOCKER / "slim.py"), str(site)], capture_output=True, text=True)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_copies_of_a_library_become_links_to_the_longest_name(tmp_path: Path) -> None:
    for name in ("libx.so", "libx.so.1", "libx.so.1.2"):
        write(tmp_path / "package" / name, "one library")
    other = write(tmp_path / "package" / "liby.so", "another library")
    elsewhere = write(tmp_path / "other" / "libx.so", "one library")
    assert slim(tmp_path).returncode == 0
    for name in ("libx.so", "libx.so.1"):
        assert os.readlink(tmp_path / "package" / name) == "libx.so.1.2"
    # The loader searches in the folder of the library that needs it, so a copy in another folder must stay.
    assert not any(path.is_symlink() for path in (tmp_path / "package" / "libx.so.1.2", other, elsewhere))
    assert (tmp_path / "package" / "libx.so").read_text(encoding="utf-8") == "one library"
    assert slim(tmp_path).stdout.endswith("copies of libraries: 0 MB\n")  # a second run changes nothing


def test_only_the_listed_files_are_removed(tmp_path: Path) -> None:
    gone = [
        "fastdeploy/libs/third_libs/x/lib/libx.a",
        "fastdeploy/libs/third_libs/openvino/runtime/lib/libopenvino_intel_cpu_plugin.so",
        "numpy/core/tests/test_numeric.py",
        "cv2/data/haarcascade_eye.xml",
    ]
    kept = [
        "fastdeploy/libs/third_libs/openvino/runtime/lib/libopenvino.so.2300",
        "openvino/libs/libopenvino_intel_cpu_plugin.so",
        "numpy/testing/__init__.py",
        "cv2/data/__init__.py",
        "other/tests/test_other.py",
    ]
    for name in gone + kept:
        write(tmp_path / name, name)
    assert slim(tmp_path).returncode == 0
    assert not any((tmp_path / name).exists() for name in gone)
    assert all((tmp_path / name).exists() for name in kept)


def test_the_error_names_a_missing_folder(tmp_path: Path) -> None:
    done = slim(tmp_path / "missing")
    assert (done.returncode, done.stderr) == (
        1,
        f"slim: {tmp_path / 'missing'} is not a folder; name the site-packages of the image.\n",
    )


@pytest.fixture(scope="module")
def slimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FastDeploy, OpenCV and NumPy as in the image: hard links to the installed files, without the removed ones."""
    site = tmp_path_factory.mktemp("slimmed")
    for name in ("fastdeploy", "cv2", "numpy"):
        spec = importlib.util.find_spec(name)
        assert spec
        package = Path(str(spec.origin)).parent
        copy = os.link if package.stat().st_dev == site.stat().st_dev else shutil.copy2
        for folder in [package, *package.parent.glob(f"{name}*.libs"), *package.parent.glob("opencv*.libs")]:
            if not (site / folder.name).exists():
                shutil.copytree(folder, site / folder.name, copy_function=copy)
    assert slim(site).returncode == 0
    return site


def outputs(search_path: str) -> dict[str, Any]:
    """The path of FastDeploy, and the outputs of both backends for the embedded models, from a separate process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_MODELS, str(ROOT / "models")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [search_path, str(ROOT)]))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def test_fastdeploy_computes_the_same_without_the_removed_files(slimmed: Path) -> None:
    whole, slim = outputs(""), outputs(str(slimmed))
    assert Path(slim.pop("fastdeploy")).is_relative_to(slimmed)
    assert not Path(whole.pop("fastdeploy")).is_relative_to(slimmed)
    assert set(whole) == {"sentiment ort", "masked-lm ort", "masked-lm paddle"}
    for run, arrays in whole.items():
        for expected, made in zip(arrays, slim[run], strict=True):
            np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-6, err_msg=run)
