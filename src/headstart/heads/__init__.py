"""What maps embeddings to scores. A new head is a file, and a row of `headstart.settings.heads`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.core.graph import Graph


class Head(Protocol):
    """What all heads have in common."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a person should read."""
        ...

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (N, C) of embeddings (N, D), of which the calibration of the task makes probabilities."""
        ...

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the head to a graph; the name of the scores, float32 (N, C)."""
        ...
