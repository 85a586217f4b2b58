"""LogME: how well a backbone's embeddings will separate the classes, without fitting a head.

The log of the maximum evidence (You, Liu, Wang and Long, ICML 2021): each class's one-hot labels are a Bayesian linear
regression on the embeddings, whose two precisions are those that make the labels most probable. It costs one
singular value decomposition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The ratio of the two precisions is looked for between these powers of ten of the largest squared singular value.
_POWERS = np.linspace(-12, 6, 73)
_NARROWINGS = 40  # of golden sections, which leave a 2e-9th of a step of the grid
_GOLDEN = (np.sqrt(5) - 1) / 2


def logme(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> float:
    """The log evidence an image, in nats, averaged over the classes; more is better.

    Comparable between embeddings of the same images only. Scaling the embeddings, or turning them, changes nothing.

    Args:
        features: Embeddings, (N, D), N at least 2.
        labels: Class index of each, (N,), in 0..classes-1.
        classes: Number C of classes.

    Raises:
        ValueError: The shapes do not fit, or a value is not finite.
    """
    if features.shape[0] != len(labels) or len(labels) < 2 or not np.isfinite(features).all():
        raise ValueError(f"features {features.shape} for {len(labels)} labels, or values that are not finite")
    left, singular, _ = np.linalg.svd(features.astype(np.float64), full_matrices=False)  # (N, K), (K,)
    one_hot = np.eye(classes)[labels]  # (N, C)
    inside = (left.T @ one_hot) ** 2  # (K, C): squared length of each class's labels along each axis
    outside = np.maximum(one_hot.sum(0) - inside.sum(0), 0)  # (C,): and off the span of the embeddings
    spread = singular**2
    largest = max(float(spread.max()), np.finfo(float).tiny)

    def evidence(powers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log evidence (C,) of each class, at a ratio of the precisions of weights and noise for each, (C,).

        For a given ratio the best noise has a closed form, so that one number is left to look for.
        """
        shrinkage = _shrinkage(spread, largest * 10.0**powers)  # (K, C)
        left_over = np.maximum((shrinkage * inside).sum(0) + outside, np.finfo(float).tiny)
        count = len(labels)
        noise = 0.5 * count * (np.log(count / left_over) - 1 - np.log(2 * np.pi))
        result: NDArray[np.float64] = noise + 0.5 * np.log(shrinkage).sum(0)
        return result

    grid = np.array([evidence(np.full(classes, power)) for power in _POWERS])  # (73, C)
    best = grid.argmax(0)
    low, high = _POWERS[np.maximum(best - 1, 0)], _POWERS[np.minimum(best + 1, len(_POWERS) - 1)]
    for _ in range(_NARROWINGS):
        span = _GOLDEN * (high - low)
        a, b = high - span, low + span
        left_is_better = evidence(a) > evidence(b)
        low, high = np.where(left_is_better, low, a), np.where(left_is_better, b, high)
    found = np.maximum(evidence((low + high) / 2), grid.max(0))
    return float(found.mean() / len(labels))


def _shrinkage(spread: NDArray[np.float64], ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of the labels along each axis by ridge regression with these penalties (C,): (K, C), in 0..1."""
    result: NDArray[np.float64] = ratio[None] / (ratio[None] + spread[:, None])
    return result
