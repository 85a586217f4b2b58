"""Where the fit begins: linear discriminant analysis (Fisher 1936; Rao 1948), from the sums of one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.heads.streamed.moments import Basis, Moments
from headstart.targets.classes.temperature import smoothed_log_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHRINKAGE = 0.1  # of the variances within classes towards their mean
# A penalty keeps the head's scores smaller than those of the analysis, and more rows those of a head that was fitted on
# fewer: by which factor is tried on a few rows.
_FACTORS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0, 4.0)


class Some(NamedTuple):
    """A few rows.

    Attributes:
        z: In the basis of the weights, float32 (M, R).
        labels: Their classes, (M,).
    """

    z: NDArray[np.float32]
    labels: NDArray[np.int64]


def start(found: Moments, basis: Basis) -> NDArray[np.float64]:
    """The discriminant analysis as a place, float64 (R + 1, C).

    Args:
        found: Sums over all rows.
        basis: Of the weights.
    """
    share = found.counts / found.counts.sum()
    means = (found.class_means - found.centre) @ basis.axes
    within = basis.axes.T @ found.covariance @ basis.axes - (means.T * share) @ means
    within[np.diag_indices_from(within)] += SHRINKAGE * np.trace(within) / len(within)
    weights = np.linalg.solve(within, means.T)
    bias = -np.einsum("cr,rc->c", means, weights) / 2 + np.log(share)
    whole = np.vstack([weights, bias])
    result: NDArray[np.float64] = whole - whole.mean(1, keepdims=True)
    return result


def scaled(place: NDArray[np.float64], some: Some, penalty: float) -> NDArray[np.float64]:
    """A place (R + 1, C) times the factor with which a few rows are likeliest.

    Args:
        place: Where a search could begin.
        some: The rows.
        penalty: Of the mean square of the weights.
    """
    scores, squares = some.z @ place[:-1] + place[-1], float(np.square(place[:-1]).sum())

    def value(factor: float) -> float:
        return smoothed_log_loss(factor * scores, some.labels) + penalty / 2 * factor**2 * squares

    return place * min(_FACTORS, key=value)
