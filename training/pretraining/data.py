"""The data of a pretraining run: opens corpora, checks them against vocabulary and model, and makes batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from model_build.bundle import read_vocabulary
from model_build.config import ErnieConfig
from model_build.tokenizer_config import TokenizerSettings
from training.corpus.blending import parse_blend
from training.corpus.indexed import TRAINABLE, CorpusError, IndexedCorpus
from training.corpus.split import parse_split, split_documents
from training.corpus.verify import open_with_vocabulary, read_description, tokenizer_of
from training.pretraining.masked_batches import BatchSettings, MaskedBatches, MaskingVocabulary
from training.pretraining.sample_order import MapSettings, SampleError, Source, describe, open_part
from training.pretraining.settings import LEVELS, PretrainSettings, parse_masking
from training.runs.data_parallel import ProcessGroup

log = logging.getLogger(__name__)

SENTENCES = 32
SENTENCE_LENGTH = 100
EVALUATED_LEVELS = ("character", "word")


@dataclass(frozen=True)
class PretrainingData:
    """The data of a run."""

    tokens: list[str]
    """the vocabulary"""
    train: MaskedBatches
    validation: dict[str, MaskedBatches]
    """by masked unit: one fixed batch each, masked at 15 % as in BERT; empty without a validation split"""
    description: dict[str, Any]
    """JSON: the corpora, their weights and the vocabulary, by content"""
    sentences: list[str]
    """sentences of the validation split, or without one of train: real text for the parity check of an export"""
    tokenizer: TokenizerSettings
    """how the text of the corpora was read"""


def open_data(
    corpora: Sequence[str],
    vocab: Path,
    config: ErnieConfig,
    settings: PretrainSettings,
    *,
    evaluation_samples: int,
    threads: int,
    cache: Path,
    group: ProcessGroup,
) -> PretrainingData:
    """Opens corpora by prefix, with or without weights (`"0.7", "news", "0.3", "web"`; see `parse_blend`).

    Without weights each corpus has the weight of its number of samples, so each sample is seen once per epoch. Sample
    maps are cached in `cache`. Raises ValueError (CorpusError, SampleError) if corpora, vocabulary, model and settings
    do not fit together.
    """
    tokens = read_vocabulary(vocab)
    pairs = parse_blend(corpora)
    opened = [_trainable(open_with_vocabulary(Path(prefix), vocab)) for _, prefix in pairs]
    _check_shape(config, settings, tokens, vocab)
    maps = MapSettings(settings.max_seq_length, settings.short_seq_prob, settings.sentence_order, settings.seed)
    train = open_part(opened, settings.split, "train", maps, cache)
    if settings.sentence_order and not any(source.rows["pair"].any() for source in train):
        raise SampleError(
            f"no document of {', '.join(prefix for _, prefix in pairs)} has two sentences, so sentence order "
            "cannot be learnt; build the corpus from text with several sentences per document, or give "
            "--no-sentence-order."
        )
    given = len(pairs) < len(corpora)
    weights = [weight for weight, _ in pairs] if given else [Fraction(len(source.rows)) for source in train]
    vocabulary = MaskingVocabulary.of(tokens)
    validation: dict[str, MaskedBatches] = {}
    if parse_split(settings.split)[1]:
        held_out = open_part(opened, settings.split, "validation", maps, cache)
        validation = {
            level: _validation(held_out, weights, vocabulary, settings, level, evaluation_samples, group)
            for level in EVALUATED_LEVELS
        }
    return PretrainingData(
        tokens,
        MaskedBatches(
            train,
            vocabulary,
            _batch_settings(settings, settings.masked_lm_prob, parse_masking(settings.masking)),
            batch_size=settings.batch_size,
            weights=weights,
            rank=group.rank,
            ranks=group.size,
        ),
        validation,
        {
            "vocabulary": hashlib.sha256(vocab.read_bytes()).hexdigest(),
            "corpora": [
                _description(corpus, settings, maps, weight) for corpus, weight in zip(opened, weights, strict=True)
            ],
        },
        _sentences(opened, settings, tokens),
        tokenizer_of(opened),
    )


def _trainable(corpus: IndexedCorpus) -> IndexedCorpus:
    """The corpus. Raises CorpusError if its tokens have a dtype that pretraining does not read."""
    if corpus.tokens.dtype not in TRAINABLE:
        raise CorpusError(
            f"{corpus.prefix}.bin holds {corpus.tokens.dtype}, but pretraining reads uint16 and int32; convert it with "
            f"`ernie-train corpus convert {corpus.prefix} --output NEW`."
        )
    return corpus


def _check_shape(config: ErnieConfig, settings: PretrainSettings, tokens: Sequence[str], vocab: Path) -> None:
    if settings.max_seq_length > config.max_position_embeddings:
        raise ValueError(
            f"--max-seq-length {settings.max_seq_length} is more than the model's "
            f"{config.max_position_embeddings} positions; lower it, or use a model with more positions."
        )
    if len(tokens) > config.vocab_size:
        raise ValueError(
            f"{vocab} has {len(tokens):,} tokens, but the model has {config.vocab_size:,} token embeddings; give "
            "the vocabulary of the model."
        )
    if tokens[config.pad_token_id] != "[PAD]":
        raise ValueError(
            f"{vocab} has {tokens[config.pad_token_id]} as token {config.pad_token_id}, where the model expects [PAD]; "
            "move [PAD] there."
        )
    if settings.sentence_order and config.type_vocab_size < 2:
        raise ValueError(
            "sentence order needs a model with two token types, but this one has one; give --no-sentence-order."
        )


def _batch_settings(settings: PretrainSettings, masked: float, levels: Sequence[Sequence[float]]) -> BatchSettings:
    return BatchSettings(
        max_seq_length=settings.max_seq_length,
        masked_lm_prob=masked,
        max_ngrams=settings.max_ngrams,
        levels=levels,
        sentence_order=settings.sentence_order,
        pack=settings.layout == "packed",
    )


def _validation(
    sources: Sequence[Source],
    weights: Sequence[Fraction],
    vocabulary: MaskingVocabulary,
    settings: PretrainSettings,
    level: str,
    samples: int,
    group: ProcessGroup,
) -> MaskedBatches:
    """Batches whose first one is the evaluation batch of one unit; each process has its share of it."""
    share = max(1, min(samples, sum(len(source.rows) for source in sources)) // group.size)
    levels = (tuple(float(level == each) for each in LEVELS),)
    return MaskedBatches(
        sources,
        vocabulary,
        _batch_settings(settings, 0.15, levels),
        batch_size=share * group.size,
        weights=weights,
        rank=group.rank,
        ranks=group.size,
    )


def _description(
    corpus: IndexedCorpus, settings: PretrainSettings, maps: MapSettings, weight: Fraction
) -> dict[str, Any]:
    """Everything that the samples of a corpus depend on, as JSON."""
    documents = split_documents(len(corpus.documents) - 1, settings.split, "train", str(corpus.prefix))
    files = read_description(corpus.prefix).get("files", {})
    checksums = {name: file["sha256"] for name, file in files.items()}
    if not checksums:
        checksums = {"tokens": hashlib.sha256(np.ascontiguousarray(corpus.tokens).view(np.uint8).data).hexdigest()}
    return {**describe(corpus, documents, maps), "weight": str(weight), "checksums": checksums}


def _sentences(corpora: Sequence[IndexedCorpus], settings: PretrainSettings, tokens: Sequence[str]) -> list[str]:
    """Some of the first validation sentences of each corpus, joined from their tokens."""
    part = "validation" if parse_split(settings.split)[1] else "train"
    unknown = tokens.index("[UNK]") if "[UNK]" in tokens else -1
    found: list[str] = []
    for number, corpus in enumerate(corpora, start=1):
        documents = split_documents(len(corpus.documents) - 1, settings.split, part, str(corpus.prefix))
        for index in range(corpus.documents[documents.start], corpus.documents[documents.stop]):
            if len(found) >= SENTENCES * number // len(corpora):
                break
            ids = corpus.sentence(index)
            if 5 <= len(ids) <= SENTENCE_LENGTH and unknown not in ids:
                found.append("".join(tokens[each].removeprefix("##") for each in ids))
    return found
