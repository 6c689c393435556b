"""Child processes run the modules of the service, whatever the folder holds in which it is started."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.parent.child import child_command
from tests.service.conftest import ROOT, started

SHADOWS = ["service/__init__.py", "native/__init__.py", "uvloop.py", "logging.py", "msgspec.py"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose modules fail when they are imported."""
    for name in SHADOWS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('raise SystemExit("a module of the current folder was imported")\n', encoding="utf-8")
    return tmp_path


def test_the_service_answers_when_it_is_started_in_a_folder_with_modules_of_the_same_names(
    folder: Path, tiny_models: Path
) -> None:
    script = Path(sys.executable).with_name("ernie-serve")
    with started([str(script), "--models", str(tiny_models), "--port", "0"], cwd=folder) as running:
        running.wait_ready()
        assert httpx.post(f"{running.url}/classify", json={"text": "好"}).status_code == 200


def test_a_child_has_the_import_path_of_its_parent_without_the_current_folder(folder: Path) -> None:
    (folder / "probe.py").write_text("def main() -> int: return 0\n", encoding="utf-8")
    code = (
        f"import subprocess, sys; sys.path.insert(0, {str(ROOT)!r}); from service.parent.child import child_command; "
        "sys.exit(subprocess.run(child_command('probe')).returncode)"
    )
    ended = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True)
    assert "No module named 'probe'" in ended.stderr


RENAMED = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "service.api.connection":
            from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
            if hasattr(HttpToolsProtocol, "_start_asgi_task"):
                del HttpToolsProtocol._start_asgi_task

sys.meta_path.insert(0, Finder())
"""


def test_an_unknown_uvicorn_ends_the_service_at_once_with_the_name_of_what_it_lacks(
    tmp_path: Path, tiny_models: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RENAMED, encoding="utf-8")
    command = [sys.executable, "-m", "service.cli", "--models", str(tiny_models), "--port", "0"]
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "does not fit: HttpToolsProtocol has no _start_asgi_task" in ended.stderr
    assert "starting another API process" not in ended.stderr


def test_the_name_of_the_module_is_visible_in_the_list_of_processes() -> None:
    assert any("service.api.worker" in word for word in child_command("service.api.worker"))
