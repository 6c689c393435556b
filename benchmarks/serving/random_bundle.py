"""Makes bundles of the size of a variant with random weights: as fast as trained ones, and made in a minute.

    python -m benchmarks.serving.random_bundle --variant ernie-3.0-nano-zh --output output/bench-models

The vocabulary is that of the embedded models, extended to the size of the variant with tokens that occur in no text.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from model_build.bundle import Task, find_bundles, read_vocabulary

EMBEDDED = Path(__file__).parents[2] / "models"
# A forward pass that is nearly free.
TINY = "tiny"
TINY_LENGTH = 128


def make(variant: str, task: Task, output: Path, max_length: int = 512, plain: bool = False, name: str = "") -> Path:
    """Exports `<output>/<name>/1`; returns its directory. The name is `<variant>-<task>` unless another is given.

    `plain` exports the whole forward pass of the classifier, with all of its last layer, as other exporters do.
    """
    import paddle

    from model_build.checkpoint import Checkpoint, save_checkpoint
    from model_build.config import ErnieConfig
    from model_build.config import variant as config_of
    from model_build.export import LogitsGraph, export_checkpoint
    from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification

    class Plain(LogitsGraph):
        def forward(self, input_ids: paddle.Tensor, token_type_ids: paddle.Tensor) -> paddle.Tensor:
            return self.model(input_ids, token_type_ids)

    paddle.seed(1)
    tokens = read_vocabulary(find_bundles(EMBEDDED)[0].vocab_path)
    if variant == TINY:
        config = dataclasses.replace(
            ErnieConfig(vocab_size=len(tokens)), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8, max_position_embeddings=TINY_LENGTH,
        )  # fmt: skip
    else:
        config = config_of(variant)
    length = min(max_length, config.max_position_embeddings)
    tokens = tokens[: config.vocab_size]
    tokens += [f"[unused{number}]" for number in range(config.vocab_size - len(tokens))]
    model = ErnieForMaskedLM(config) if task == "fill-mask" else ErnieForSequenceClassification(config, 2)
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(tokens) + "\n", encoding="utf-8")
        about = Checkpoint(config, task, length, ["negative", "positive"] if task == "classify" else [])
        save_checkpoint(Path(folder) / "checkpoint", about, model, vocab, [])
        graph: dict[str, Any] = {"make_graph": lambda _, model, *sizes: Plain(model, 2)} if plain else {}
        name = name or f"{variant}-{task}{'-plain' if plain else ''}"
        return export_checkpoint(Path(folder) / "checkpoint", output, name=name, **graph).directory


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.random_bundle", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--variant", default="ernie-3.0-nano-zh", help="of model_build.config, or tiny (default: ernie-3.0-nano-zh)"
    )
    parser.add_argument("--task", choices=("classify", "fill-mask"), default="classify")
    parser.add_argument("--plain", action="store_true", help="the classifier's whole forward pass, as others export it")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a text at most (default: 512)")
    parser.add_argument("--output", type=Path, default=Path("output/bench-models"), help="model repository to write to")
    arguments = parser.parse_args()
    print(make(arguments.variant, arguments.task, arguments.output, arguments.max_length, arguments.plain))


if __name__ == "__main__":
    main()
