"""Removing tokens and positions does not change the scores of texts without them."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from model_build.bundle import read_vocabulary
from model_build.checkpoint import load_model, read_checkpoint
from model_build.export import export_checkpoint
from model_build.pruning import PruningError, kept_tokens, prune
from tests.model_build.small_models import TOKENS, small_checkpoint

ALWAYS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "a", "b", "1", "##a", "##b"]


def counts(*seen: str) -> np.ndarray:
    return np.array([seen.count(token) for token in TOKENS])


def tokens(kept: list[int]) -> list[str]:
    return [TOKENS[index] for index in kept]


def test_tokens_of_the_text_special_tokens_and_letters_are_kept() -> None:
    kept = kept_tokens(TOKENS, counts("天", "好", "好", "word"), min_count=1)
    assert tokens(kept) == [*ALWAYS, "word", "天", "好"]
    assert tokens(kept_tokens(TOKENS, counts("天", "好", "好", "word"), min_count=2)) == [*ALWAYS, "好"]


def test_max_tokens_keeps_the_most_frequent() -> None:
    kept = kept_tokens(TOKENS, counts("天", "好", "好", "气", "气", "气"), 1, max_tokens=len(ALWAYS) + 2)
    assert tokens(kept) == [*ALWAYS, "气", "好"]
    with pytest.raises(PruningError, match="10 special tokens, letters and digits must stay; raise --max-tokens"):
        kept_tokens(TOKENS, counts(), 1, max_tokens=9)


@pytest.mark.parametrize("task", ["classify", "fill-mask"])
def test_texts_of_kept_tokens_get_the_same_scores(tmp_path: Path, task: str) -> None:
    source = small_checkpoint(tmp_path, task)
    kept = kept_tokens(TOKENS, counts(*"今天气真好，。"), 1)
    (tmp_path / "pruned").mkdir()
    about = prune(source, tmp_path / "pruned", kept, max_length=16)
    assert read_vocabulary(tmp_path / "pruned" / "vocab.txt") == tokens(kept)
    assert (about.config.vocab_size, about.config.max_position_embeddings, about.max_length) == (len(kept), 16, 16)
    ids = [1, *(TOKENS.index(character) for character in "今天天气真好。"), 2]
    before, after = (
        load_model(directory)(paddle.to_tensor([row])).numpy()
        for directory, row in ((source, ids), (tmp_path / "pruned", [kept.index(each) for each in ids]))
    )
    if task == "classify":
        np.testing.assert_array_equal(before, after)  # every product has the shape it had
    else:
        # The masked LM's logits lose the columns of the removed tokens. A matrix product of another width may add in
        # another order: 9.5e-7 was seen on a processor without AVX-512.
        np.testing.assert_allclose(after, before[..., kept], rtol=0, atol=1e-5)


def test_a_pad_token_with_a_new_id_is_still_padding(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path, "classify", pad_token_id=4)
    kept = [3, *range(10, 20)]
    (tmp_path / "pruned").mkdir()
    about = prune(source, tmp_path / "pruned", kept)
    assert about.config.pad_token_id == 1
    before = load_model(source)(paddle.to_tensor([[12, 13, 4, 4]])).numpy()
    after = load_model(tmp_path / "pruned")(paddle.to_tensor([[4, 5, 1, 1]])).numpy()
    np.testing.assert_array_equal(before, after)


def test_the_result_is_a_checkpoint_that_can_be_exported_and_records_the_pruning(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path, "classify")
    (tmp_path / "pruned").mkdir()
    prune(source, tmp_path / "pruned", kept_tokens(TOKENS, counts(*"今天"), 1))
    about = read_checkpoint(tmp_path / "pruned")
    assert about.provenance["pruning"] == {"tokens": [len(TOKENS), 12], "positions": [64, 64]}
    assert about.labels == read_checkpoint(source).labels
    assert export_checkpoint(tmp_path / "pruned", tmp_path / "models").manifest.name == "pruned"


def test_a_max_length_out_of_range_is_refused(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path, "classify")
    with pytest.raises(PruningError, match="--max-length 65 must be between 8 and the 64 positions"):
        prune(source, tmp_path, range(5), max_length=65)
    with pytest.raises(PruningError, match="--max-length 2 must be between 8"):
        prune(source, tmp_path, range(5), max_length=2)
