"""From text to batches: what is masked can be put back, and is the text."""

from collections import Counter
from pathlib import Path

import numpy as np

from model_build.bundle import read_vocabulary
from native import ErnieTokenizer
from training.corpus.build import build_corpus
from training.corpus.indexed import IndexedCorpus
from training.pretraining.masked_batches import BatchSettings, MaskedBatches, MaskingVocabulary
from training.pretraining.sample_order import MapSettings, open_part

WINDOW = 30  # tokens of a row of 32


def test_an_epoch_of_batches_holds_the_text_and_labels_are_what_stood_there(
    text: Path, vocab: Path, tmp_path: Path
) -> None:
    prefix = tmp_path / "corpus"
    build_corpus([text], vocab, prefix)
    corpus = IndexedCorpus.open(prefix)
    tokens = read_vocabulary(vocab)
    special = MaskingVocabulary.of(tokens)
    settings = MapSettings(max_seq_length=32, short_seq_prob=0.0, sentence_order=False)
    (source,) = open_part([corpus], "1,0,0", "train", settings, tmp_path / "cache")
    count = len(source.rows)
    batches = MaskedBatches(
        [source], special, BatchSettings(max_seq_length=32, sentence_order=False, max_ngrams=1), batch_size=1
    )
    seen = []
    for position in range(count):
        batch = batches.at(position)
        ids = batch.input_ids.copy().reshape(-1)
        assert (batch.labels < len(tokens)).all()
        ids[batch.mask_positions] = batch.labels
        length = int(batch.lengths[0])
        assert (ids[0], ids[length - 1]) == (special.cls, special.sep)
        seen.append(tuple(ids[1 : length - 1].tolist()))
    begin, lengths = source.rows["begin"], source.rows["length"]
    samples = [tuple(corpus.tokens[at : at + size].tolist()) for at, size in zip(begin, lengths, strict=True)]
    assert sum(map(len, samples)) == len(corpus.tokens)
    whole = Counter(sample for sample in samples if len(sample) <= WINDOW)
    assert whole
    assert Counter(sample for sample in seen if sample in whole) >= whole
    # What is longer than the window is seen in part, another part in every epoch.
    longer = [sample for sample in samples if len(sample) > WINDOW]
    for part in seen:
        if part not in whole:
            assert len(part) == WINDOW
            assert any(part == sample[at : at + WINDOW] for sample in longer for at in range(len(sample) - WINDOW + 1))
    tokenizer = ErnieTokenizer.from_file(vocab)
    first = tokenizer.encode_flat([corpus_line(text)])[0]
    assert np.array_equal(corpus.sentence(0), first[: len(corpus.sentence(0))])


def corpus_line(path: Path) -> str:
    """The first line of a folder's first text, or of a text."""
    file = path if path.is_file() else sorted(each for each in path.rglob("*.txt"))[0]
    return file.read_text(encoding="utf-8").split("\n", 1)[0]
