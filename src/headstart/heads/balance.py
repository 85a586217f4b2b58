"""Weights that make rare classes and labels count as much as frequent ones (``--class-weight balanced``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.settings.recipe import ClassWeight


def balanced(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """The weight of an image of each kind, (K, ...): all kinds weigh the same together, and an image 1 on average.

    It is scikit-learn's ``balanced``; a kind without images gets that of a single one.

    Args:
        counts: Images of each kind, (K, ...).
    """
    result: NDArray[np.float64] = counts.sum(0) / (len(counts) * np.maximum(counts, 1))
    return result


def weights_of(labels: NDArray[np.int64], class_weight: ClassWeight) -> NDArray[np.float32]:
    """The weight of each image, float32 (N,), by its class (N,)."""
    if class_weight == "none":
        return np.ones(len(labels), np.float32)
    return balanced(np.bincount(labels))[labels].astype(np.float32)


def weights_of_labels(labels: NDArray[np.int8], class_weight: ClassWeight) -> NDArray[np.float32]:
    """The weight of each image for each label, float32 (N, C): 0 where it is not known.

    With ``balanced``, images that have a label weigh as much in all as those that lack it, and 1 on average.

    Args:
        labels: 1, 0, or below 0 for not known, (N, C).
        class_weight: How rare labels weigh.
    """
    known = (labels >= 0).astype(np.float32)
    if class_weight == "none":
        return known
    have, lack = balanced(np.stack([(labels == 1).sum(0), (labels == 0).sum(0)]))
    result: NDArray[np.float32] = (known * np.where(labels == 1, have, lack)).astype(np.float32)
    return result
