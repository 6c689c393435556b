"""Smaller tables: a checkpoint without the tokens that a domain does not use, and without positions it does not need.

A token that is left out is read as the pieces it is made of where these are there, and as [UNK] where they are not. The
weights that stay are the same, so a text whose tokens all stay gets the same logits to the last bit; the probabilities
of a masked LM grow, since they are spread over fewer tokens.
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
from model_build.weights import read_pdparams

SHORTEST = 8
"""Positions; fewer hold no text beside [CLS] and [SEP]."""
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
BY_TOKEN = ("embeddings.word_embeddings.weight", "predictions.decoder.weight", "predictions.decoder.bias",
            "predictions.decoder_bias")  # fmt: skip
"""How names of tables with a row for every token end."""
BY_POSITION = "embeddings.position_embeddings.weight"


class PruningError(ValueError):
    """Something that cannot be left out; the message is one sentence."""


def kept_tokens(tokens: Sequence[str], counts: np.ndarray, min_count: int, max_tokens: int = 0) -> list[int]:
    """Ids, in order, of the tokens to keep: those with `counts`, int64 [V], of `min_count` or more.

    Special tokens and single ASCII letters and digits, with `##` before them and without, always stay, so that words of
    other languages still fall into pieces. `max_tokens` bounds the whole, which then holds the most frequent; 0 does
    not. Raises PruningError where those that stay are more.
    """
    always = {index for index, token in enumerate(tokens) if token in SPECIAL or _is_letter(token)}
    if max_tokens and len(always) > max_tokens:
        raise PruningError(f"{len(always)} special tokens, letters and digits must stay; raise --max-tokens to that.")
    seen = [index for index, count in enumerate(counts) if count >= min_count and index not in always]
    seen.sort(key=lambda index: -counts[index])
    room = max_tokens - len(always) if max_tokens else len(seen)
    return sorted(always.union(seen[:room]))


def _is_letter(token: str) -> bool:
    piece = token.removeprefix("##")
    return len(piece) == 1 and piece.isascii() and piece.isalnum()


def prune(directory: Path, output: Path, keep: Sequence[int], max_length: int = 0) -> Checkpoint:
    """Writes the checkpoint in `directory` into the folder `output` with the tokens `keep` alone, ids in rising order.

    `max_length` is the number of positions that stay; 0 keeps all. The figures of the original are not taken over.
    Raises PruningError for positions that the model has not, and CheckpointError.
    """
    checkpoint = read_checkpoint(directory)
    config, tokens = checkpoint.config, read_vocabulary(directory / "vocab.txt")
    positions = max_length or config.max_position_embeddings
    if not SHORTEST <= positions <= config.max_position_embeddings:
        raise PruningError(
            f"--max-length {positions} must lie between {SHORTEST} and the {config.max_position_embeddings} positions "
            f"of {directory}."
        )
    # What pads rows stays whatever its token is called.
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
        write_checkpoint(output, about, _pruned(read_pdparams(directory), kept, positions), vocab, lines)
    return about


def _pruned(state: dict[str, Any], kept: np.ndarray, positions: int) -> dict[str, Any]:
    """The weights with fewer rows where they have one for a token or a position."""
    found = {}
    for name, value in state.items():
        if name.endswith(BY_TOKEN):
            value = value[kept]
        elif name.endswith(BY_POSITION):
            value = value[:positions]
        found[name] = paddle.to_tensor(value)
    return found
