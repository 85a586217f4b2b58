"""Vectors of length 1, whose products are cosines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_rows(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (N, D) scaled to length 1; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64)).astype(np.float32)
    result: NDArray[np.float32] = features / np.maximum(lengths, np.float32(1e-12))[:, None]
    return result
