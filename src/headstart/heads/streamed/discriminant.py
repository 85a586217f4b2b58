"""Where the fit begins: linear discriminant analysis (Fisher 1936; Rao 1948), from the sums of one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.heads.streamed.moments import Basis, Moments
from headstart.targets.classes.temperature import smoothed_log_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHRINKAGE = 0.1  # of the variances within classes towards their mean
# A penalty keeps the head's scores smaller than those of the analysis: by which factor is tried on a few rows.
_FACTORS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def start(
    found: Moments, basis: Basis, z: NDArray[np.float32], labels: NDArray[np.int64], penalty: float
) -> NDArray[np.float64]:
    """A place, float64 (R + 1, C), from which the way to the minimum is short.

    Args:
        found: Sums over all rows.
        basis: Of the weights.
        z: A few rows in this basis, (M, R).
        labels: Their classes, (M,).
        penalty: Of the mean square of the weights.
    """
    share = found.counts / found.counts.sum()
    means = (found.class_means - found.centre) @ basis.axes
    within = basis.axes.T @ found.covariance @ basis.axes - (means.T * share) @ means
    within[np.diag_indices_from(within)] += SHRINKAGE * np.trace(within) / len(within)
    weights = np.linalg.solve(within, means.T)
    bias = -np.einsum("cr,rc->c", means, weights) / 2 + np.log(share)
    whole = np.vstack([weights, bias])
    whole -= whole.mean(1, keepdims=True)
    scores, squares = z @ whole[:-1] + whole[-1], float(np.square(whole[:-1]).sum())

    def value(factor: float) -> float:
        return smoothed_log_loss(factor * scores, labels) + penalty / 2 * factor**2 * squares

    return whole * min(_FACTORS, key=value)
