"""Data parallelism over the processes that `paddle.distributed.launch` started, or a single process.

Every process has the whole model and a share of each batch; the gradients are summed once per step, by NCCL between
GPUs and by Gloo between CPUs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn


class ProcessGroup:
    """The processes of one run. With one process, every operation returns its argument unchanged."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self._meetings = 0

    @property
    def is_leader(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def sum(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """float64 [n], summed over all processes."""
        total = np.asarray(values, dtype=np.float64)
        if self.size == 1:
            return total
        tensor = paddle.to_tensor(total)
        paddle.distributed.all_reduce(tensor)
        return tensor.numpy()

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replaces every gradient by its sum over all processes, in one message."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        joined = paddle.concat([paddle.reshape(each, [-1]) for each in gradients])
        paddle.distributed.all_reduce(joined)
        parts = paddle.split(joined, [int(np.prod(each.shape)) for each in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(paddle.reshape(part, gradient.shape), True)

    def wait(self) -> None:
        """Waits until every process has called this. Unlike a barrier of Gloo, it has no timeout of 30 s.

        Used around long work such as checkpoints; a call takes 45 ms, too long for every step. The launcher ends all
        processes when one of them fails, so the wait always ends.
        """
        if self.size == 1:
            return
        store = paddle.base.core.create_or_get_global_tcp_store()
        self._meetings += 1
        arrived, pause = store.add("meetings", 1), 1e-3
        while arrived < self._meetings * self.size:
            time.sleep(pause)
            arrived, pause = store.add("meetings", 0), min(2 * pause, 0.5)

    def share_weights(self, model: nn.Layer) -> None:
        """Copies the weights of the first process to all others."""
        if self.size > 1:
            for parameter in model.parameters():
                paddle.distributed.broadcast(parameter, 0)


def join() -> ProcessGroup:
    """Joins the processes of `paddle.distributed.launch`; without the launcher, returns a group of one process."""
    size = int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))
    if size == 1:
        return ProcessGroup()
    paddle.distributed.init_parallel_env()
    return ProcessGroup(paddle.distributed.get_rank(), paddle.distributed.get_world_size())
