"""Metrics of classification. Those of a confusion matrix take many of them at once, so that a bootstrap is one call.

That, and the second that importing scikit-learn takes, is why they are here; the tests hold them to its values.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_BINS = 15  # Guo et al. 2017


class Confusion(NamedTuple):
    """The cells of a confusion matrix that are not zero: with 10,000 classes the whole would take 800 MB.

    Attributes:
        true: True class of each cell, (K,).
        predicted: Predicted class of each cell, (K,).
        images: Images in each cell, (K,), at least 1.
        classes: Number C of classes.
    """

    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    images: NDArray[np.int64]
    classes: int

    @classmethod
    def of(cls, labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Confusion:
        """Count the pairs of label and prediction, both (N,), in 0..classes-1."""
        cells, images = np.unique(labels * classes + predicted, return_counts=True)
        return cls(cells // classes, cells % classes, images, classes)


class Counts(NamedTuple):
    """What the metrics of a confusion matrix need of it; all arrays (..., C), in images.

    Attributes:
        hits: Images of each class that were found.
        present: Images of each class.
        predicted: Images that were predicted to be of each class.
    """

    hits: NDArray[np.number]
    present: NDArray[np.number]
    predicted: NDArray[np.number]

    @classmethod
    def of(cls, confusion: Confusion, images: NDArray[np.int64] | None = None) -> Counts:
        """The counts of a confusion matrix, perhaps with other numbers of images (K,) in its cells."""
        true, predicted, own, classes = confusion
        images = own if images is None else images
        hits = np.bincount(true, images * (true == predicted), classes)
        return cls(hits, np.bincount(true, images, classes), np.bincount(predicted, images, classes))

    def recalls(self) -> NDArray[np.float64]:
        """Share of each class's images that were found, (..., C); NaN for a class without images."""
        return _ratio(self.hits, self.present)

    def precisions(self) -> NDArray[np.float64]:
        """Share of each class's predictions that are right, (..., C); NaN for a class never predicted."""
        return _ratio(self.hits, self.predicted)

    def f1_scores(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall, (..., C); NaN for a class neither present nor predicted."""
        return _ratio(2 * self.hits, self.present + self.predicted)

    def balanced_accuracy(self) -> NDArray[np.float64]:
        """Mean recall over the classes that are present, (...)."""
        return _nanmean(self.recalls())

    def macro_f1(self) -> NDArray[np.float64]:
        """Mean F1 over the classes that are present or predicted, (...)."""
        return _nanmean(self.f1_scores())


def negative_log_likelihood(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log of the probability of the true class, (N,), in nats; probabilities count as at least 1e-15."""
    result: NDArray[np.float64] = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-15))
    return result


def judge(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether each image is predicted right, (N,), and the negative log of the probability of its class, (N,)."""
    return probabilities.argmax(1) == labels, negative_log_likelihood(probabilities, labels)


def sharpen(probabilities: NDArray[np.float64], power: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (N, C) raised to a power and normalised: the power T takes a temperature of T back."""
    logs = np.log(np.maximum(probabilities, 1e-300)) * power
    powers = np.exp(logs - logs.max(1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return result


def _ratio(above: NDArray[np.number], below: NDArray[np.number]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return result


def _nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a sample without any class
        result: NDArray[np.float64] = np.nanmean(values, axis=-1)
    return result
