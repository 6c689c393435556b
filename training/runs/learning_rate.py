"""The learning-rate schedule: linear warm-up, then linear decay."""

from __future__ import annotations


def learning_rate(step: int, *, peak: float, minimum: float, warmup_steps: int, decay_steps: int) -> float:
    """The learning rate of step 1, 2, …: linear from 0 to `peak` at step `warmup_steps`, then linear to `minimum` at
    step `decay_steps`, then constant."""
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if step >= decay_steps:
        return minimum
    return peak + (minimum - peak) * (step - warmup_steps) / (decay_steps - warmup_steps)
