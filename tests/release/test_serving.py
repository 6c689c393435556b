"""Requests to a started service: a real one, and two that fail."""

import importlib.metadata
import os
import socket
import sys
from pathlib import Path

import pytest

from release import serving
from release.serving import ServingError, ask_service

MODELS = Path(__file__).resolve().parents[2] / "models"


def ask(program: Path, folder: Path) -> set[str]:
    return ask_service(program, MODELS, "auto", folder, os.environ)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_service_on_the_embedded_models_answers_and_states_its_version(tmp_path: Path) -> None:
    assert ask(Path(sys.executable).with_name("ernie-serve"), tmp_path) == {importlib.metadata.version("ernie-zh")}


def test_the_error_of_a_service_that_exits_at_once_has_the_end_of_its_log(tmp_path: Path) -> None:
    program = script(tmp_path / "serve", "echo there is no such model >&2; exit 3")
    with pytest.raises(ServingError, match=r"(?s)ended with status 3.*there is no such model"):
        ask(program, tmp_path)


def test_a_service_that_listens_and_never_answers_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        text = f"echo 'listening on http://127.0.0.1:{port}, documentation'; sleep 1; exit 4"
        with pytest.raises(ServingError, match="ended with status 4"):
            ask(script(tmp_path / "serve", text), tmp_path)
