"""The log of a pretraining run: progress, records, scalars for VisualDL, and the report page.

OUTPUT/records.jsonl       loss, learning rate and speed, one JSON object every --log-every steps
OUTPUT/evaluations.jsonl   figures on the validation split
OUTPUT/visualdl/           both, for `visualdl --logdir OUTPUT/visualdl`
OUTPUT/report.html         curves, figures and sample sentences
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from training.pretraining.filled_samples import FilledSample
from training.reports.pretraining_report import write_report
from training.runs.progress import Progress
from training.runs.records import Records
from training.runs.visualdl import VisualDL

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepFigures:
    """The figures of one optimiser step, over all processes."""

    masked_lm: float
    """mean loss in nats over the tokens to predict"""
    sentence_order: float | None
    """mean loss in nats over pairs; None without sentence order"""
    learning_rate: float
    gradient_norm: float
    tokens: int
    """without padding"""
    positions: int
    """with padding"""
    samples: int
    minimised: float | None = None
    """the total loss in a distillation; None: masked_lm + sentence_order"""
    logits: float | None = None
    """mean loss in nats on the teacher's probabilities; None if this loss is not used"""
    relations: float | None = None
    """mean loss in nats on the teacher's relations; None if this loss is not used"""

    @property
    def loss(self) -> float:
        """The loss that was minimised, in nats."""
        return self.masked_lm + (self.sentence_order or 0.0) if self.minimised is None else self.minimised


@dataclass
class RunLog:
    """The log of one run, kept by the leading process. A context manager.

    `step` is the step at which the run starts; later records, of a run that was killed, are removed.
    """

    output: Path
    title: str
    settings: Mapping[str, Any]
    step: int
    steps: int
    every: int
    unrecorded: list[StepFigures] = field(default_factory=list)
    """the steps since the last record; checkpoints contain them, so that a resumed run writes the same records"""

    def __post_init__(self) -> None:
        self._records = Records(self.output / "records.jsonl")
        self._evaluations = Records(self.output / "evaluations.jsonl")
        for records in (self._records, self._evaluations):
            records.cut(self.step)
        earlier = {"train": self._records.read(), "validation": self._evaluations.read()}
        self._visualdl = VisualDL(self.output / "visualdl", earlier)
        self._progress = Progress("pretrain", self.steps, self.step, unit="step")
        self._since = time.monotonic()
        self._note = ""

    def add(self, step: StepFigures, *, tokens: int, skipped_steps: int, loss_scale: float) -> None:
        """Counts one step, and writes a record if it is due; the other arguments are totals of the run."""
        self.step += 1
        self.unrecorded.append(step)
        if self.step % self.every == 0 or self.step == self.steps:
            record = self._record() | {"tokens": tokens, "skipped_steps": skipped_steps, "loss_scale": loss_scale}
            self._records.append(record)
            self._visualdl.append("train", record)
            self._note = " ".join(
                f"{name} {record[key]:{shape}}"
                for name, key, shape in (
                    ("loss", "loss", ".3f"), ("mlm", "mlm", ".3f"), ("sop", "sop", ".3f"),
                    ("logits", "logits", ".3f"), ("relations", "relations", ".3f"),
                    ("lr", "learning_rate", ".2e"),
                    ("tokens/s", "tokens_per_second", ",.0f"), ("samples/s", "samples_per_second", ",.1f"),
                    ("padding", "padding", ".1%"), ("skipped", "skipped_steps", "d"),
                )
                if record.get(key) is not None
            )  # fmt: skip
        self._progress.add(1, self._note)

    def _record(self) -> dict[str, Any]:
        """The record of the steps since the last one; its speed excludes evaluations and checkpoints."""
        steps, seconds = self.unrecorded, time.monotonic() - self._since
        self.unrecorded, self._since = [], time.monotonic()
        tokens, positions, samples = (
            sum(getattr(each, name) for each in steps) for name in ("tokens", "positions", "samples")
        )
        record: dict[str, Any] = {
            "step": self.step,
            "loss": _mean([each.loss for each in steps]),
            "mlm": _mean([each.masked_lm for each in steps]),
            "learning_rate": steps[-1].learning_rate,
            "gradient_norm": _mean([each.gradient_norm for each in steps]),
            "tokens_per_second": tokens / seconds,
            "samples_per_second": samples / seconds,
            "padding": 1 - tokens / positions,
        }
        for name, key in (("sop", "sentence_order"), ("logits", "logits"), ("relations", "relations")):
            if getattr(steps[-1], key) is not None:
                record[name] = _mean([getattr(each, key) or 0.0 for each in steps])
        return record

    def pause_clock(self) -> float:
        """The time in seconds at the start of an evaluation or a checkpoint; the argument of `resume_clock`."""
        return time.monotonic()

    def resume_clock(self, paused: float) -> None:
        """Excludes the time since `pause_clock` from the speed."""
        self._since += time.monotonic() - paused

    def evaluated(self, figures: Mapping[str, float], filled_samples: Sequence[FilledSample]) -> None:
        """Records metrics on the validation split, such as `word/top1`, and rewrites the report."""
        record = {"step": self.step, **figures}
        self._evaluations.append(record)
        self._visualdl.append("validation", record)
        log.info(
            "step %d, validation: %s", self.step, ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
        )
        for filling in filled_samples[:2]:
            log.info("%s", filling)
        self.write_report(filled_samples)

    def write_report(self, filled_samples: Sequence[FilledSample]) -> None:
        """Writes `report.html`."""
        write_report(
            self.output / "report.html",
            title=self.title,
            settings=self.settings,
            records=self._records.read(),
            evaluations=self._evaluations.read(),
            filled_samples=filled_samples,
        )

    def evaluations(self) -> list[dict[str, Any]]:
        """All evaluations of the run."""
        return self._evaluations.read()

    def __enter__(self) -> RunLog:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        self._visualdl.close()
        for records in (self._records, self._evaluations):
            records.close()


def _mean(values: Sequence[float]) -> float:
    """The mean of the finite values: a skipped step with infinite loss does not hide the others."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
