"""Checks an installation without extras: `python -I without_extras.py MODELS`. `release.check` runs it.

The option `-I` (isolated mode) prevents imports from the checkout.
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
    """Reads the bundles in `models` and tokenises with their vocabularies; exits with one sentence if that fails."""
    for module in (native, model_build):
        if not Path(str(module.__file__)).is_relative_to(sys.prefix):
            sys.exit(f"{module.__name__} was imported from {module.__file__}, not from the wheel.")
    for name in ("paddle", "paddlenlp", "fastapi"):
        if importlib.util.find_spec(name):
            sys.exit(f"the wheel without extras installed {name}, which it must not need.")
    for bundle in find_bundles(models):
        ids = native.ErnieTokenizer.from_file(bundle.directory / "vocab.txt").encode("房间很干净。").ids
        if len(ids) != 8:  # six characters, [CLS] and [SEP]
            sys.exit(f"with {bundle.directory}, the tokenizer makes {len(ids)} tokens, not 8, from six characters.")
    said, installed = native.version(), importlib.metadata.version("ernie-zh")
    if said != installed:
        sys.exit(f"the extension has version {said}, but the wheel has {installed}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
