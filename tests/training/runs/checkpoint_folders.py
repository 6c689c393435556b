"""Checkpoints for the tests: their content by step, and checks of folders on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.runs.checkpoints import Checkpoints

IDENTITY = {
    "settings": {"learning_rate": 0.001, "seed": 1, "betas": [0.9, 0.98]},
    "corpora": [{"tokens": 100, "sha256": "ab"}, {"tokens": 7, "sha256": "cd"}],
    "vocabulary": "ef",
}
FILES = ["config.json", "model_state.pdparams", *(f"optimizer/part-{number:02}" for number in range(6))]


def content(step: int, name: str) -> bytes:
    return f"{name} of step {step}\n".encode() * 40


def writing(step: int, told: Callable[[], object] = lambda: None) -> Callable[[Path], None]:
    """What `save` is given for a step; `told` is called after every file."""

    def write(folder: Path) -> None:
        (folder / "optimizer").mkdir()
        for name in FILES:
            (folder / name).write_bytes(content(step, name))
            told()

    return write


def state(step: int) -> dict[str, Any]:
    return {"samples": step * 8, "loss_scale": 32768.0}


def add(store: Checkpoints, *steps: int) -> None:
    for step in steps:
        store.save(step, state(step), writing(step))


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in directory.glob("step-*"))


def hidden_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob(".*") if path.name != ".lock")


def assert_whole(directory: Path) -> None:
    """All that bears a final name has every file of its step and no other."""
    for folder in directory.glob("step-*"):
        step = int(folder.name[5:])
        assert json.loads((folder / "training.json").read_text())["state"] == state(step)
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        assert sorted(found) == sorted([*FILES, "training.json"])
        for name in FILES:
            assert found[name].read_bytes() == content(step, name)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)
