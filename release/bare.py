"""Run by `release.check` in an environment that holds the wheel without extras: `python -I bare.py MODELS`.

Isolated (`-I`), so that nothing of the checkout is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import model_build
import native
from model_build.bundle import find_bundles


def main(models: Path) -> None:
    """Reads the bundles in `models` and tokenises with their vocabularies; ends with one sentence where it cannot."""
    for module in (native, model_build):
        if not Path(str(module.__file__)).is_relative_to(sys.prefix):
            sys.exit(f"{module.__name__} was imported from {module.__file__} and not from the wheel.")
    for name in ("paddle", "paddlenlp", "fastapi"):
        if importlib.util.find_spec(name):
            sys.exit(f"the wheel without extras brought {name}.")
    for bundle in find_bundles(models):
        ids = native.ErnieTokenizer.from_file(bundle.directory / "vocab.txt").encode("房间很干净。").ids
        if len(ids) != 8:  # six characters, [CLS] and [SEP]
            sys.exit(f"the tokenizer makes {len(ids)} tokens of six characters with {bundle.directory}.")
    said, installed = native.version(), importlib.metadata.version("ernie-zh")
    if said != installed:
        sys.exit(f"the extension says version {said}, and the wheel {installed}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
