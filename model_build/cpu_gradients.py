"""Layers whose gradients are written by hand, for fast training on the CPU.

On the CPU, Paddle 2.6 spends more than half of a training step on operations other than matrix products: gradients of
biases and layer norms, random numbers of dropout, the attention mask, copies of transposed views. The layers of this
module read and write less memory, and their results are equal except for rounding. In all other cases
(evaluation, exported graphs, other devices, other precisions; see `uses_manual_gradients`) they run Paddle's own
layers. Their parameters are always those of Paddle's layers.

In the formulas x is an input, y the output, dx and dy are their gradients, @ is the matrix product, * the product of
elements, and 1 a column of ones. The code calls Paddle's kernels directly (`ops`), because calls of the public in-place
methods have ten times the overhead. The backward pass of a PyLayer can run only once, also with `retain_graph`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, _legacy_C_ops, nn
from paddle import _C_ops as ops
from paddle.autograd import PyLayer
from paddle.base import core, framework

SCORES_AT_ONCE = 2**20
"""Attention processes heads in groups of up to this number of scores (4 MiB), which fit in the processor's cache."""

_switched_on = True


def uses_manual_gradients(layer: nn.Layer, x: Tensor) -> bool:
    """Whether `layer` uses the gradients of this module for the input `x`.

    It does in training, in eager mode, on the CPU, in float32 and without autocast. Whether gradients are enabled does
    not matter: the first forward pass of a recomputed layer runs without them, and both passes must be equal.
    """
    return (
        layer.training
        and _switched_on
        and paddle.in_dynamic_mode()
        and x.dtype == paddle.float32
        and x.place.is_cpu_place()
        and framework._dygraph_tracer()._amp_level == core.AmpLevel.O0
    )


@contextlib.contextmanager
def paddle_gradients() -> Iterator[None]:
    """Within this context, all layers use Paddle's own gradients; for comparison with those of this module."""
    global _switched_on
    before, _switched_on = _switched_on, False
    try:
        yield
    finally:
        _switched_on = before


class Linear(nn.Linear):
    """y = x @ W + b."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        # The base class is named, here and below, because Paddle cannot trace a graph through `super()`.
        return linear(x, self.weight, self.bias) if uses_manual_gradients(self, x) else nn.Linear.forward(self, x)


class GELU(nn.GELU):
    """x Φ(x), where Φ is the normal distribution function (Hendrycks & Gimpel, 2016, arXiv:1606.08415)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return _Gelu.apply(x) if uses_manual_gradients(self, x) else nn.GELU.forward(self, x)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis (Ba et al., 2016, arXiv:1607.06450)."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        if uses_manual_gradients(self, x):
            return _LayerNorm.apply(x, self.weight, self.bias, self._epsilon)
        return nn.LayerNorm.forward(self, x)


class Dropout(nn.Dropout):
    """Sets a share p of the elements to zero and divides the others by 1 - p."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if uses_manual_gradients(self, x):
            return x * ops.scale_(keep_mask(x.shape, self.p), 1 / (1 - self.p), 0.0, True) if self.p else x
        return nn.Dropout.forward(self, x)


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, transpose: bool = False) -> Tensor:
    """x [..., inputs] @ weight [inputs, outputs] (or, with `transpose`, [outputs, inputs]) + bias -> [..., outputs]."""
    return _Linear.apply(x, weight, bias, transpose)


def attention(qkv: Tensor, bias: Tensor, num_heads: int, dropout: float) -> Tensor:
    """softmax(q @ kᵀ / √d + bias) @ v for every head (Vaswani et al., 2017, arXiv:1706.03762).

    qkv [B, S, 3 * H], queries, keys and values concatenated; bias [B, 1, 1 or S, S] -> [B, S, H].
    """
    return _Attention.apply(qkv, bias, num_heads, dropout)


def keep_mask(shape: list[int], dropout: float) -> Tensor:
    """float32: 0 with probability `dropout` (to 2⁻¹⁶), else 1.

    NumPy draws the bits, because Paddle takes several times as long. Paddle's generator draws the seed, so that a run
    resumed with the state of this generator has the same dropout masks.
    """
    size = math.prod(shape)
    seed = paddle.randint(0, 2**31 - 1, [2], dtype="int64").numpy()
    bits = np.random.SFC64(seed).random_raw(-(-size // 4)).view(np.uint16)[:size]
    return paddle.to_tensor(bits >= round(dropout * 2**16)).astype("float32").reshape_(shape)


class _Linear(PyLayer):
    """y = x @ W + b:  dx = dy @ Wᵀ,  dW = xᵀ @ dy,  db = 1ᵀ @ dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, transpose: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.transpose, ctx.wanted = transpose, _wanted(x, weight, bias)
        if transpose:
            y = ops.add_(ops.matmul(_rows(x), weight, False, True), bias)
        else:
            y = ops.addmm(bias, _rows(x), weight, 1.0, 1.0)
        return ops.reshape_(y, [*x.shape[:-1], y.shape[1]])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensor()
        rows, dy = _rows(x), _rows(dy)
        dx = dweight = dbias = None
        if ctx.wanted[0]:
            dx = ops.reshape_(ops.matmul(dy, weight, False, not ctx.transpose), x.shape)
        if ctx.wanted[1]:
            dweight = ops.matmul(dy, rows, True, False) if ctx.transpose else ops.matmul(rows, dy, True, False)
        if ctx.wanted[2]:
            dbias = _sum_of_rows(dy)
        return dx, dweight, dbias


class _Gelu(PyLayer):
    """y = x * Φ(x):  dx = dy * (Φ(x) + x * φ(x)),  Φ(x) = (1 + erf(x / √2)) / 2,  φ(x) = exp(-x² / 2 - ln √2π)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        cdf = ops.scale_(ops.erf_(ops.scale(x, math.sqrt(0.5), 0.0, True)), 0.5, 0.5, True)
        ctx.save_for_backward(x, cdf)
        return ops.multiply(x, cdf)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        x, cdf = ctx.saved_tensor()
        density = ops.exp_(ops.scale_(ops.multiply(x, x), -0.5, -0.5 * math.log(2 * math.pi), True))
        return ops.multiply_(ops.add_(ops.multiply_(density, x), cdf), dy)


class _LayerNorm(PyLayer):
    """y = n * γ + β,  n = (x - μ) * r, with the mean μ and the reciprocal standard deviation r of each row.

    dγ = 1ᵀ @ (dy * n),  dβ = 1ᵀ @ dy,  dx = r * (dy * γ - mean(dy * γ) - n * mean(dy * n * γ)). The means of the rows,
    of width H, are computed as matrix products with γ / H.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        # The newer call does not return mean and variance.
        y, mean, variance = _legacy_C_ops.layer_norm(x, weight, bias, "epsilon", epsilon, "begin_norm_axis", x.ndim - 1)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.epsilon, ctx.wanted = epsilon, _wanted(x, weight, bias)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensor()
        dy = _rows(dy)
        deviation = ops.reshape_(ops.rsqrt_(ops.scale(variance, 1.0, ctx.epsilon, True)), [-1, 1])
        normal = ops.multiply_(_minus_column(_rows(x), mean), deviation)
        weighted = ops.multiply(dy, normal)
        averaging = ops.reshape_(ops.scale(weight, 1 / weight.shape[0], 0.0, True), [-1, 1])
        dweight, dbias = _sum_of_rows(weighted), _sum_of_rows(dy)
        along = ops.multiply_(normal, ops.matmul(weighted, averaging, False, False))
        centred = _minus_column(ops.multiply(dy, weight), ops.matmul(dy, averaging, False, False))
        dx = ops.reshape_(ops.multiply_(ops.subtract_(centred, along), deviation), x.shape)
        return tuple(each if wanted else None for each, wanted in zip((dx, dweight, dbias), ctx.wanted, strict=True))


class _Attention(PyLayer):
    """o = p @ v,  p = softmax(s),  s = q @ kᵀ + bias, for every head; q is divided by √d first.

    dv = pᵀ @ do,  dp = do @ vᵀ,  ds = p * (dp - rowsum(p * dp)),  dq = ds @ k,  dk = dsᵀ @ q. The row sums are computed
    as rowsum(o * do), which does not read p. Dropout with a mask m of 0 and 1 replaces p by p * m in o and dv, and
    dp by dp * m. The division by 1 - dropout is applied to v, which is smaller than p.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, num_heads: int, dropout: float) -> Tensor:
        batch, length, width = qkv.shape
        bias = _square(bias)
        # The axis of the heads comes first, so that adding the bias does not broadcast over an axis in the middle.
        heads = _permuted(ops.reshape(qkv, [batch * length, 3, num_heads, -1]), [1, 2, 0, 3])
        heads = ops.unbind(ops.reshape_(heads, [3, num_heads, batch, length, -1]), 0)
        sizes = _group_sizes(num_heads, batch * length * length)
        saved, outputs = [], []
        for query, key, value in zip(*(ops.split(each, sizes, 0) for each in heads), strict=True):
            query = ops.scale(query, query.shape[-1] ** -0.5, 0.0, True)
            p = used = ops.softmax_(ops.add_(ops.matmul(query, key, False, True), bias), -1)
            keep = None
            if dropout:
                keep = keep_mask(p.shape, dropout)
                used = ops.multiply(p, keep)
                value = ops.scale(value, 1 / (1 - dropout), 0.0, True)
            outputs.append(ops.matmul(used, value, False, False))
            saved.append((query, key, value, p, keep, outputs[-1]))
        ctx.save_for_backward(*saved)
        ctx.sizes, ctx.dropout = sizes, dropout
        return ops.reshape_(_permuted(ops.concat(outputs, 0), [1, 2, 0, 3]), [batch, length, width // 3])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        batch, length, width = dy.shape
        num_heads = sum(ctx.sizes)
        dy = _permuted(ops.reshape(dy, [batch, length, num_heads, -1]), [2, 0, 1, 3])
        dqueries, dkeys, dvalues = [], [], []
        for doutput, saved in zip(ops.split(dy, ctx.sizes, 0), ctx.saved_tensor(), strict=True):
            query, key, value, p, keep, output = saved
            dvalue = ops.matmul(p if keep is None else ops.multiply(p, keep), doutput, True, False)
            dp = ops.matmul(doutput, value, False, True)
            if keep is not None:
                dvalue = ops.scale_(dvalue, 1 / (1 - ctx.dropout), 0.0, True)
                dp = ops.multiply_(dp, keep)
            row_sums = ops.sum(ops.multiply(doutput, output), [-1], None, True)
            dscores = ops.multiply_(ops.subtract_(dp, row_sums), p)
            dqueries.append(ops.scale_(ops.matmul(dscores, key, False, False), query.shape[-1] ** -0.5, 0.0, True))
            dkeys.append(ops.matmul(dscores, query, True, False))
            dvalues.append(dvalue)
        dqkv = ops.reshape_(ops.concat(dqueries + dkeys + dvalues, 0), [3, num_heads, batch, length, -1])
        return ops.reshape_(_permuted(dqkv, [2, 3, 0, 1, 4]), [batch, length, 3 * width])


def _group_sizes(num_heads: int, scores: int) -> list[int]:
    """Numbers of heads to process together, if each head has `scores` scores: equal groups, and a smaller last one."""
    size = min(num_heads, max(1, SCORES_AT_ONCE // scores))
    rest = num_heads % size
    return [size] * (num_heads // size) + [rest] * (rest > 0)


def _square(bias: Tensor) -> Tensor:
    """[B, 1, 1 or S, S] -> [B, S, S]."""
    batch, _, queries, length = bias.shape
    if queries == 1:
        bias = ops.matmul(_ones(length, 1), ops.reshape(bias, [batch, 1, length]), False, False)
    return ops.reshape(bias, [batch, length, length])


def _permuted(x: Tensor, axes: list[int]) -> Tensor:
    """A transposed copy. The newer call returns a view, on which later kernels are several times as slow."""
    return _legacy_C_ops.transpose2(x, "axis", axes)[0]


def _rows(x: Tensor) -> Tensor:
    """[..., width] -> [N, width]."""
    return ops.reshape(x, [-1, x.shape[-1]])


def _sum_of_rows(x: Tensor) -> Tensor:
    """[N, width] -> [width], as a matrix product, which is several times as fast as the kernel for sums."""
    return ops.reshape_(ops.matmul(_ones(1, x.shape[0]), x, False, False), [-1])


def _minus_column(x: Tensor, column: Tensor) -> Tensor:
    """x [N, width] - column [N or N, 1] -> [N, width], as a product of rank 1, which is faster than broadcasting."""
    return ops.addmm(x, ops.reshape(column, [-1, 1]), _ones(1, x.shape[1]), 1.0, -1.0)


def _ones(*shape: int) -> Tensor:
    return ops.full(shape, 1.0, paddle.float32, paddle.CPUPlace())


def _wanted(*tensors: Tensor) -> tuple[bool, ...]:
    """Which inputs of a PyLayer need a gradient; for the others, Paddle requires None."""
    return tuple(not tensor.stop_gradient for tensor in tensors)
