"""From scores to probabilities of which each is true or not by itself: the logistic function, after a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from headstart.core.minimum import lowest
from headstart.settings.thresholds import BEST_F1, threshold_rule
from headstart.targets.classes.temperature import LARGEST
from headstart.targets.labels.thresholds import EVEN, choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

_PRECISION = 1e-5  # of the logarithm of a temperature


@dataclass(frozen=True)
class Sigmoid:
    """A calibration by one number; see `headstart.targets.Calibration`.

    Attributes:
        temperature: Scores are divided by it before the logistic function. 1 for a linear head, which has divided the
            scores of each label by a temperature of its own.
        thresholds: From what probability on an image has a label, (C,); empty for a half.
    """

    temperature: float
    thresholds: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        scores: NDArray[Any],
        labels: NDArray[np.int8],
        weights: NDArray[np.float32] | None = None,
        *,
        threshold: str = BEST_F1,
    ) -> Self:
        """The temperature of the smallest log loss over all labels that are known, and thresholds by a rule."""
        limit = float(np.log(LARGEST))
        power = lowest(
            lambda one: float(np.average(_losses(scores / np.exp(one), labels), weights=weights)), -limit, limit,
            precision=_PRECISION,
        )  # fmt: skip
        plain = cls(float(np.exp(power)))
        return cls(plain.temperature, choose(threshold_rule(threshold), plain.probabilities(scores), labels)[0])

    def decide(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Which labels images have, by their probabilities; both (N, C), or (C,) of one image."""
        return np.asarray(probabilities >= np.array(self.thresholds or EVEN))

    def probabilities(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Calibrated probabilities of scores (N, C), each by itself."""
        return to_probabilities(scores / self.temperature)

    def add_nodes(self, graph: Graph, scores: str) -> str:
        """Add temperature and logistic function to a graph; the name of the probabilities, float32 (N, C)."""
        divisor = graph.constant("head.temperature", np.float32(self.temperature))
        return graph.node("Sigmoid", [graph.node("Div", [scores, divisor], "head.calibrated")], "probabilities")


def to_probabilities(scores: NDArray[Any]) -> NDArray[np.float64]:
    """The logistic function of scores (N, C), in float64, without overflow."""
    result: NDArray[np.float64] = np.exp(-np.logaddexp(0, -scores.astype(np.float64)))
    return result


def _losses(scores: NDArray[Any], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Mean loss (N,) of each image over the labels that are known of it, in nats; 0 where none is.

    Labels count as certain to (N + 1) / (N + 2) only, as in `headstart.targets.classes.temperature.smoothed_losses`.
    """
    scores, known = scores.astype(np.float64), labels >= 0
    truth = (np.where(labels == 1, 1.0, 0.0) * len(labels) + 1) / (len(labels) + 2)
    each = np.where(known, np.logaddexp(0, scores) - truth * scores, 0)
    result: NDArray[np.float64] = each.sum(1) / np.maximum(known.sum(1), 1)
    return result
