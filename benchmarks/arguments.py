"""The flags that several commands share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

MODELS = Path("models")


def parser_of(
    docstring: str | None, *, models: bool = False, rounds: int = 0, seconds: float = 0.0, seed: bool = False
) -> argparse.ArgumentParser:
    """A parser with name and description from the docstring of the command, and the requested flags."""
    usage = re.search(r"python -m benchmarks[\w.]+", docstring or "")
    made = argparse.ArgumentParser(prog=usage and usage.group(), description=(docstring or "").splitlines()[0])
    if models:
        made.add_argument("--models", type=Path, default=MODELS, help="model repository (default: models)")
    if rounds:
        made.add_argument("--rounds", type=int, default=rounds, help=f"rounds (default: {rounds})")
    if seconds:
        made.add_argument("--seconds", type=float, default=seconds, help=f"of a measurement (default: {seconds:g})")
    if seed:
        made.add_argument("--seed", type=int, default=1, help="the same seed, the same requests (default: 1)")
    return made
