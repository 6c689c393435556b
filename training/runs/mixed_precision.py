"""Mixed precision: operations in 16 bits, and the loss scale that prevents underflow of fp16 gradients.

Source: Micikevicius et al., "Mixed precision training" (arXiv:1710.03740).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping

import paddle

LARGEST = 2.0**24


class DivergedError(RuntimeError):
    """The gradients stay infinite or NaN; the message says what to change."""


def check(precision: str) -> None:
    """Raises ValueError if this machine cannot train in `precision`."""
    if precision != "fp32" and not paddle.get_device().startswith("gpu"):
        raise ValueError(
            f"--precision {precision} needs a GPU: Paddle {paddle.__version__} has no mixed precision on CPUs; "
            "use --precision fp32."
        )
    if precision == "bf16" and not paddle.amp.is_bfloat16_supported():
        raise ValueError("--precision bf16 needs a GPU of compute capability 8.0 or above; use fp16 or fp32.")


def autocast(precision: str) -> contextlib.AbstractContextManager[None]:
    """The context of the forward pass: matrix products in `precision`; sums, norms and weights in float32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return paddle.amp.auto_cast(level="O1", dtype={"bf16": "bfloat16", "fp16": "float16"}[precision])


@dataclasses.dataclass
class LossScale:
    """The factor of the loss, and counts of good and bad steps.

    With fp16 the factor doubles after `growth_interval` good steps and halves after each bad step; otherwise it stays
    1. A bad step, whose gradients are not finite, does not change the weights.
    """

    value: float = 1.0
    dynamic: bool = False
    growth_interval: int = 1000
    good_steps: int = 0
    """good steps in a row, since the last change of the factor"""
    bad_steps: int = 0
    """bad steps in a row"""
    skipped: int = 0
    """bad steps of the whole run"""

    @classmethod
    def of(cls, precision: str) -> LossScale:
        return cls(value=2.0**15, dynamic=True) if precision == "fp16" else cls()

    def update(self, *, finite: bool, max_bad_steps: int, remedy: str) -> None:
        """Counts one step. Raises DivergedError, which ends with `remedy`, after `max_bad_steps` bad ones in a row."""
        if finite:
            self.bad_steps = 0
            self.good_steps += 1
            if self.dynamic and self.good_steps >= self.growth_interval:
                self.value, self.good_steps = min(2 * self.value, LARGEST), 0
            return
        self.skipped += 1
        self.bad_steps += 1
        self.good_steps = 0
        if self.dynamic:
            self.value = max(1.0, self.value / 2)
        if self.bad_steps >= max_bad_steps:
            raise DivergedError(
                f"the gradients of {self.bad_steps} steps in a row were infinite or not a number (loss scale "
                f"{self.value:g}); begin again {remedy}."
            )

    def state(self) -> dict[str, float]:
        """The state for a checkpoint."""
        return {name: getattr(self, name) for name in ("value", "good_steps", "bad_steps", "skipped")}

    def restore(self, state: Mapping[str, float]) -> None:
        """Restores the result of `state()`."""
        for name, value in state.items():
            setattr(self, name, value)
