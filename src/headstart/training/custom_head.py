"""A user's own head, as what the model file is written from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from headstart.training.tracing import add_head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.core.graph import Graph


@dataclass(frozen=True)
class CustomHead:
    """A trained head of any make; see `headstart.heads.Head`.

    Attributes:
        module: Embeddings (N, D) to scores (N, C), on the CPU, in evaluation mode.
        width: D.
        notes: Remarks for the user.
    """

    module: nn.Module
    width: int
    notes: tuple[str, ...] = ()

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (N, C) of embeddings (N, D), or (C,) of one (D,)."""
        rows = features.reshape(-1, self.width)
        with torch.no_grad():
            result: NDArray[np.float32] = self.module(torch.from_numpy(rows)).numpy()
        return result.reshape(*features.shape[:-1], -1)

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the head to a graph; the name of the scores, float32 (N, C)."""
        return add_head(graph, embedding, self.module, self.width)
