"""Fillings restore what was masked and tell what the model made of it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model_build.bundle import read_vocabulary
from training.corpus.build import build_corpus
from training.corpus.indexed import IndexedCorpus
from training.corpus.vocabulary import SPECIAL_TOKENS
from training.pretraining.filled_samples import EXCERPT, FilledSample, filled_samples, first_samples
from training.pretraining.masked_batches import BatchSettings, MaskedBatch, MaskedBatches, MaskingVocabulary
from training.pretraining.sample_order import MapSettings, Source, open_part
from training.reports.detokenization import spaced_tokens

SENTENCES = (
    "今天天气很好，我们去北京大学散步。",
    "他说：“明天见。”",
    "这家酒店的房间很干净……服务也好；",
    "王小明在上海市人民政府工作吗？",
    "机器学习改变世界！",
)


@dataclasses.dataclass
class Made:
    """A corpus, its text by document, and its vocabulary."""

    corpus: IndexedCorpus
    documents: list[str]
    tokens: list[str]

    def source(self, length: int, sentence_order: bool, cache: Path) -> Source:
        settings = MapSettings(max_seq_length=length, sentence_order=sentence_order)
        return open_part([self.corpus], "1,0,0", "train", settings, cache)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("corpus")
    chosen = random.Random(1)
    documents = [f"第{n}篇。" + "".join(chosen.choices(SENTENCES, k=chosen.randint(1, 20))) for n in range(80)]
    (folder / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    characters = sorted(set("".join(documents)))
    tokens = [*SPECIAL_TOKENS, *characters, *(f"##{digit}" for digit in range(10))]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    build_corpus([folder / "text.txt"], folder / "vocab.txt", folder / "corpus")
    return Made(IndexedCorpus.open(folder / "corpus"), documents, read_vocabulary(folder / "vocab.txt"))


@pytest.fixture(params=[False, True], ids=["padded", "packed"])
def pack(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def batch_of(made: Made, cache: Path, *, pack: bool, length: int = 64, sentence_order: bool = True) -> MaskedBatch:
    settings = BatchSettings(max_seq_length=length, pack=pack, sentence_order=sentence_order)
    source = made.source(length, sentence_order, cache)
    return MaskedBatches([source], MaskingVocabulary.of(made.tokens), settings, batch_size=40).at(0)


def samples_of(batch: MaskedBatch) -> list[tuple[list[int], list[int]]]:
    """Ids before masking and as seen of each sample, by the segment ids or the lengths of the rows."""
    original = batch.input_ids.copy()
    original.reshape(-1)[batch.mask_positions] = batch.labels
    found = []
    for place in batch.cls_positions:
        row, column = divmod(int(place), batch.input_ids.shape[1])
        if batch.segment_ids is None:
            cells = np.arange(batch.lengths[row])
        else:
            cells = np.flatnonzero(batch.segment_ids[row] == batch.segment_ids[row, column])
        assert cells[0] == column
        found.append((original[row, cells].tolist(), batch.input_ids[row, cells].tolist()))
    return found


def knowing(tokens: list[str]) -> Callable[[MaskedBatch], np.ndarray]:
    """A model that gives each label a logit of 9, all else 0."""

    def predict(batch: MaskedBatch) -> np.ndarray:
        logits = np.zeros((len(batch.labels), len(tokens)), dtype=np.float32)
        logits[np.arange(len(batch.labels)), batch.labels] = 9
        return logits

    return predict


@pytest.mark.parametrize("sentence_order", [False, True])
def test_samples_are_restored_exactly(made: Made, tmp_path: Path, pack: bool, sentence_order: bool) -> None:
    batch = batch_of(made, tmp_path, pack=pack, sentence_order=sentence_order)
    several = len(batch.input_ids) < len(batch.cls_positions)
    assert several == pack
    result = filled_samples(batch, made.tokens, knowing(made.tokens), count=40)
    assert len(result) == 40
    for filling, (original, seen) in zip(result, samples_of(batch), strict=True):
        assert ["[CLS]", *filling.original, "[SEP]"] == [made.tokens[id] for id in original]
        assert ["[CLS]", *filling.seen, "[SEP]"] == [made.tokens[id] for id in seen]
        assert filling.begins
        assert filling.ends
        assert [guess.label for guess in filling.guesses] == [
            filling.original[guess.index] for guess in filling.guesses
        ]
        changed = [
            index for index, pair in enumerate(zip(filling.original, filling.seen, strict=True)) if len({*pair}) > 1
        ]
        assert {*changed} <= {guess.index for guess in filling.guesses}
        assert filling.guesses
        assert filling.filled == filling.original
        assert all(guess.right and guess.probability > 0.9 for guess in filling.guesses)
    assert sum(len(filling.guesses) for filling in result) == len(batch.labels)


def test_the_restored_text_stands_in_the_corpus(made: Made, tmp_path: Path, pack: bool) -> None:
    batch = batch_of(made, tmp_path, pack=pack, sentence_order=False)
    for filling in filled_samples(batch, made.tokens, knowing(made.tokens), count=40):
        text = "".join(text for _, text in spaced_tokens(filling.original))
        assert any(text in document for document in made.documents)


def test_pairs_are_shown_with_a_bar_between_their_texts(made: Made, tmp_path: Path, pack: bool) -> None:
    batch = batch_of(made, tmp_path, pack=pack)
    result = filled_samples(batch, made.tokens, knowing(made.tokens), count=40)
    pairs = [label != -100 for label in batch.sentence_order_labels]
    assert sum(pairs) > 0
    assert [filling.original.count("[SEP]") for filling in result] == [int(pair) for pair in pairs]
    for filling, pair in zip(result, pairs, strict=True):
        assert all(line.count(" ‖ ") == pair for line in str(filling).splitlines())
        assert "[SEP]" not in str(filling)
        assert "[CLS]" not in str(filling)


def test_the_model_is_asked_for_the_masks_of_the_samples_that_are_shown_only(
    made: Made, tmp_path: Path, pack: bool
) -> None:
    batch = batch_of(made, tmp_path, pack=pack)
    asked = []

    def predict(part: MaskedBatch) -> np.ndarray:
        asked.append(part)
        return knowing(made.tokens)(part)

    few = filled_samples(batch, made.tokens, predict, count=3)
    assert few == filled_samples(batch, made.tokens, knowing(made.tokens), count=40)[:3]
    (part,) = asked
    assert len(part.input_ids) <= 3
    assert len(part.labels) == sum(len(filling.guesses) for filling in few)
    assert len(part.input_ids) == len(part.lengths) == len(part.token_type_ids)
    assert (part.position_ids is not None) == (part.segment_ids is not None) == pack


def test_rows_of_a_part_are_those_of_the_batch(made: Made, tmp_path: Path, pack: bool) -> None:
    batch = batch_of(made, tmp_path, pack=pack)
    order = np.random.default_rng(0).permutation(len(batch.cls_positions))
    mixed = dataclasses.replace(
        batch, cls_positions=batch.cls_positions[order], sentence_order_labels=batch.sentence_order_labels[order]
    )
    part = first_samples(mixed, 5)
    assert samples_of(part)[:5] == samples_of(mixed)[:5]
    assert part.sentence_order_labels[:5].tolist() == mixed.sentence_order_labels[:5].tolist()
    assert filled_samples(mixed, made.tokens, knowing(made.tokens), 5) == [
        filled_samples(batch, made.tokens, knowing(made.tokens), 40)[number] for number in order[:5]
    ]


def test_long_samples_are_shown_as_the_stretch_with_most_masks(made: Made, tmp_path: Path, pack: bool) -> None:
    batch = batch_of(made, tmp_path, pack=pack, length=256, sentence_order=False)
    result = filled_samples(batch, made.tokens, knowing(made.tokens), count=40)
    longer = 0
    for filling, (original, seen) in zip(result, samples_of(batch), strict=True):
        tokens, looked = [made.tokens[id] for id in original[1:-1]], [made.tokens[id] for id in seen[1:-1]]
        if len(tokens) <= EXCERPT:
            assert (filling.original, filling.begins, filling.ends) == (tuple(tokens), True, True)
            continue
        longer += 1
        starts = range(len(tokens) - EXCERPT + 1)
        assert len(filling.original) == len(filling.seen) == EXCERPT
        places = [
            at
            for at in starts
            if tuple(tokens[at : at + EXCERPT]) == filling.original and tuple(looked[at : at + EXCERPT]) == filling.seen
        ]
        assert places
        assert filling.begins == (places[0] == 0)
        assert filling.ends == (places[-1] == starts[-1])
        masks = [token == "[MASK]" for token in looked]
        assert len(filling.guesses) >= max(sum(masks[at : at + EXCERPT]) for at in starts)
        for line in str(filling).splitlines():
            assert line[10:].startswith("…") != filling.begins
            assert line.endswith("…") != filling.ends
    assert longer > 5


def by_hand(tokens: list[str], masked: dict[int, str], vocabulary: list[str]) -> MaskedBatch:
    """One sample in a row of its own, with the given tokens seen in place of some."""
    ids = [vocabulary.index(token) for token in ["[CLS]", *tokens, "[SEP]"]]
    seen = np.array([ids])
    for index, token in masked.items():
        seen[0, index + 1] = vocabulary.index(token)
    return MaskedBatch(
        next_position=1,
        input_ids=seen,
        token_type_ids=np.zeros_like(seen),
        lengths=np.array([len(ids)]),
        cls_positions=np.array([0]),
        sentence_order_labels=np.array([-100]),
        mask_positions=np.array([index + 1 for index in masked]),
        labels=np.array([ids[index + 1] for index in masked]),
    )


VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *"天地人好，", "deep", "learn", "##ing", "5"]


def filled_by_hand(
    tokens: list[str], masked: dict[int, str], logits: list[dict[str, float]], size: int = len(VOCABULARY)
) -> FilledSample:
    rows = np.full((len(logits), size), -50.0, dtype=np.float32)
    for row, scores in zip(rows, logits, strict=True):
        for token, score in scores.items():
            row[VOCABULARY.index(token)] = score
    (filling,) = filled_samples(by_hand(tokens, masked, VOCABULARY), VOCABULARY, lambda batch: rows)
    return filling


def test_the_best_tokens_come_first_with_their_probabilities() -> None:
    scores = {"天": np.log(1), "地": np.log(4), "人": np.log(2), "好": np.log(2), "，": np.log(0.5), "5": np.log(0.5)}
    filling = filled_by_hand([*"天地人"], {2: "[MASK]"}, [scores])
    (guess,) = filling.guesses
    assert (guess.index, guess.label, guess.right) == (2, "人", False)
    assert [token for token, _ in guess.best] == ["地", "人", "好", "天", "，"]
    assert [probability for _, probability in guess.best] == pytest.approx([0.4, 0.2, 0.2, 0.1, 0.05])
    assert guess.probability == pytest.approx(0.2)
    assert filling.filled == ("天", "地", "地")


def test_guesses_stand_in_the_order_of_the_text_whatever_the_order_of_the_masks() -> None:
    filling = filled_by_hand([*"天地人"], {2: "[MASK]", 0: "好"}, [{"人": 1.0}, {"地": 1.0}])
    assert [(guess.index, guess.label, guess.best[0][0]) for guess in filling.guesses] == [
        (0, "天", "地"),
        (2, "人", "人"),
    ]


def test_the_text_for_logs_shows_original_masked_and_filled() -> None:
    filling = filled_by_hand(
        ["天", "deep", "learn", "##ing", "，", "5", "地"],
        {0: "[MASK]", 2: "[MASK]", 5: "人"},
        [{"地": 1.0}, {"learn": 1.0}, {"5": 1.0}],
    )
    assert str(filling).splitlines() == [
        "original  天deep learning，5地",
        "masked    [MASK]deep[MASK]ing，人地",
        "filled    [地≠天]deep [learn]ing，[5]地",
    ]


def test_an_id_beyond_the_vocabulary_is_shown_by_its_number() -> None:
    batch = by_hand([*"天地"], {0: "[MASK]"}, VOCABULARY)
    logits = np.zeros((1, 20), dtype=np.float32)
    logits[0, 17] = 30
    (filling,) = filled_samples(batch, VOCABULARY, lambda batch: logits)
    assert filling.guesses[0].best[0] == ("[id 17]", pytest.approx(1.0))
    assert str(filling).endswith("[[id 17]≠天]地")


def test_a_model_that_has_diverged_is_shown() -> None:
    batch = by_hand([*"天地"], {0: "[MASK]"}, VOCABULARY)
    (filling,) = filled_samples(
        batch, VOCABULARY, lambda batch: np.full((1, len(VOCABULARY)), np.nan, dtype=np.float32)
    )
    assert np.isnan(filling.guesses[0].probability)
    assert len(filling.guesses[0].best) == 5


@pytest.mark.parametrize("shape", [(2, len(VOCABULARY)), (1, 5), (len(VOCABULARY),)])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    batch = by_hand([*"天地"], {0: "[MASK]"}, VOCABULARY)
    with pytest.raises(ValueError, match="logits for 1 masks and 14 tokens have the shape"):
        filled_samples(batch, VOCABULARY, lambda batch: np.zeros(shape, dtype=np.float32))
