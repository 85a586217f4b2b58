"""A head with the calibration of its task: embeddings to probabilities, in numpy and as nodes of a model file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from headstart.heads import Head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.core.graph import Graph
    from headstart.targets import Calibration

H_co = TypeVar("H_co", bound=Head, covariant=True)


@dataclass(frozen=True)
class Calibrated(Generic[H_co]):
    """What a model file is written from.

    Attributes:
        head: Embeddings to scores.
        calibration: Scores to probabilities.
    """

    head: H_co
    calibration: Calibration

    @property
    def temperature(self) -> float:
        """What the scores are divided by."""
        return self.calibration.temperature

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities (N, C) of embeddings (N, D), or (C,) of one."""
        return self.calibration.probabilities(self.head.scores(features))

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add head and calibration to a graph; the name of the probabilities, float32 (N, C)."""
        return self.calibration.add_nodes(graph, self.head.add_nodes(graph, embedding))
