"""The head `mlp`: one hidden layer. It has no closed solution; `headstart.training` finds its weights by gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph


@dataclass(frozen=True)
class MlpHead:
    """A trained head. Dropout is no part of it: that ends with the training.

    Attributes:
        weights: float32 (D, H), to the hidden layer.
        bias: float32 (H,).
        weights_out: float32 (H, C), from the hidden layer.
        bias_out: float32 (C,).
        notes: Remarks for the user.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    weights_out: NDArray[np.float32]
    bias_out: NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (N, C) of embeddings (N, D)."""
        hidden = np.maximum(features @ self.weights + self.bias, 0)  # (N, H)
        result: NDArray[np.float32] = hidden @ self.weights_out + self.bias_out
        return result

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the head to a graph; the name of the scores, float32 (N, C)."""
        weights, bias = graph.constant("head.weights", self.weights), graph.constant("head.bias", self.bias)
        hidden = graph.node("Gemm", [embedding, weights, bias], "head.hidden")
        active = graph.node("Relu", [hidden], "head.active")
        weights = graph.constant("head.weights_out", self.weights_out)
        bias = graph.constant("head.bias_out", self.bias_out)
        return graph.node("Gemm", [active, weights, bias], "head.scores")
