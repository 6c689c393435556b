"""A loss curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def draw_curve(path: Path, curve: Sequence[tuple[int, float]], held_out: Mapping[str, Mapping[str, float]]) -> None:
    """Writes a PNG of (step, training loss in nats), with every final held-out loss as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(*zip(*curve, strict=True), label="training")
    for number, (name, figures) in enumerate(held_out.items(), start=1):
        axes.axhline(
            figures["loss"], color=f"C{number}", linestyle="--", label=f"held out, {name}: {figures['loss']:.3f}"
        )
    axes.set(xlabel="step", ylabel="masked-LM loss (nats)")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
