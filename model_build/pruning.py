"""Pruning of a checkpoint: removes tokens that a domain does not use, and positions that it does not need.

The tokenizer then splits a word with a removed token into other pieces if they are in the vocabulary, and reads it as
[UNK] otherwise. The weights of the other tokens do not change, so a text without removed tokens gets equal logits,
apart from rounding. The probabilities of a masked LM rise, because they are distributed over fewer tokens.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from model_build.bundle import read_vocabulary
from model_build.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from model_build.weights import read_weights

SHORTEST = 8
"""The smallest number of positions; a model with fewer can hardly read a text between [CLS] and [SEP]."""
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
BY_TOKEN = ("embeddings.word_embeddings.weight", "predictions.decoder.weight", "predictions.decoder.bias",
            "predictions.decoder_bias")  # fmt: skip
"""Endings of the names of parameters with one row or entry for each token."""
BY_POSITION = "embeddings.position_embeddings.weight"


class PruningError(ValueError):
    """A pruning that is not possible; the message is one sentence."""


def kept_tokens(tokens: Sequence[str], counts: np.ndarray, min_count: int, max_tokens: int = 0) -> list[int]:
    """Ids, in ascending order, of the tokens that occur at least `min_count` times; `counts` is int64 [V].

    Special tokens, and single ASCII letters and digits with and without `##`, are always kept, so that words of other
    languages can still be split into pieces. If `max_tokens` is not 0, only the most frequent tokens are kept,
    `max_tokens` in all. Raises PruningError if the tokens that are always kept are more than that.
    """
    always = {index for index, token in enumerate(tokens) if token in SPECIAL or _is_letter(token)}
    if max_tokens and len(always) > max_tokens:
        raise PruningError(
            f"{len(always)} special tokens, letters and digits must stay; raise --max-tokens to {len(always)} or more."
        )
    seen = [index for index, count in enumerate(counts) if count >= min_count and index not in always]
    seen.sort(key=lambda index: -counts[index])
    room = max_tokens - len(always) if max_tokens else len(seen)
    return sorted(always.union(seen[:room]))


def _is_letter(token: str) -> bool:
    piece = token.removeprefix("##")
    return len(piece) == 1 and piece.isascii() and piece.isalnum()


def prune(directory: Path, output: Path, keep: Sequence[int], max_length: int = 0) -> Checkpoint:
    """Writes the checkpoint in `directory` to the existing folder `output` with only the tokens `keep` (ascending ids).

    `max_length` is the number of positions to keep; 0 keeps all. The evaluation figures are not copied. Raises
    PruningError for a `max_length` out of range, and the errors of `read_checkpoint` and `read_weights`.
    """
    checkpoint = read_checkpoint(directory)
    config, tokens = checkpoint.config, read_vocabulary(directory / "vocab.txt")
    positions = max_length or config.max_position_embeddings
    if not SHORTEST <= positions <= config.max_position_embeddings:
        raise PruningError(
            f"--max-length {positions} must be between {SHORTEST} and the {config.max_position_embeddings} positions "
            f"of {directory}."
        )
    # The token that pads rows is always kept, whatever its name is.
    kept = np.union1d(np.asarray(keep, dtype=np.int64), [config.pad_token_id])
    pruned = dataclasses.replace(
        config,
        vocab_size=len(kept),
        max_position_embeddings=positions,
        pad_token_id=int(np.flatnonzero(kept == config.pad_token_id)[0]),
    )
    about = dataclasses.replace(
        checkpoint,
        config=pruned,
        max_length=min(checkpoint.max_length, positions),
        evaluation={},
        provenance={
            **checkpoint.provenance,
            "pruning": {"tokens": [len(tokens), len(kept)], "positions": [config.max_position_embeddings, positions]},
        },
    )
    sentences = directory / "sentences.txt"
    lines = sentences.read_text(encoding="utf-8").splitlines() if sentences.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("".join(tokens[index] + "\n" for index in kept), encoding="utf-8")
        write_checkpoint(output, about, _pruned(read_weights(directory), kept, positions), vocab, lines)
    return about


def _pruned(state: dict[str, Any], kept: np.ndarray, positions: int) -> dict[str, Any]:
    """The weights, with only the kept rows of the parameters that have one for each token or position."""
    found = {}
    for name, value in state.items():
        if name.endswith(BY_TOKEN):
            value = value[kept]
        elif name.endswith(BY_POSITION):
            value = value[:positions]
        found[name] = paddle.to_tensor(value)
    return found
