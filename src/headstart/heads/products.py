"""Products of features with weights and with what each image gives back, in single precision: what solvers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = 1024  # squares of so many rows at once, to save memory
_LEAST_CURVATURE = 1e-6  # of a bias, as a share of that where nothing is known


class Products:
    """Features along their principal axes, and what a linear model needs of them.

    A column of weights, float64 (R + 1, C), ends with the bias.

    Args:
        z: float32 (N, R).
        penalty: What half the square of each weight is multiplied by, (R + 1, C) or (R + 1, 1); 0 for the bias.
        flat: Curvature of the loss of an image where all that it can be is equally probable.
    """

    def __init__(self, z: NDArray[np.float32], penalty: NDArray[np.float64], flat: float) -> None:
        self._z, self._penalty, self._flat = z, penalty, flat

    def scores(self, v: NDArray[np.float64]) -> NDArray[np.float32]:
        """Scores (N, C) by weights (R + 1, C)."""
        single = v.astype(np.float32)
        scores: NDArray[np.float32] = self._z @ single[:-1]
        scores += single[-1]
        return scores

    def back(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Features, transposed, times values (N, C); (R + 1, C)."""
        result = np.empty((self._z.shape[1] + 1, values.shape[1]))
        result[:-1] = self._z.T @ values
        result[-1] = values.sum(0, dtype=np.float64)
        return result

    def diagonal(self, curvatures: NDArray[np.floating]) -> NDArray[np.float64]:
        """The Hessian's, (R + 1, C), from the curvature of each image's loss in each of its scores (N, C)."""
        result = np.zeros((self._z.shape[1] + 1, curvatures.shape[1]))
        for begin in range(0, len(self._z), _ROWS):
            part = slice(begin, begin + _ROWS)
            result[:-1] += np.square(self._z[part]).T @ curvatures[part]
        result[-1] = np.maximum(curvatures.sum(0, dtype=np.float64), _LEAST_CURVATURE * self._flat)
        return result + self._penalty
