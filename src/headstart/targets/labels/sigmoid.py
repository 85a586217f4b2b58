"""From scores to probabilities of which each is true or not by itself: the logistic function, after a temperature."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from headstart.core.minimum import lowest
from headstart.settings.thresholds import BEST_F1, threshold_rule
from headstart.targets.classes.temperature import LARGEST, fit_temperature
from headstart.targets.labels.thresholds import EVEN, choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

ENOUGH = 5  # images with a label, and without it, to find a temperature for it alone
_PRECISION = 1e-5  # of the logarithm of a temperature


@dataclass(frozen=True)
class Sigmoid:
    """A calibration by one number for each label; see `headstart.targets.Calibration`.

    Attributes:
        temperature: Scores are divided by it before the logistic function. 1 for a linear head, which has divided the
            scores of each label by a temperature of its own.
        each: What the scores of each label are divided by besides, (C,); empty for 1.
        thresholds: From what probability on an image has a label, (C,); empty for a half.
    """

    temperature: float
    thresholds: tuple[float, ...] = ()
    each: tuple[float, ...] = ()

    @classmethod
    def fit(
        cls,
        scores: NDArray[np.floating],
        labels: NDArray[np.int8],
        weights: NDArray[np.float32] | None = None,
        *,
        threshold: str = BEST_F1,
    ) -> Self:
        """The temperature of the smallest log loss of each label, where it is known, and thresholds by a rule.

        Labels that fewer than `ENOUGH` images have, or lack, get the temperature of all labels together.
        """
        limit = float(np.log(LARGEST))
        power = lowest(
            lambda one: float(np.average(_losses(scores / np.exp(one), labels), weights=weights)), -limit, limit,
            precision=_PRECISION,
        )  # fmt: skip
        together = float(np.exp(power))
        own = [
            temperature_of_label(scores[:, i], labels[:, i], weights) / together if min(enough) >= ENOUGH else 1.0
            for i in range(labels.shape[1]) for enough in [((labels[:, i] == 1).sum(), (labels[:, i] == 0).sum())]
        ]  # fmt: skip
        plain = cls(together, (), tuple(own))
        thresholds = choose(threshold_rule(threshold), plain.probabilities(scores), labels)[0]
        return replace(plain, thresholds=thresholds)

    def scaled(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scores (N, C) divided by the temperatures."""
        return np.asarray(scores / (self.temperature * np.array(self.each or 1.0)), np.float64)

    def decide(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which labels images have, by their probabilities; both (N, C), or (C,) of one image."""
        return np.asarray(probabilities >= np.array(self.thresholds or EVEN))

    def probabilities(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities of scores (N, C), each by itself."""
        return to_probabilities(self.scaled(scores))

    def add_nodes(self, graph: Graph, scores: str) -> str:
        """Add temperature and logistic function to a graph; the name of the probabilities, float32 (N, C)."""
        divisor = graph.constant("head.temperature", np.float32(self.temperature * np.array(self.each or 1.0)))
        return graph.node("Sigmoid", [graph.node("Div", [scores, divisor], "head.calibrated")], "probabilities")


def to_probabilities(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logistic function of scores (N, C), in float64, without overflow."""
    result: NDArray[np.float64] = np.exp(-np.logaddexp(0, -scores.astype(np.float64)))
    return result


def temperature_of_label(
    scores: NDArray[np.floating], labels: NDArray[np.int8], weights: NDArray[np.float32] | None = None
) -> float:
    """What the scores of one label must be divided by; see `headstart.targets.classes.temperature.fit_temperature`.

    Args:
        scores: (N,).
        labels: 1, 0, or below 0 for not known, (N,).
        weights: Weight of each image, (N,); None for 1.
    """
    known = labels >= 0
    return fit_temperature(
        of_two(scores[known]), labels[known].astype(np.int64), None if weights is None else weights[known]
    )


def of_two(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores (N,) of a label as those of two classes, without it and with it, (N, 2)."""
    return np.stack([np.zeros(len(scores)), scores], 1)


def _losses(scores: NDArray[np.floating], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Mean loss (N,) of each image over the labels that are known of it, in nats; 0 where none is.

    Labels count as certain to (N + 1) / (N + 2) only, as in `headstart.targets.classes.temperature.smoothed_losses`.
    """
    scores, known = scores.astype(np.float64), labels >= 0
    truth = (np.where(labels == 1, 1.0, 0.0) * len(labels) + 1) / (len(labels) + 2)
    each = np.where(known, np.logaddexp(0, scores) - truth * scores, 0)
    result: NDArray[np.float64] = each.sum(1) / np.maximum(known.sum(1), 1)
    return result
