"""The loss of a linear head, its gradient and its curvature, from passes over blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.heads.streamed.blocks import Block, Each
from headstart.heads.streamed.moments import Basis

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows that the curvature is measured on: it only decides how many passes are needed.
CURVATURE_ROWS = 100_000
_LEAST = 1e-3  # of the curvature of a class's bias: what is left of it where its direction is taken out


@dataclass(frozen=True, eq=False)
class Objective:
    """``sum(share * log loss) + |weights|^2 / (2 C W)``, as in `headstart.heads.softmax`; the bias is not penalised.

    A place is float64 (R + 1, C): the weights in the basis, and the bias in the last row.

    Attributes:
        each: How passes are made.
        basis: Of the weights.
        share: Of each row of a class in the total weight W, float64 (C,).
        penalty: 1 / (C W).
        exact: Whether the products are in double precision; they take more than twice the time then.
    """

    each: Each
    basis: Basis
    share: NDArray[np.float64]
    penalty: float
    exact: bool = False

    def __call__(self, place: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The value and the gradient at a place, from one pass."""
        weights, bias = self._weights(place)
        total = np.zeros((len(weights), weights.shape[1]))
        value, biases = 0.0, np.zeros(weights.shape[1])

        def one(block: Block) -> tuple[float, NDArray[np.floating], NDArray[np.float64]]:
            x = (block.features - self.basis.centre).astype(weights.dtype, copy=False)
            losses, residual = _probabilities(_scores(x, weights, bias), block.labels)
            share = self.share[block.labels]
            residual[np.arange(len(x)), block.labels] -= 1
            residual *= share[:, None].astype(weights.dtype)
            return float(losses @ share), x.T @ residual, residual.sum(0, dtype=np.float64)

        for lost, products, sums in self.each.run(one):
            value += lost
            total += products
            biases += sums
        gradient = np.empty_like(place)
        gradient[:-1] = self.basis.axes.T @ total + self.penalty * place[:-1]
        gradient[-1] = biases
        return value + self.penalty * float(np.square(place[:-1]).sum()) / 2, gradient

    def curvature(self, place: NDArray[np.float64]) -> Curvature:
        """The curvature at a place, from one pass that looks at some of the rows."""
        weights, bias = self._weights(place)
        step = max(1, len(self.each.blocks.labels) // CURVATURE_ROWS)
        weight, first, second = np.zeros(len(bias)), np.zeros_like(place[:-1]), np.zeros_like(place[:-1])

        def one(block: Block) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
            features, labels = block.features[::step], block.labels[::step]
            _, p = _probabilities(_scores(features - self.basis.centre, weights, bias), labels)
            curved = p * (1 - p) * (step * self.share[labels, None]).astype(np.float32)
            z = self.basis.of(features)
            return curved.sum(0, dtype=np.float64), z.T @ curved, np.square(z).T @ curved

        for curved, products, squares in self.each.run(one):
            weight += curved
            first += products
            second += squares
        weight = np.maximum(weight, _LEAST * self.share.min())
        mean = first / weight
        spread = np.maximum(second - weight * mean**2, 0) + self.penalty
        return Curvature(np.vstack([spread, _LEAST * weight]), np.vstack([mean, np.ones((1, len(weight)))]), weight)

    def _weights(self, place: NDArray[np.float64]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Weights (D, C) for features as they come but for the centre, and the bias (C,), as they are multiplied."""
        dtype = np.float64 if self.exact else np.float32
        return (self.basis.axes @ place[:-1]).astype(dtype), place[-1].astype(dtype)


@dataclass(frozen=True, eq=False)
class Curvature:
    """A guess of the Hessian: of each class a diagonal, and one direction, that of the mean of its likely images.

    The second moment of the images that could be of a class is the variance within it, which is close to diagonal along
    the principal axes, and the square of its mean, which is not. Classes are taken to be independent.

    Attributes:
        diagonal: (R + 1, C).
        direction: (R + 1, C).
        weight: Of the square of the direction, (C,).
    """

    diagonal: NDArray[np.float64]
    direction: NDArray[np.float64]
    weight: NDArray[np.float64]

    def solve(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient times the inverse (Sherman and Morrison 1950), without what adds the same to all classes."""
        result = _sum_to_zero(gradient) / self.diagonal
        along = self.direction / self.diagonal
        size = 1 / self.weight + np.einsum("rc,rc->c", self.direction, along)
        result -= along * (np.einsum("rc,rc->c", self.direction, result) / size)
        return _sum_to_zero(result)


def _scores(x: NDArray[np.floating], weights: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.floating]:
    scores: NDArray[np.floating] = x @ weights
    scores += bias
    return scores


def _probabilities(
    scores: NDArray[np.floating], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """The log loss of each row, (n,), and the probabilities (n, C), which take the place of the scores."""
    scores -= scores.max(1, keepdims=True)
    own = scores[np.arange(len(scores)), labels].astype(np.float64)
    np.exp(scores, out=scores)
    sums = scores.sum(1, keepdims=True)
    losses = np.log(sums[:, 0], dtype=np.float64) - own
    scores /= sums
    return losses, scores


def _sum_to_zero(place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without what adds the same to all classes, in which direction the loss is level."""
    result: NDArray[np.float64] = place - place.mean(1, keepdims=True)
    return result
