"""What one pass knows of embeddings: their mean and covariance, and the mean of each class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.errors import SourceError
from headstart.heads.penalty import whitening_factors_of
from headstart.heads.streamed.blocks import Block, Each

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over all rows.

    Attributes:
        counts: Rows of each class, (C,).
        centre: Mean, float64 (D,).
        covariance: float64 (D, D).
        class_means: float64 (C, D).
    """

    counts: NDArray[np.int64]
    centre: NDArray[np.float64]
    covariance: NDArray[np.float64]
    class_means: NDArray[np.float64]

    @property
    def scale(self) -> float:
        """Root of the mean variance of a feature."""
        return float(np.sqrt(np.trace(self.covariance) / len(self.centre)))

    @cached_property
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Variances along the principal axes, (R,), of features of this scale, and these axes, (D, R)."""
        variances, axes = np.linalg.eigh(self.covariance / self.scale**2)
        kept = variances > variances[-1] * 1e-11
        return variances[kept], axes[:, kept]


@dataclass(frozen=True, eq=False)
class Basis:
    """The basis in which the head is fitted: along the principal axes, whitened as far as was chosen.

    Attributes:
        centre: What is taken off the features, float32 (D,).
        axes: What they are multiplied by then, float64 (D, R).
    """

    centre: NDArray[np.float32]
    axes: NDArray[np.float64]

    def of(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, D) in this basis, float32 (n, R)."""
        result: NDArray[np.float32] = (features - self.centre) @ self.axes.astype(np.float32)
        return result


def moments(each: Each, classes: int) -> Moments:
    """Look at all rows once.

    Raises:
        SourceError: They are not finite, or all the same, or a class has none.
    """
    first = each.blocks.take(np.arange(min(1000, len(each.blocks.labels))))
    _refuse_not_finite(first)
    near = first.mean(0, dtype=np.float64).astype(np.float32)  # sums of squares around it lose no digits

    def sums(block: Block) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
        _refuse_not_finite(block.features)
        x = block.features - near
        present, place = np.unique(block.labels, return_inverse=True)
        one_hot = np.zeros((len(present), len(x)), np.float32)
        one_hot[place, np.arange(len(x))] = 1
        return x.T @ x, (one_hot @ x).astype(np.float64), present

    width = first.shape[1]
    squares, totals = np.zeros((width, width)), np.zeros((classes, width))
    for square, total, present in each.run(sums):
        squares += square
        totals[present] += total
    counts = np.bincount(each.blocks.labels, minlength=classes)
    number = int(counts.sum())
    mean = totals.sum(0) / number
    covariance = squares / number - np.outer(mean, mean)
    _check(covariance, counts)
    return Moments(counts, near + mean, covariance, near + totals / counts[:, None])


def _refuse_not_finite(features: NDArray[np.float32]) -> None:
    if not np.isfinite(features).all():
        raise SourceError(
            "Some embeddings hold values that are not finite.", "Write the folder of embeddings again, in float32."
        )


def _check(covariance: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
    if not counts.all():
        raise SourceError(f"Of {len(counts)} classes, {int((counts > 0).sum())} have training images.")
    if np.trace(covariance) <= 0:
        raise SourceError(
            "All images have the same embedding: nothing distinguishes the classes.",
            "Look at the images: are they all the same picture?",
        )


def basis(found: Moments, whitening: float) -> Basis:
    """The basis for a whitening; see `headstart.heads.penalty.whitening_factors`."""
    variances, axes = found.spectrum
    factors = whitening_factors_of(variances, whitening)
    whitened: NDArray[np.float64] = axes * factors.astype(np.float64) / found.scale
    return Basis(found.centre.astype(np.float32), whitened)
