"""The networks EfficientNet-Lite with ImageNet weights, as ONNX graphs, without PyTorch.

Architecture: Tan and Le, EfficientNet (2019), in the lite variants without squeeze-and-excitation and with ReLU6. All
have the same seven stages; how wide and how deep these are is read from the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headstart.backbones.layers import Int8Layers, Layers, Tensor
from headstart.backbones.packaged import packaged, read_weights
from headstart.settings.backbones import BackboneSpec
from headstart.settings.recipe import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage


class Block(NamedTuple):
    """An inverted residual block (Sandler et al. 2018).

    Attributes:
        prefix: What the names of its tensors begin with.
        expands: Whether it has a convolution that makes its input wider first.
        kernel: Side of its depthwise convolution.
        stride: Of that.
        first: Whether it begins a stage, so that there is no way around it.
    """

    prefix: str
    expands: bool
    kernel: int
    stride: int
    first: bool


def read_classifier(spec: BackboneSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The layer that tells ImageNet's classes apart by the embedding: weights (D, 1000) and bias (1000,).

    The model files of Headstart do not hold it.

    Raises:
        ModelError: See `headstart.backbones.packaged.read_weights`.
    """
    (weights,) = packaged(spec).weights
    tensors = read_weights(weights)
    return np.ascontiguousarray(tensors["_fc.weight"].T), tensors["_fc.bias"]


def build(graph: Graph, pixels: str, spec: BackboneSpec, precision: Precision) -> str:
    """Add the network to a graph.

    Args:
        graph: Where the nodes go.
        pixels: Name of the normalised input, float32 (N, 3, S, S).
        spec: Which of the networks.
        precision: Its arithmetic.

    Returns:
        Name of the embedding, float32 (N, D): the average over the last feature map.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    tensors = {one.name: read_weights(one) for one in packaged(spec).weights}
    return add_networks(graph, pixels, tensors, spec.size_px, precision)


def add_networks(
    graph: Graph, pixels: str, tensors: Mapping[str, dict[str, NDArray[Any]]], size_px: int, precision: Precision
) -> str:
    """Add a network of any weights to a graph, or several whose embeddings are joined.

    The last feature maps of several lie side by side before the one average, so that the graph has one feature map and
    one embedding, as that of a single network.

    Args:
        graph: Where the nodes go.
        pixels: Name of the normalised input, float32 (N, 3, size_px, size_px).
        tensors: For the name of each network its weights, by the names of the package; without the classification
            layer is enough.
        size_px: Side of the square input.
        precision: Its arithmetic. That of int8 is chosen by the batch norms, as the weights of the package have them.

    Returns:
        Name of the embedding, float32 (N, D): the average over the last feature map.
    """
    alone = len(tensors) == 1
    found = [
        _add_maps(graph if alone else graph.within(f"{name}/"), pixels, one, size_px, precision)
        for name, one in tensors.items()
    ]
    maps = found[0] if alone else graph.node("Concat", found, "maps", axis=1)
    return graph.node("Flatten", [graph.node("GlobalAveragePool", [maps], "pool")], "embedding", axis=1)


def _add_maps(graph: Graph, pixels: str, tensors: dict[str, NDArray[Any]], size_px: int, precision: Precision) -> str:
    """Add a network as far as its last feature map, float32 (N, D, h, w); the name of that."""
    layers = (Int8Layers if precision == "int8" else Layers)(graph, tensors)
    x: Tensor = layers.input(pixels, size_px)
    x = layers.convolution(x, "_conv_stem", "_bn0", kernel=3, stride=2)
    for block in blocks(tensors):
        prefix, shortcut = block.prefix, x
        if block.expands:
            x = layers.convolution(x, f"{prefix}_expand_conv", f"{prefix}_bn0")
        x = layers.convolution(
            x, f"{prefix}_depthwise_conv", f"{prefix}_bn1", kernel=block.kernel, stride=block.stride, depthwise=True
        )
        x = layers.convolution(x, f"{prefix}_project_conv", f"{prefix}_bn2", activation=False)
        if not block.first:
            x = layers.add(x, shortcut, f"{prefix}_add")
    return layers.convolution(x, "_conv_head", "_bn1").name


def blocks(tensors: Mapping[str, NDArray[Any]]) -> Iterator[Block]:
    """The blocks of a network, from its tensors; each stage has another number of channels than the one before."""
    channels, stage, number = len(tensors["_conv_stem.weight"]), -1, 0
    while (projection := tensors.get(f"_blocks.{number}._project_conv.weight")) is not None:
        prefix = f"_blocks.{number}."
        first = len(projection) != channels
        stage += first
        kernel = tensors[f"{prefix}_depthwise_conv.weight"].shape[-1]
        yield Block(prefix, f"{prefix}_expand_conv.weight" in tensors, kernel, STRIDES[stage] if first else 1, first)
        channels, number = len(projection), number + 1
