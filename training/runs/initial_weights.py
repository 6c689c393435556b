"""Where training begins: random weights, a published model by name, or weights on disk."""

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
    """The shape of what a run starts from: a folder's `config.json`, or a published model's.

    Raises ValueError that names the flag, and what may be done instead of giving a config.json.
    """
    if start in VARIANTS:
        return VARIANTS[start]
    path = Path(start)
    for name in ("config.json", "model_config.json"):
        if (path / name).is_file():
            return ErnieConfig.from_json(path / name)
    if path.is_file():
        raise ValueError(f"{flag} {start} is a file and does not tell its shape; give the folder with its config.json.")
    if path.is_dir():
        raise ValueError(f"{start} has no config.json; put it there{instead}.")
    raise ValueError(
        f"{flag} {start!r} is neither a folder nor a file on this disk, nor a published model; those are: "
        f"{', '.join(VARIANTS)}."
    )


def digest_of(state: Mapping[str, Any]) -> str:
    """Of weights by name, in no order."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return f"sha256 {digest.hexdigest()}"
