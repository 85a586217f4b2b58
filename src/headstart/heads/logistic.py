"""A solver for many logistic regressions with an L2 penalty on the same features at once, one for each label.

The method is that of `headstart.heads.softmax`: Newton's, with conjugate gradients that the Hessian's own diagonal
preconditions. The regressions have nothing to do with one another but for the features, with which all are multiplied
in one product; each has step lengths of its own, and ends by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.heads.products import Products
from headstart.heads.softmax import DECREMENT, MAX_ITERATIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_GRADIENTS = 500
_FORCING = 0.1  # each Newton system is solved until this share of its residual is left
_ROUNDING = 1e-7  # of a mean loss in single precision
_FLAT = 0.25  # curvature where a label is as probable as not


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
        weights: float64 (R, C).
        bias: float64 (C,).
        converged: Whether the minimum was reached, bool (C,).
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    converged: NDArray[np.bool_]

    def take(self, labels: NDArray[np.int64]) -> Solution:
        """That of some labels."""
        return Solution(self.weights[:, labels], self.bias[labels], self.converged[labels])

    def scores(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores (N, C) of features (N, R)."""
        result: NDArray[np.float64] = (z @ self.weights.astype(np.float32)).astype(np.float64) + self.bias
        return result


def solve(
    z: NDArray[np.float32],
    truth: NDArray[np.float32],
    *,
    c: NDArray[np.float64],
    weights: NDArray[np.float32],
    start: Solution | None = None,
) -> Solution:
    """Minimise ``C * sum(weight * log loss) + |weights|^2 / 2`` of each label; the bias is not penalised.

    Args:
        z: Features in the basis of their principal axes, float32 (N, R).
        truth: 1 where an image has the label, 0 where not, (N, C).
        c: What scikit-learn calls C, (C,).
        weights: Weight of each image for each label, (N, C); 0 where it is not known. Each label has some.
        start: Where to begin; it changes the time and hardly the result.
    """
    count = truth.shape[1]
    v = np.zeros((z.shape[1] + 1, count))  # (R + 1, C), the last row is the bias
    if start is not None:
        v[:-1], v[-1] = start.weights, start.bias
    converged = np.zeros(count, bool)
    left = np.arange(count)
    for _ in range(MAX_ITERATIONS):
        problem = _Problem(z, truth[:, left], c[left], weights[:, left])
        own, slope = problem.improved(v[:, left])
        v[:, left] = own
        done = -slope / 2 < DECREMENT
        converged[left[done]] = True
        left = left[~done]
        if not len(left):
            break
    return Solution(v[:-1], v[-1], converged)


class _Problem:
    """The mean losses of some labels, divided by their total weight; products in single precision."""

    def __init__(
        self,
        z: NDArray[np.float32],
        truth: NDArray[np.float32],
        c: NDArray[np.float64],
        weights: NDArray[np.float32],
    ) -> None:
        total = weights.sum(0, dtype=np.float64)
        self._truth = truth
        self._share = (weights / total).astype(np.float32)  # (N, C)
        self._penalty = np.tile(1 / (c * total), (z.shape[1] + 1, 1))  # (R + 1, C)
        self._penalty[-1] = 0
        self._products = Products(z, self._penalty, _FLAT)

    def improved(self, v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A Newton step from v (R + 1, C), shortened where it would go too far; and its slope (C,), below 0."""
        value, residual, p = self._at(v)
        gradient = self._products.back(residual) + self._penalty * v
        step = self._newton_step(gradient, p)
        slope = (gradient * step).sum(0)
        lengths = np.ones(v.shape[1])
        while True:
            there = self._at(v + lengths * step)[0]
            far = (there > value + 1e-4 * lengths * slope + _ROUNDING) & (lengths >= 1e-6)
            if not far.any():
                return v + lengths * step, slope
            lengths[far] /= 2

    def _at(self, v: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
        """The values (C,), the residual (N, C) that the gradient is made of, and the probabilities (N, C)."""
        scores = self._products.scores(v)
        losses = np.logaddexp(np.float32(0), scores) - self._truth * scores
        p = np.exp(-np.logaddexp(np.float32(0), -scores))
        value = np.einsum("nc,nc->c", losses, self._share, dtype=np.float64) + 0.5 * (self._penalty * v**2).sum(0)
        return value, (p - self._truth) * self._share, p

    def _newton_step(self, gradient: NDArray[np.float64], p: NDArray[np.float32]) -> NDArray[np.float64]:
        """Minus the inverse Hessians times the gradients, by preconditioned conjugate gradients."""
        curvatures = p * (1 - p) * self._share
        diagonal = self._products.diagonal(curvatures)
        step, left = np.zeros_like(gradient), -gradient
        towards = preconditioned = left / diagonal
        size = first = (left * preconditioned).sum(0)
        going = size > 0
        for _ in range(_MAX_GRADIENTS):
            product = self._products.back(self._products.scores(towards) * curvatures) + self._penalty * towards
            curvature = (towards * product).sum(0)
            going &= curvature > 0  # else rounding: there is nothing left to gain
            if not going.any():
                break
            length = np.where(going, size / np.where(going, curvature, 1), 0)
            step = step + length * towards
            left = left - length * product
            preconditioned = left / diagonal
            before, size = size, (left * preconditioned).sum(0)
            going &= size > _FORCING**2 * first
            towards = preconditioned + np.where(going, size / np.where(before > 0, before, 1), 0) * towards
        return step
