"""From scores to probabilities of which one is true: the softmax, after the temperature that calibrates it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from headstart.core.minimum import lowest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

LARGEST = 20.0
# Of the logarithm of a temperature. What is left changes a log loss in its tenth digit, since it is level there.
_PRECISION = 1e-5


@dataclass(frozen=True)
class Temperature:
    """A calibration by one number; see `headstart.targets.Calibration`.

    Attributes:
        temperature: Scores are divided by it before the softmax.
    """

    thresholds: ClassVar[tuple[float, ...]] = ()  # the most probable class is the one
    temperature: float

    @classmethod
    def fit(
        cls,
        scores: NDArray[np.floating],
        labels: NDArray[np.int64],
        weights: NDArray[np.float32] | None = None,
        *,
        threshold: str = "",
    ) -> Self:
        """The one of the smallest log loss; see `fit_temperature`."""
        return cls(fit_temperature(scores, labels, weights))

    def scaled(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores (N, C) divided by the temperature."""
        return np.asarray(scores / self.temperature, np.float64)

    def probabilities(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of scores (N, C); each row sums to 1."""
        return to_probabilities(scores / self.temperature)

    def add_nodes(self, graph: Graph, scores: str) -> str:
        """Add temperature and softmax to a graph; the name of the probabilities, float32 (N, C)."""
        divisor = graph.constant("head.temperature", np.float32(self.temperature))
        return graph.node("Softmax", [graph.node("Div", [scores, divisor], "head.calibrated")], "probabilities", axis=1)


def to_probabilities(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The softmax of scores (N, C) along the last axis, in float64."""
    shifted = scores.astype(np.float64) - scores.max(-1, keepdims=True)
    powers = np.exp(shifted)
    result: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return result


def smoothed_losses(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
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
    scores: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.float32] | None = None
) -> float:
    """The mean of `smoothed_losses`.

    Args:
        scores: (N, C).
        labels: Class index of each row, (N,).
        weights: Weight of each row, (N,); None for 1.
    """
    return float(np.average(smoothed_losses(scores, labels), weights=weights))


def fit_temperature(
    scores: NDArray[np.floating], labels: NDArray[np.int64], weights: NDArray[np.float32] | None = None
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
