"""The operators of a model file in float32, as PyTorch computes them.

Each takes the inputs of a node, then its attributes by name. An input is a tensor, a float where it is a constant
without dimensions, a list where it is an int64 constant (those that decide shapes), or None where it is left out.
Semantics are those of opset 18: https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Operation = Callable[..., Any]
_NO_PADS = (0, 0, 0, 0)


def _padded(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Pad the last two axes, one by one: PyTorch's own padding is the same on both sides, and at most half a kernel."""
    top, left, bottom, right = pads
    return functional.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pads: Sequence[int] = _NO_PADS,
    strides: Sequence[int] = (1, 1),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
) -> Tensor:
    top, left, bottom, right = pads
    even = (top, left) == (bottom, right)
    return functional.conv2d(
        x if even else _padded(x, pads), weight, bias, tuple(strides), (top, left) if even else 0, tuple(dilations),
        group,
    )  # fmt: skip


def _largest(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = _NO_PADS,
    dilations: Sequence[int] = (1, 1),
    ceil_mode: int = 0,
) -> Tensor:
    return functional.max_pool2d(
        _padded(x, pads, -torch.inf), tuple(kernel_shape), tuple(strides), 0, tuple(dilations), bool(ceil_mode)
    )


def _average(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = _NO_PADS,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Tensor:
    def pooled(values: Tensor) -> Tensor:
        return functional.avg_pool2d(_padded(values, pads), tuple(kernel_shape), tuple(strides), 0, bool(ceil_mode))

    # The mean of what is there is the mean with zeros, divided by the share of the window that is there.
    counted = count_include_pad or not any(pads)
    return pooled(x) if counted else pooled(x) / pooled(torch.ones_like(x[:1, :1]))


def _normalised_batch(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, epsilon: float = 1e-5
) -> Tensor:
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)


def _normalised_layer(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> Tensor:
    return functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _normalised_instance(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return functional.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def _flat(x: Tensor, *, axis: int = 1) -> Tensor:
    return x.flatten(axis) if axis == 1 else x.flatten(axis).flatten(0, axis - 1)


def _dense(a: Tensor, b: Tensor, c: Tensor | float | None = None) -> Tensor:
    return a @ b if c is None else a @ b + c


def _around(x: Tensor, pads: Sequence[int], value: Tensor | float | None = None) -> Tensor:
    count = len(pads) // 2
    turned = [pads[place] for axis in reversed(range(count)) for place in (axis, axis + count)]
    return functional.pad(x, turned, value=0.0 if value is None else float(value))


def _part(
    x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int] | None = None
) -> Tensor:
    slices = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(axes), strict=True):
        slices[axis] = slice(start, end, step)
    return x[tuple(slices)]


def _top(x: Tensor, k: Sequence[int], *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    found = torch.topk(x, k[0], axis, bool(largest), bool(sorted))
    return found.values, found.indices


def _limited(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def _slope(x: Tensor, slope: Tensor | float) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def _selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * functional.elu(x, alpha)


def _reduced(reduce: Callable[[Tensor, Sequence[int], bool], Tensor]) -> Operation:
    def operation(x: Tensor, axes: Sequence[int] | None = None, *, keepdims: int = 1) -> Tensor:
        return reduce(x, list(axes or range(x.ndim)), bool(keepdims))

    return operation


OPERATIONS: Mapping[str, Operation] = {
    "Abs": torch.abs,
    "Add": lambda a, b: a + b,
    "AveragePool": _average,
    "BatchNormalization": _normalised_batch,
    "Cast": lambda x, to: x.to(torch.float32),  # no other type is accepted in a model file
    "Clip": _limited,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _convolution,
    "Div": lambda a, b: a / b,
    "Elu": lambda x, alpha=1.0: functional.elu(x, alpha),
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Flatten": _flat,
    "Gemm": _dense,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: torch.clamp(x * alpha + beta, 0.0, 1.0),
    "HardSwish": functional.hardswish,
    "InstanceNormalization": _normalised_instance,
    "LayerNormalization": _normalised_layer,
    "LeakyRelu": lambda x, alpha=0.01: functional.leaky_relu(x, alpha),
    "MatMul": torch.matmul,
    "MaxPool": _largest,
    "Mul": lambda a, b: a * b,
    "Neg": torch.neg,
    "PRelu": _slope,
    "Pad": _around,
    "Pow": lambda a, b: a**b,
    "Reciprocal": torch.reciprocal,
    "ReduceL2": _reduced(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep)),
    "Relu": torch.relu,
    "Reshape": lambda x, shape: x.reshape(shape),
    "Selu": _selu,
    "Sigmoid": torch.sigmoid,
    "Slice": _part,
    "Softmax": lambda x, axis=-1: torch.softmax(x, axis),
    "Sqrt": torch.sqrt,
    "Sub": lambda a, b: a - b,
    "Tanh": torch.tanh,
    "TopK": _top,
    "Transpose": lambda x, perm: x.permute(perm),
}
