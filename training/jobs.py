"""What commands that train have in common around their loops."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from training.blend import parse_blend
from training.corpus.verify import open_with_vocabulary
from training.overlap import overlapping_corpora, read_texts

log = logging.getLogger(__name__)


def overlap_of(corpora: Sequence[str], vocab: Path, evaluation: Sequence[Path]) -> dict[str, dict[str, int]]:
    """How many texts of each evaluation file stand in the corpora, with a warning where there are any."""
    opened = [open_with_vocabulary(Path(prefix), vocab) for _, prefix in parse_blend(corpora)]
    counts: dict[str, dict[str, int]] = {}
    for path in evaluation:
        texts = read_texts(path)
        found = len(overlapping_corpora(opened, vocab, texts))
        counts[f"{path.absolute().parent.name}/{path.name}"] = {"texts": len(texts), "in_corpora": found}
        if found:
            log.warning("%d of the %d texts of %s stand in the corpora", found, len(texts), path)
    return counts
