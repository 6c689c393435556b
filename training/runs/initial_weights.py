"""Initial weights: the shape of a published model or of a folder, and digests of weights."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_build.config import VARIANTS, ErnieConfig

log = logging.getLogger(__name__)


def config_of(start: str, flag: str = "--start", instead: str = "") -> ErnieConfig:
    """The shape of a published model, or of a folder with `config.json`.

    Raises ValueError, which names the flag; `instead` is an alternative to giving a config.json.
    """
    if start in VARIANTS:
        return VARIANTS[start]
    path = Path(start)
    for name in ("config.json", "model_config.json"):
        if (path / name).is_file():
            return ErnieConfig.from_json(path / name)
    if path.is_file():
        raise ValueError(
            f"{flag} {start} is a file, which does not contain the shape; give the folder with its config.json."
        )
    if path.is_dir():
        raise ValueError(f"{start} has no config.json; put it there{instead}.")
    raise ValueError(
        f"{flag} {start!r} is neither a folder, nor a file, nor a published model; published are: "
        f"{', '.join(VARIANTS)}."
    )


def digest_of(state: Mapping[str, Any]) -> str:
    """SHA-256 of weights by name, independent of their order."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return f"sha256 {digest.hexdigest()}"
