"""Pretraining speed: our loop against a plain loop over PaddleNLP's own model, on the same samples of real text.

    python -m benchmarks.pretraining --data ../shared/data/corpus --vocab ../shared/data/vocab/ernie-1.0.vocab.txt

Both train 4 layers of 312 (ernie-3.0-nano) with dropout, sentence order, AdamW and clipping, with the same threads and
the same MKL settings. PaddleNLP's `ErnieForPretraining` is fed as its ERNIE 1.0 scripts feed it: every row padded to
512. Tokens are counted without padding. The two take turns, round by round.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from training.runs import cpu_environment

LENGTH = 512


def medians(label: str, values: list[float], unit: str) -> str:
    """`label 123 (lowest–highest) unit`."""
    return f"{label} {statistics.median(values):,.2f} ({min(values):,.2f}–{max(values):,.2f}) {unit}"


def build(files: list[Path], vocab: Path, work: Path) -> list[str]:
    """One corpus a file, in `work`; those that are there are kept."""
    from training.corpus.build import build_corpus

    for file in files:
        build_corpus([file], vocab, work / file.stem)
    return [str(work / file.stem) for file in files]


def ours(corpora: list[str], vocab: Path, work: Path, samples: int) -> Iterator[int]:
    """Trains a step at each `next`, and gives the tokens seen in it."""
    from training.pretraining.data import open_data
    from training.pretraining.loop import PretrainingLoop, PretrainJob
    from training.runs.checkpoints import Checkpoints
    from training.runs.data_parallel import ProcessGroup

    config, settings = shape(), settings_of(samples)
    job = PretrainJob(corpora, vocab, work / "run", config, settings)
    data = open_data(
        corpora, vocab, config, settings, evaluation_samples=1, threads=1, cache=work / "samples", group=ProcessGroup()
    )
    run = PretrainingLoop(job, data, ProcessGroup(), Checkpoints(work / "none", {}, writer=False))
    for batch in data.train.iterate():
        run.train_step(batch)
        yield int(batch.lengths.sum())


def theirs(corpora: list[str], vocab: Path, work: Path, samples: int) -> Iterator[int]:
    """The same samples, padded to the full length, through PaddleNLP's model, criterion and optimiser settings."""
    import numpy as np
    import paddle
    from paddlenlp.transformers import ErnieConfig as PublishedConfig
    from paddlenlp.transformers import ErnieForPretraining
    from paddlenlp.transformers.ernie.modeling import ErniePretrainingCriterion

    from training.pretraining.data import open_data
    from training.runs.data_parallel import ProcessGroup

    config, settings = shape(), settings_of(samples)
    data = open_data(
        corpora, vocab, config, settings, evaluation_samples=1, threads=1, cache=work / "samples", group=ProcessGroup()
    )
    model = ErnieForPretraining(PublishedConfig(**config.to_dict()))
    criterion = ErniePretrainingCriterion(with_nsp_loss=True)
    decay = [each.name for name, each in model.named_parameters() if not any(nd in name for nd in ("bias", "norm"))]
    optimizer = paddle.optimizer.AdamW(
        1e-4, parameters=model.parameters(), weight_decay=0.01, apply_decay_param_fun=lambda name: name in decay,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
    )  # fmt: skip
    model.train()
    for batch in data.train.iterate():
        rows, width = batch.input_ids.shape
        ids, types = (np.pad(each, ((0, 0), (0, LENGTH - width))) for each in (batch.input_ids, batch.token_type_ids))
        row, column = np.divmod(batch.mask_positions, width)
        mask = (np.arange(LENGTH) >= batch.lengths[:, None]).astype(np.float32)[:, None, None, :] * -1e4
        scores, order = model(
            paddle.to_tensor(ids), paddle.to_tensor(types), attention_mask=paddle.to_tensor(mask),
            masked_positions=paddle.to_tensor(row * LENGTH + column),
        )  # fmt: skip
        labels = np.maximum(batch.sentence_order_labels, 0)[:, None]
        losses = criterion(scores, order, paddle.to_tensor(batch.labels[:, None]), paddle.to_tensor(labels))
        sum(losses).backward()
        optimizer.step()
        optimizer.clear_grad()
        assert rows == settings.batch_size
        yield int(batch.lengths.sum())


def shape():  # type: ignore[no-untyped-def]  # Paddle is imported late
    """ernie-3.0-nano with the vocabulary of ERNIE 1.0 and 512 positions."""
    from model_build.config import variant

    return dataclasses.replace(variant("ernie-3.0-nano-zh"), vocab_size=18_000, max_position_embeddings=LENGTH)


def settings_of(samples: int):  # type: ignore[no-untyped-def]
    """The settings of both."""
    from training.pretraining.settings import PretrainSettings

    return PretrainSettings(batch_size=samples, max_seq_length=LENGTH, micro_tokens=4096, learning_rate=1e-4)


def speed(steps: Iterator[int], count: int) -> float:
    """Tokens per second over `count` steps."""
    begun = time.perf_counter()
    return sum(next(steps) for _ in range(count)) / (time.perf_counter() - begun)


Loop = Callable[[list[str], Path, Path, int], Iterator[int]]


def main() -> None:
    """Measures both on all of the text, and on its long documents only."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretraining", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/corpus"), help="folder of .txt files")
    parser.add_argument(
        "--vocab", type=Path, default=Path("../shared/data/vocab/ernie-1.0.vocab.txt"), help="vocabulary"
    )
    parser.add_argument("--work", type=Path, default=Path("output/benchmarks/pretraining"), help="folder for corpora")
    parser.add_argument("--samples", type=int, default=16, help="samples a step (default: 16)")
    parser.add_argument("--steps", type=int, default=2, help="steps a round (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    arguments = parser.parse_args()
    cpu_environment.prepare()
    files = sorted(arguments.data.glob("*.txt"))
    longest = [file for file in files if file.stem in ("news_and_web", "finance_web")] or files[:1]
    for name, chosen in (("all text", files), ("long documents only", longest)):
        corpora = build(chosen, arguments.vocab, arguments.work)
        loops = {"ours": ours, "PaddleNLP": theirs}
        running = {
            label: loop(corpora, arguments.vocab, arguments.work, arguments.samples) for label, loop in loops.items()
        }
        fill = [next(steps) / (arguments.samples * LENGTH) for steps in running.values()]  # a first step to warm up
        found: dict[str, list[float]] = {label: [] for label in running}
        for _ in range(arguments.rounds):
            for label, steps in running.items():
                found[label].append(speed(steps, arguments.steps))
        ratios = [one / other for one, other in zip(found["ours"], found["PaddleNLP"], strict=True)]
        print(f"{name} ({', '.join(file.stem for file in chosen)}): rows of {LENGTH} are {fill[0]:.0%} full")
        for label, values in found.items():
            print(f"  {medians(label, values, 'tokens/s')}")
        print(f"  {medians('ratio', ratios, 'times as fast')}", flush=True)


if __name__ == "__main__":
    main()
