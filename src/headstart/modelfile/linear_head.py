"""The head of a model file, where it is linear."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LinearHead(NamedTuple):
    """The constants that `headstart.heads.linear` names.

    Attributes:
        weights: float32 (D, C).
        bias: float32 (C,).
        temperature: What the scores are divided by, above 0.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float


def find(content: bytes, classes: int) -> LinearHead | None:
    """The linear head of a model file that the guard has checked; None where it has no such one.

    Args:
        content: The file.
        classes: Number C of classes.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(content).graph
    parts = {one.name: one for one in graph.initializer if one.name.startswith("head.")}
    if set(parts) != {"head.weights", "head.bias", "head.temperature"}:
        return None
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in parts.items()}
    weights, bias, temperature = (arrays[f"head.{name}"] for name in ("weights", "bias", "temperature"))
    if weights.ndim != 2 or weights.shape[1] != classes or bias.shape != (classes,) or not (temperature > 0).all():
        return None
    if temperature.size == classes > 1:  # each score has its own
        return LinearHead(weights / temperature, bias / temperature, 1.0)
    return LinearHead(weights, bias, float(temperature.item())) if temperature.size == 1 else None
