"""From text to a checkpoint: what `ernie-train pretrain`, `finetune` and `demo` have in common."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_build.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from model_build.config import ErnieConfig
from model_build.weights import read_pdparams
from training import stream
from training.curve import draw_curve
from training.datasets.corpus import Document, is_held_out
from training.datasets.tsv import Example, label_names
from training.finetune import accuracy, encode, finetune
from training.overlap import overlapping
from training.pretrain import pretrain
from training.settings import FinetuneSettings, PretrainSettings
from training.tokens import Encoder

log = logging.getLogger(__name__)

PARITY_SENTENCES = 32


def pretrain_checkpoint(
    documents: Sequence[Document], vocab_path: Path, config: ErnieConfig, settings: PretrainSettings, output: Path
) -> Checkpoint:
    """Pretrains a masked LM on `documents`, a hundredth of them held out, and writes the checkpoint `output`.

    The tokenized text is cached beside `output`, and so is a picture of the loss. A checkpoint that was made from the
    same text, vocabulary, shape and settings is kept as it is.
    """
    encoder = Encoder(vocab_path)
    config = dataclasses.replace(config, vocab_size=len(encoder.tokens))
    parts = [[document for document in documents if is_held_out(document) is side] for side in (False, True)]
    if not parts[1]:
        raise ValueError("no document of the corpus fell into the held-out hundredth; give more documents.")
    descriptions = [{"text": _digest(part), "vocabulary": _digest([encoder.tokens])} for part in parts]
    provenance: dict[str, Any] = {"pretraining": dataclasses.asdict(settings), **descriptions[0]}
    if (output / "config.json").is_file():
        earlier = read_checkpoint(output)
        if earlier.config == config and earlier.provenance.items() >= provenance.items():
            log.info("%s was trained on the same text with the same settings; keeping it", output)
            return earlier
    train, held_out = (
        stream.cached(output.parent, dict(description), part, encoder)
        for description, part in zip(descriptions, parts, strict=True)
    )
    log.info("%d tokens to train on, %d held out", len(train[0]), len(held_out[0]))
    result = pretrain(config, settings, encoder, train, held_out)
    draw_curve(output.with_name(f"{output.name}-loss.png"), result.curve, result.held_out)
    provenance |= {
        "training_tokens": len(train[0]),
        "held_out_tokens": len(held_out[0]),
        "seconds": round(result.seconds),
    }
    checkpoint = Checkpoint(
        config,
        "fill-mask",
        config.max_position_embeddings,
        evaluation={"held_out": result.held_out},
        provenance=provenance,
    )
    sentences = [document[0][:100] for document in parts[1][:PARITY_SENTENCES]]
    save_checkpoint(output, checkpoint, result.model, vocab_path, sentences)
    return checkpoint


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


def _digest(lines: Sequence[Sequence[str]]) -> str:
    """First 16 hex digits of the SHA-256 of all lines."""
    digest = hashlib.sha256()
    for group in lines:
        digest.update("\n".join([*group, "\n"]).encode("utf-8"))
    return digest.hexdigest()[:16]
