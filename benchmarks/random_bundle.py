"""Makes bundles of a variant's size with random weights: as fast as trained ones, and made in a minute.

    python -m benchmarks.random_bundle --variant ernie-3.0-nano-zh --output output/bench-models

The vocabulary is that of the embedded models, filled up to the variant's size with tokens that no text has.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from model_build.bundle import Task, find_bundles, read_vocabulary

EMBEDDED = Path(__file__).parent.parent / "models"


def make(variant: str, task: Task, output: Path, max_length: int, plain: bool = False) -> Path:
    """Exports `<output>/<variant>-<task>/1`; returns its directory.

    `plain` exports the classifier's own forward pass, last layer and all, as other exporters do.
    """
    import paddle

    from model_build.checkpoint import Checkpoint, save_checkpoint
    from model_build.config import variant as config_of
    from model_build.export import LogitsGraph, export_checkpoint
    from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification

    paddle.seed(1)
    config = config_of(variant)
    length = min(max_length, config.max_position_embeddings)
    tokens = read_vocabulary(find_bundles(EMBEDDED)[0].vocab_path)[: config.vocab_size]
    tokens += [f"[unused{number}]" for number in range(config.vocab_size - len(tokens))]
    model = ErnieForMaskedLM(config) if task == "fill-mask" else ErnieForSequenceClassification(config, 2)
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(tokens) + "\n", encoding="utf-8")
        about = Checkpoint(config, task, length, ["negative", "positive"] if task == "classify" else [])
        save_checkpoint(Path(folder) / "checkpoint", about, model, vocab, [])
        if not plain:
            return export_checkpoint(Path(folder) / "checkpoint", output, name=f"{variant}-{task}").directory

        class Plain(LogitsGraph):
            def forward(self, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor) -> paddle.Tensor:
                return self.model(input_ids, token_type_ids)

        name = f"{variant}-{task}-plain"
        made = export_checkpoint(
            Path(folder) / "checkpoint", output, name=name, make_graph=lambda _, model, *sizes: Plain(model, 2)
        )
        return made.directory


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.random_bundle", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--variant", default="ernie-3.0-nano-zh", help="of model_build.config (default: ernie-3.0-nano-zh)"
    )
    parser.add_argument("--task", choices=("classify", "fill-mask"), default="classify")
    parser.add_argument("--plain", action="store_true", help="the classifier's whole forward pass, as others export it")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a text at most (default: 512)")
    parser.add_argument("--output", type=Path, default=Path("output/bench-models"), help="model repository to write to")
    arguments = parser.parse_args()
    print(make(arguments.variant, arguments.task, arguments.output, arguments.max_length, arguments.plain))


if __name__ == "__main__":
    main()
