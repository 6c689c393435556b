"""pyproject.toml states the version, and every part that reports a version reports this one."""

import importlib.metadata
import re
from pathlib import Path
from types import ModuleType

import pytest

import native
from service import cli as serve
from service.api.app import create_app
from service.settings import Settings
from training.cli import ernie_build as build
from training.cli import ernie_train as train

ROOT = Path(__file__).resolve().parents[2]
VERSION = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)[0]


def test_the_installed_distribution_and_the_extension_have_this_version() -> None:
    assert importlib.metadata.version("ernie-zh") == VERSION, "run ./setup.sh again"
    assert native.version() == VERSION, "run ./setup.sh again"


def test_the_openapi_document_states_this_version() -> None:
    assert create_app(Settings()).openapi()["info"]["version"] == VERSION


@pytest.mark.parametrize(("name", "room"), [("ernie-train", train), ("ernie-build", build), ("ernie-serve", serve)])
def test_every_console_script_prints_this_version(
    name: str, room: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        room.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{name} {VERSION}\n"


def test_no_other_file_states_the_version() -> None:
    rooms = [ROOT / name for name in ("native", "model_build", "training", "service", "docker", "k8s")]
    files = [ROOT / "CMakeLists.txt", *(path for room in rooms for path in room.rglob("*") if path.is_file())]
    stated = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])".encode())
    assert [path for path in files if path.suffix not in {".so", ".pyc"} and stated.search(path.read_bytes())] == []
