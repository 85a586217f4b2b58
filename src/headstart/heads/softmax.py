"""A solver for multinomial logistic regression with an L2 penalty, made for embeddings.

Embeddings vary a thousand times more along some directions than along others, and with a weak penalty the loss hardly
changes over long stretches: a method of first order stops there, somewhere that depends on its start and on rounding.
Newton's method with truncated conjugate gradients (Dembo and Steihaug 1983) goes all the way. In the basis of the
principal components the Hessian is close to diagonal, so its own diagonal preconditions it well: a fit of the demo's
digits takes 30 to 80 products with the features, where L-BFGS needed 66 to stop far away. The solution is
scikit-learn's; the tests compare them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.heads.products import Products

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Newton steps, and conjugate gradients within one; sets of a thousand images need ten and fifty.
MAX_ITERATIONS = 100
_MAX_GRADIENTS = 500
# It ends where the next step would lower the mean loss by less than this, in nats. What is left of the mean held-out
# loss is then a few hundred-thousandths at most, far below what one image changes; the tests hold it against 1e-9.
DECREMENT = 1e-6
# Of more rows than these it goes on for a few steps, until it is within 1e-3 of the exact probabilities at any C that
# the penalty's rule chooses, as the head in passes is: at C = 1 they differed by 0.004 (20,000 rows of 100 classes).
# A sixth more time; fewer rows stay as they always were.
MANY_ROWS, _FURTHER_STEPS, _FAR_ENOUGH = 10_000, 6, 1e-10
_FORCING = 0.1  # each Newton system is solved until this share of its residual is left
_ROUNDING = 1e-7  # of a mean loss in single precision


class Solution(NamedTuple):
    """What `solve` found.

    Attributes:
        weights: float64 (R, C).
        bias: float64 (C,).
        converged: Whether the minimum was reached.
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    converged: bool


def principal_axes(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """An orthonormal basis (D, R) of the span of the rows (N, D), in which their columns hardly correlate.

    With an L2 penalty the weights lie in that span (the representer theorem), so nothing is lost in it.
    """
    if len(centred) >= centred.shape[1]:
        axes: NDArray[np.float64] = np.linalg.eigh((centred.T @ centred).astype(np.float64))[1]
    else:
        # From the products of the rows, of which there are fewer: half the time of a singular value decomposition.
        exact = centred.astype(np.float64)
        squares, rows = np.linalg.eigh(exact @ exact.T)
        kept = squares > squares[-1] * 1e-11
        axes = exact.T @ rows[:, kept] / np.sqrt(squares[kept])
    return axes.astype(np.float32)


def solve(
    z: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    classes: int,
    c: float,
    sample_weight: NDArray[np.float32],
    start: Solution | None = None,
    decrement: float | None = None,
) -> Solution:
    """Minimise ``C * sum(weight * log loss) + |weights|^2 / 2``; the bias is not penalised.

    Args:
        z: Features in the basis of their principal axes, float32 (N, R).
        labels: Class index of each row, (N,), in 0..classes-1.
        classes: Number C of classes.
        c: What scikit-learn calls C.
        sample_weight: Weight of each row, (N,).
        start: Where to begin; it changes the time and hardly the result.
        decrement: It ends where a step would lower the mean loss by less than this, in nats; None for `DECREMENT`, and
            a few steps more if there are more than `MANY_ROWS`.
    """
    least, further = decrement or DECREMENT, 0
    if decrement is None and len(z) > MANY_ROWS:
        further = _FURTHER_STEPS
    problem = _Problem(z, labels, classes, c, sample_weight)
    v = np.zeros((z.shape[1] + 1, classes))  # (R + 1, C), the last row is the bias
    if start is not None:
        v[:-1], v[-1] = start.weights, start.bias
        v -= v.mean(1, keepdims=True)  # adding a number to all classes changes nothing; steps keep the sum of 0
    value, residual, p = problem.at(v)
    for _ in range(MAX_ITERATIONS):
        gradient = problem.gradient(v, residual)
        step = problem.newton_step(gradient, p)
        slope = float((gradient * step).sum())
        length = 1.0
        while True:
            there = problem.at(v + length * step)
            if there[0] <= value + 1e-4 * length * slope + _ROUNDING or length < 1e-6:
                break
            length /= 2
        v += length * step
        value, residual, p = there
        if -slope / 2 < least:
            if not further or -slope / 2 < _FAR_ENOUGH:
                return Solution(v[:-1], v[-1], True)
            further -= 1
    return Solution(v[:-1], v[-1], False)


class _Problem:
    """The mean loss of one fit, divided by the total weight; features, scores and products in single precision."""

    def __init__(
        self,
        z: NDArray[np.float32],
        labels: NDArray[np.int64],
        classes: int,
        c: float,
        sample_weight: NDArray[np.float32],
    ) -> None:
        total = float(sample_weight.sum(dtype=np.float64))
        self._labels, self._rows = labels, np.arange(len(z))
        self._share = (sample_weight / np.float32(total))[:, None]  # (N, 1)
        self._penalty = np.full((z.shape[1] + 1, 1), 1 / (c * total))
        self._penalty[-1] = 0
        self._products = Products(z, self._penalty, (1 - 1 / classes) / classes)

    def at(self, v: NDArray[np.float64]) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        """The value, the residual (N, C) that the gradient is made of, and the probabilities (N, C)."""
        scores = self._products.scores(v)
        scores -= scores.max(1, keepdims=True)
        own = scores[self._rows, self._labels]
        p = np.exp(scores, out=scores)
        sums = p.sum(1, keepdims=True)
        losses = np.log(sums[:, 0], dtype=np.float64) - own
        p /= sums
        residual = p * self._share
        residual[self._rows, self._labels] -= self._share[:, 0]
        value = float(losses @ self._share[:, 0].astype(np.float64)) + 0.5 * float((self._penalty * v**2).sum())
        return value, residual, p

    def gradient(self, v: NDArray[np.float64], residual: NDArray[np.float32]) -> NDArray[np.float64]:
        return self._products.back(residual) + self._penalty * v

    def newton_step(self, gradient: NDArray[np.float64], p: NDArray[np.float32]) -> NDArray[np.float64]:
        """Minus the inverse Hessian times the gradient, by preconditioned conjugate gradients."""
        weighted = p * self._share
        diagonal = self._products.diagonal(weighted * (1 - p))
        step, left = np.zeros_like(gradient), -gradient
        towards = preconditioned = _sum_to_zero(left / diagonal)
        size = first = float((left * preconditioned).sum())
        for _ in range(_MAX_GRADIENTS):
            change = self._products.scores(towards)
            change -= np.einsum("nc,nc->n", p, change)[:, None]
            change *= weighted
            product = self._products.back(change) + self._penalty * towards
            curvature = float((towards * product).sum())
            if curvature <= 0:  # rounding: there is nothing left to gain
                break
            step = step + size / curvature * towards
            left = left - size / curvature * product
            preconditioned = _sum_to_zero(left / diagonal)
            before, size = size, float((left * preconditioned).sum())
            if size <= _FORCING**2 * first:
                break
            towards = preconditioned + size / before * towards
        return step


def _sum_to_zero(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without what adds the same to all classes, in which direction the loss is level."""
    result: NDArray[np.float64] = v - v.mean(1, keepdims=True)
    return result
