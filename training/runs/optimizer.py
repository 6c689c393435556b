"""AdamW as in BERT and ERNIE, without weight decay on biases and norms; global gradient norm; optimiser state.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (arXiv:1711.05101).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

ACCUMULATORS = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")


def adamw(
    model: nn.Layer,
    *,
    weight_decay: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> paddle.optimizer.AdamW:
    """AdamW over all parameters; set the learning rate before every step. Vectors (biases, norms) do not decay."""
    decayed = {parameter.name for parameter in model.parameters() if parameter.ndim > 1}
    return paddle.optimizer.AdamW(
        0.0,
        beta1,
        beta2,
        epsilon,
        parameters=model.parameters(),
        weight_decay=weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
    )


def gradient_norm(parameters: Sequence[Tensor]) -> float:
    """The Euclidean norm of all gradients together; infinite or NaN if a gradient is."""
    squares = [paddle.sum(paddle.square(each.grad.astype("float32"))) for each in parameters if each.grad is not None]
    return float(np.sqrt(float(paddle.add_n(squares))))


def scale_gradients(parameters: Sequence[Tensor], factor: float) -> None:
    """Multiplies every gradient by `factor`, in place."""
    if factor != 1.0:
        with paddle.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.scale_(factor)


def optimizer_state(optimizer: paddle.optimizer.Optimizer, model: nn.Layer) -> dict[str, np.ndarray]:
    """The accumulators of every parameter, `<parameter>.<accumulator>`, by the parameter names of the model.

    Paddle's own names contain a counter of the layers in the process, so another process could not read them.
    """
    state = optimizer.state_dict()
    return {
        f"{name}.{accumulator}": state[f"{parameter.name}_{accumulator}_0"].numpy()
        for name, parameter in model.named_parameters()
        for accumulator in ACCUMULATORS
        if f"{parameter.name}_{accumulator}_0" in state
    }


def restore_optimizer(optimizer: paddle.optimizer.Optimizer, model: nn.Layer, state: Mapping[str, np.ndarray]) -> None:
    """Restores the result of `optimizer_state`."""
    optimizer.set_state_dict(
        {
            f"{parameter.name}_{accumulator}_0": paddle.to_tensor(state[f"{name}.{accumulator}"])
            for name, parameter in model.named_parameters()
            for accumulator in ACCUMULATORS
            if f"{name}.{accumulator}" in state
        }
    )
