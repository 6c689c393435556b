"""Two small corpora with their vocabulary, and a job that trains a tiny model on them."""

import dataclasses
import random
from pathlib import Path

import pytest

from model_build.bundle import read_vocabulary
from model_build.config import ErnieConfig
from training.corpus.build import build_corpus
from training.corpus.settings import BuildSettings, VocabularySettings
from training.corpus.vocabulary import build_vocabulary, write_vocabulary
from training.pretraining.loop import PretrainJob
from training.pretraining.settings import PretrainRunSettings, PretrainSettings

SENTENCES = (
    "今天天气很好，我们去公园散步。",
    "这家酒店的房间很干净，服务也很周到。",
    "北京是中国的首都，人口很多。",
    "他在大学里教书，学生都喜欢他。",
    "质量太差了，用了两天就坏了！",
    "公司今年的利润增长了百分之十。",
)

SETTINGS = PretrainSettings(
    steps=6, batch_size=8, max_seq_length=64, split="8,2", masked_lm_prob=0.2, micro_tokens=200,
    learning_rate=5e-3, min_learning_rate=1e-4, masking="character; 0.5 word 0.5 entity",
)  # fmt: skip
RUN = PretrainRunSettings(log_every=1, evaluate_every=0, evaluation_samples=16, save_every=2)


@dataclasses.dataclass(frozen=True)
class Small:
    """What a tiny run is made of."""

    vocab: Path
    corpora: list[str]
    config: ErnieConfig

    def job(self, output: Path, **changes: object) -> PretrainJob:
        """A job into `output`; `changes` are fields of its settings, of its run settings, or of the job."""
        parts = []
        for settings in (SETTINGS, RUN):
            own = {name: changes.pop(name) for name in list(changes) if hasattr(settings, name)}
            parts.append(dataclasses.replace(settings, **own))
        job = PretrainJob(self.corpora, self.vocab, output, self.config, *parts)
        return dataclasses.replace(job, **changes)


def text(first: int, count: int) -> str:
    """Documents of one to eight sentences, all different."""
    rng = random.Random(first)
    return "\n\n".join(
        f"第{number}篇。" + "".join(rng.choices(SENTENCES, k=rng.randint(1, 8)))
        for number in range(first, first + count)
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    folder = tmp_path_factory.mktemp("small")
    texts = {"news": text(0, 60), "reviews": text(1000, 40)}
    vocab = folder / "vocab.txt"
    write_vocabulary(vocab, build_vocabulary(list(texts.values()), VocabularySettings(200, min_count=1)))
    for name, content in texts.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
        build_corpus([folder / f"{name}.txt"], vocab, folder / name, build_settings=BuildSettings(workers=1))
    config = ErnieConfig(
        vocab_size=len(read_vocabulary(vocab)), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.05,
    )  # fmt: skip
    return Small(vocab, [str(folder / name) for name in texts], config)
