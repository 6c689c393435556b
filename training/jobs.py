"""What `ernie-train pretrain`, `finetune` and `demo` have in common around the loops."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_build.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from model_build.weights import read_pdparams
from training.blend import parse_blend
from training.corpus.verify import open_with_vocabulary
from training.datasets.examples import Example, label_names
from training.finetune import accuracy, encode, finetune
from training.overlap import overlapping, overlapping_corpora, read_texts
from training.settings import FinetuneSettings
from training.tokens import Encoder

log = logging.getLogger(__name__)

PARITY_SENTENCES = 32


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


def finetune_checkpoint(
    pretrained: Path,
    examples: Mapping[str, Sequence[Example]],
    settings: FinetuneSettings,
    output: Path,
    names: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Finetunes a classifier from the checkpoint `pretrained` and writes the checkpoint `output`.

    `examples` has the parts train, dev and any number of others; accuracy is reported on each of those, on all its
    texts and on those that do not stand in train. `names` maps labels of the files to names shown to users.
    """
    before = read_checkpoint(pretrained)
    encoder = Encoder(pretrained / "vocab.txt")
    labels = label_names(examples["train"])
    for part, rows in examples.items():
        if unknown := sorted({row.label for row in rows} - set(labels)):
            raise ValueError(f"the {part} examples have labels that train has not: {', '.join(unknown)}.")
    texts = {part: [row.text for row in rows] for part, rows in examples.items()}
    encoded = {
        part: encode(texts[part], [labels.index(row.label) for row in rows], encoder, settings.max_seq_length)
        for part, rows in examples.items()
    }
    weights = read_pdparams(pretrained)
    result = finetune(before.config, settings, len(labels), encoded["train"], encoded["dev"], encoder.pad, weights)
    evaluation: dict[str, Any] = {}
    for part in (name for name in examples if name != "train"):
        copies = set(overlapping(texts["train"], texts[part]))
        if copies:
            log.warning("%d of the %d %s texts stand in train too", len(copies), len(texts[part]), part)
        unseen = [row for index, row in enumerate(encoded[part]) if index not in copies]
        for name, chosen in ((part, encoded[part]), (f"{part}_not_in_train", unseen)):
            evaluation[name] = {"accuracy": accuracy(result.model, chosen, encoder.pad), "examples": len(chosen)}
    checkpoint = Checkpoint(
        before.config,
        "classify",
        before.config.max_position_embeddings,
        [(names or {}).get(label, label) for label in labels],
        evaluation,
        {"finetuning": dataclasses.asdict(settings), "epochs": result.history, "pretrained": before.provenance},
    )
    sentences = [text[:100] for text in texts["dev"][:PARITY_SENTENCES]]
    save_checkpoint(output, checkpoint, result.model, pretrained / "vocab.txt", sentences)
    return checkpoint
