"""The learning-rate schedule: linear warm-up, then linear decay."""

from __future__ import annotations


def learning_rate(step: int, *, peak: float, minimum: float, warmup_steps: int, decay_steps: int) -> float:
    """The rate of step 1, 2, …: linear from 0 to `peak` at `warmup_steps`, then to `minimum` at `decay_steps`, flat."""
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if step >= decay_steps:
        return minimum
    return peak + (minimum - peak) * (step - warmup_steps) / (decay_steps - warmup_steps)
