"""The loss by which heads are chosen, and the temperature that calibrates them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.heads.minimum import lowest

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = 20.0
# Of the logarithm of a temperature. What is left changes a log loss in its tenth digit, since it is level there.
_PRECISION = 1e-5


def smoothed_losses(scores: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Negative log likelihood (N,) of scores (N, C), in nats, where one imagined image more is of any class.

    Labels count as certain to (N + 1) / (N + 2) only (Platt 1999). Without that, a few images that are all correct
    would ask for boundless scores.

    Args:
        scores: (N, C).
        labels: Class index of each row, (N,).
    """
    scores = scores.astype(np.float64)
    top = scores.max(1)
    normaliser = top + np.log(np.exp(scores - top[:, None]).sum(1))
    count, classes = scores.shape
    doubt = 1 / (count + 2) * classes / (classes - 1)  # of the label, spread evenly over all classes
    expected = (1 - doubt) * scores[np.arange(count), labels] + doubt * scores.mean(1)
    result: NDArray[np.float64] = normaliser - expected
    return result


def smoothed_log_loss(
    scores: NDArray[Any], labels: NDArray[np.int64], weights: NDArray[np.float32] | None = None
) -> float:
    """The mean of `smoothed_losses`.

    Args:
        scores: (N, C).
        labels: Class index of each row, (N,).
        weights: Weight of each row, (N,); None for 1.
    """
    return float(np.average(smoothed_losses(scores, labels), weights=weights))


def fit_temperature(
    scores: NDArray[Any], labels: NDArray[np.int64], weights: NDArray[np.float32] | None = None
) -> float:
    """The temperature, in 0.05..20, by which scores must be divided for the smallest log loss (Guo et al. 2017).

    The loss is convex in the inverse of the temperature, so that there is one valley. The arguments are those of
    `smoothed_log_loss`.
    """
    limit = float(np.log(LARGEST))
    power = lowest(
        lambda power: smoothed_log_loss(scores / np.exp(power), labels, weights), -limit, limit, precision=_PRECISION
    )
    return float(np.exp(power))
