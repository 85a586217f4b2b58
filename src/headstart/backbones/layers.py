"""Builders of convolution layers as ONNX nodes: the same network in float32 or in int8.

The int8 form needs no images: what a layer's values look like follows from its batch norm, whose outputs have
mean `bias` and standard deviation `weight` on the training images (Nagel et al. 2019, "Data-Free Quantization").
So one embedder serves every data set, and cached embeddings stay valid from one training to the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

BATCH_NORM_EPSILON = 1e-3  # TensorFlow's, which the weights of EfficientNet-Lite were trained with
RELU6_MAX = 6.0
# Values further from the mean are clipped; 5 and 6 gave the smallest error of the embedding, 3 and 8 larger ones.
RANGE_STD = 5.0
# 7 bits instead of 8: on processors without VNNI, ONNX Runtime adds pairs of products in 16 bits, which 8-bit
# weights overflow. With 7 the integer sums are exact, so that every processor computes the same ones.
WEIGHT_MAX = 63
ACTIVATION_MAX = 255


@dataclass(frozen=True)
class Tensor:
    """A value inside the network.

    Attributes:
        name: Its name in the graph.
        mean: Expected mean of each channel, (C,).
        variance: Expected variance of each channel, (C,).
        size_px: Its height and width.
        scale: Step between two int8 levels; unused in float32.
    """

    name: str
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    size_px: int
    scale: float = 0.0


class Layers:
    """Adds float32 layers to a graph.

    Args:
        graph: Where the nodes go.
        weights: The network's tensors by name.
    """

    def __init__(self, graph: Graph, weights: dict[str, NDArray[Any]]) -> None:
        self.graph = graph
        self.weights = weights

    def input(self, pixels: str, size_px: int) -> Tensor:
        """The network's input, normalised to -1..1."""
        return self._limited(Tensor(pixels, np.zeros(3), np.full(3, 0.25), size_px), -1.0, 1.0)

    def convolution(
        self,
        x: Tensor,
        name: str,
        norm: str,
        *,
        kernel: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activation: bool = True,
    ) -> Tensor:
        """A convolution with TensorFlow's SAME padding, its batch norm, and ReLU6."""
        kernels, bias = fold(self.weights, name, norm)
        size_px = -(-x.size_px // stride)
        total = max((size_px - 1) * stride + kernel - x.size_px, 0)  # SAME padding; the odd pixel goes to the end
        before, after = total // 2, total - total // 2
        y = self.graph.node(
            "Conv",
            [x.name, *self._parameters(x, name, kernels, bias, depthwise)],
            f"{name}.out",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(kernels) if depthwise else 1,
        )
        mean, std = (self.weights[f"{norm}.{part}"].astype(np.float64) for part in ("bias", "weight"))
        if not activation:
            return self._ranged(Tensor(y, mean, std**2, size_px))
        clipped = Tensor(self._relu6(y), mean_of_relu6(mean, np.abs(std)), std**2, size_px)
        return self._limited(clipped, 0.0, RELU6_MAX)

    def add(self, x: Tensor, shortcut: Tensor, name: str) -> Tensor:
        """The sum at the end of a residual block."""
        total = self.graph.node("Add", [x.name, shortcut.name], name)
        return self._ranged(Tensor(total, x.mean + shortcut.mean, x.variance + shortcut.variance, x.size_px))

    def _ranged(self, x: Tensor) -> Tensor:
        spread = RANGE_STD * np.sqrt(x.variance)
        return self._limited(x, float((x.mean - spread).min()), float((x.mean + spread).max()))

    def _relu6(self, name: str) -> str:
        low = self.graph.constant("relu6.min", np.float32(0))
        high = self.graph.constant("relu6.max", np.float32(RELU6_MAX))
        return self.graph.node("Clip", [name, low, high], f"{name}.relu6")

    def _limited(self, x: Tensor, low: float, high: float) -> Tensor:
        return x

    def _parameters(
        self, x: Tensor, name: str, kernels: NDArray[np.float32], bias: NDArray[np.float32], depthwise: bool
    ) -> tuple[str, str]:
        return self.graph.constant(f"{name}.kernel", kernels), self.graph.constant(f"{name}.bias", bias)


class Int8Layers(Layers):
    """Adds int8 layers in the QDQ form: quantised values between pairs of (De)QuantizeLinear, which runtimes fuse.

    Kernels are symmetric with a scale for each output channel; activations are uint8 with one scale.
    """

    def _relu6(self, name: str) -> str:
        return name  # the range of the quantised value clips to 0..6

    def _limited(self, x: Tensor, low: float, high: float) -> Tensor:
        low, high = min(low, 0.0), max(high, 0.0)
        step = np.float32((high - low) / ACTIVATION_MAX)
        scale = self.graph.constant(f"{x.name}.scale", step)
        zero = self.graph.constant(f"{x.name}.zero", np.uint8(round(-low / float(step))))
        levels = self.graph.node("QuantizeLinear", [x.name, scale, zero], f"{x.name}.levels")
        name = self.graph.node("DequantizeLinear", [levels, scale, zero], f"{x.name}.values")
        return replace(x, name=name, scale=float(step))

    def _parameters(
        self, x: Tensor, name: str, kernels: NDArray[np.float32], bias: NDArray[np.float32], depthwise: bool
    ) -> tuple[str, str]:
        flat = kernels.reshape(len(kernels), -1).astype(np.float64)
        # The second bound keeps the bias, counted in steps of x.scale * scale, inside int32 for dead channels.
        scale = np.maximum(np.abs(flat).max(1) / WEIGHT_MAX, np.abs(bias) / (x.scale * 2.0**30)).astype(np.float32)
        scale = np.maximum(scale, np.float32(1e-12))
        levels = rounded((flat / scale[:, None]).reshape(kernels.shape)).reshape(flat.shape)
        levels = np.clip(levels, -WEIGHT_MAX, WEIGHT_MAX)
        # Rounding the kernel shifts each output by its error times the mean input; the bias takes that back.
        error = (levels * scale[:, None] - flat).reshape(kernels.shape).sum((2, 3))  # (out, in)
        shift = error[:, 0] * x.mean if depthwise else error @ x.mean
        bias_scale = (scale.astype(np.float64) * x.scale).astype(np.float32)
        bias_levels = np.round((bias - shift) / bias_scale).astype(np.int32)
        return (
            self._dequantised(f"{name}.kernel", levels.reshape(kernels.shape).astype(np.int8), scale),
            self._dequantised(f"{name}.bias", bias_levels, bias_scale),
        )

    def _dequantised(self, name: str, levels: NDArray[Any], scale: NDArray[np.float32]) -> str:
        inputs = [
            self.graph.constant(f"{name}.levels", levels),
            self.graph.constant(f"{name}.scale", scale),
            self.graph.constant(f"{name}.zero", np.zeros(len(scale), levels.dtype)),
        ]
        return self.graph.node("DequantizeLinear", inputs, name, axis=0)


def rounded(kernels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole numbers near kernels (out, in, k, k), with which each of the k x k keeps its sum to within a half.

    The sum is what a kernel makes of an even area, and most of an image is nearly even: rounding each number by itself
    leaves an error there. Where the errors of a kernel add up to one or more, as many of its numbers as it takes are
    rounded the other way, those first that lie nearest to the middle. Of lite0's embeddings in int8 that takes half of
    the error on drawings, and a fifth of it on photos.
    """
    taps = kernels.reshape(-1, math.prod(kernels.shape[2:]))
    levels = np.round(taps)
    errors = levels - taps
    excess = np.round(errors.sum(1, keepdims=True))
    worst = np.argsort(np.argsort(-errors * np.sign(excess), axis=1, kind="stable"), axis=1, kind="stable")
    result: NDArray[np.float64] = (levels - np.sign(excess) * (worst < np.abs(excess))).reshape(kernels.shape)
    return result


def mean_of_relu6(mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of a normal variable that is clipped to 0..6; all arrays (C,)."""
    std = np.maximum(std, 1e-9)
    low, high = -mean / std, (RELU6_MAX - mean) / std
    inside = mean * (_normal_cdf(high) - _normal_cdf(low)) - std * (_normal_pdf(high) - _normal_pdf(low))
    result: NDArray[np.float64] = inside + RELU6_MAX * (1 - _normal_cdf(high))
    return result


def _normal_cdf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in z])


def _normal_pdf(z: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return result


def fold(
    weights: dict[str, NDArray[Any]], convolution: str, norm: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A convolution's kernel (out, in, k, k) and bias (out,) with its batch norm folded in."""
    kernel = weights[f"{convolution}.weight"].astype(np.float64)
    variance = weights[f"{norm}.running_var"].astype(np.float64)
    scale = weights[f"{norm}.weight"] / np.sqrt(variance + BATCH_NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return (kernel * scale[:, None, None, None]).astype(np.float32), bias.astype(np.float32)
