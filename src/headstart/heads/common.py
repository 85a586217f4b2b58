"""What every head ends with: scores, divided by a temperature, become probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph


def to_probabilities(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of scores (N, C) along the last axis, in float64."""
    shifted = scores.astype(np.float64) - scores.max(-1, keepdims=True)
    powers = np.exp(shifted)
    result: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return result


def add_probabilities(graph: Graph, scores: str, temperature: float) -> str:
    """Add temperature and softmax to a graph; the name of the probabilities, float32 (N, C)."""
    divisor = graph.constant("head.temperature", np.float32(temperature))
    return graph.node("Softmax", [graph.node("Div", [scores, divisor], "head.calibrated")], "probabilities", axis=1)
