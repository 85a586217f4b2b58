"""Reference embeddings, and how far an embedding is from them: in numbers here, as nodes in the model file.

The distance is the mean cosine distance to the nearest references (the k nearest neighbours of Sun et al. 2022,
"Out-of-Distribution Detection with Deep Nearest Neighbors", there the k-th alone). References are kept as int8: a row
of levels times a scale that makes its length 1, which changes a cosine by about 0.0005.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

LEVELS = 127
# Embeddings at once: similarities of so many to a thousand references take 4 MB.
_ROWS = 1000
_SMALLEST = 1e-12  # of a length: an embedding of nothing but zeros is at distance 1 from all


@dataclass(frozen=True)
class References:
    """Embeddings to compare with.

    Attributes:
        levels: int8 (D, R), a column for each reference, none all zeros.
        scales: float32 (R,); `levels` times `scales` are vectors of length 1.
        neighbours: How many of the nearest count, in 1..R.
    """

    levels: NDArray[np.int8]
    scales: NDArray[np.float32]
    neighbours: int

    @classmethod
    def of(cls, embeddings: NDArray[np.float32], neighbours: int) -> References:
        """References from embeddings (R, D), none all zeros."""
        largest = np.abs(embeddings).max(1, keepdims=True)
        levels = np.round(embeddings * (LEVELS / largest)).astype(np.int8)
        scales = (1 / np.linalg.norm(levels.astype(np.float64), axis=1)).astype(np.float32)
        return cls(np.ascontiguousarray(levels.T), scales, neighbours)

    def __len__(self) -> int:
        return len(self.scales)

    def distances(
        self,
        embeddings: NDArray[np.float32],
        groups: NDArray[np.int64] | None = None,
        own: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Mean cosine distance of embeddings (N, D) to their nearest references, (N,), in 0..2.

        Args:
            embeddings: What to compare.
            groups: A group for each of them, (N,).
            own: The group of each reference, (R,): those of an embedding's own group are no neighbours of it. Where
                fewer are left than are asked for, the distance is infinite.
        """
        vectors = self.levels.astype(np.float32) * self.scales
        result = np.empty(len(embeddings), np.float32)
        for start in range(0, len(embeddings), _ROWS):
            part = slice(start, start + _ROWS)
            lengths = np.linalg.norm(embeddings[part], axis=1, keepdims=True)
            cosines = (embeddings[part] / np.maximum(lengths, _SMALLEST)) @ vectors
            if groups is not None and own is not None:
                cosines[groups[part, None] == own] = -np.inf
            nearest = np.partition(cosines, -self.neighbours, axis=1)[:, -self.neighbours :]
            result[part] = 1 - nearest.mean(1)
        return result

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the distance to a graph; its name ``distance``, float32 (N, 1)."""
        axis = graph.ints("novelty.axis", [1])
        length = graph.node("ReduceL2", [embedding, axis], "novelty.length", keepdims=1)
        smallest = graph.constant("novelty.smallest", np.float32(_SMALLEST))
        unit = graph.node("Div", [embedding, graph.node("Clip", [length, smallest], "novelty.divisor")], "novelty.unit")
        # Runtimes do the cast once, when they load the file. They take DequantizeLinear in its place for leave to
        # compute the product in int8, which is faster (1 instead of 3 % of lite0's time with 1,000 references) and
        # off by up to 4e-4.
        levels = graph.node("Cast", [graph.constant("novelty.levels", self.levels)], "novelty.values", to=graph.FLOAT)
        products = graph.node("MatMul", [unit, levels], "novelty.products")
        cosines = graph.node("Mul", [products, graph.constant("novelty.scales", self.scales)], "novelty.cosines")
        nearest = graph.top(cosines, self.neighbours, "novelty.nearest")
        mean = graph.node("ReduceMean", [nearest, axis], "novelty.mean", keepdims=1)
        return graph.node("Sub", [graph.constant("novelty.one", np.float32(1)), mean], "distance")
