"""What the learning curve is of where an image has any number of labels: their mean average precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.average_precision import mean_average_precision_shares
from headstart.evaluation.intervals import Interval, with_variance
from headstart.evaluation.learning_curve import SHARES, Measure, order_of_kinds
from headstart.targets.labels import FALSE, TRUE, Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Training images that have a label, and that lack it, without which subsets would hold hardly any.
ENOUGH = round(2 / SHARES[0])


def measurable(learnt: NDArray[np.int8], truth: NDArray[np.int8]) -> NDArray[np.int64]:
    """The labels that a curve can be of: enough images to learn from have and lack them, and a measured image has them.

    Args:
        learnt: Labels of the training images, 1, 0, or below 0 for not known, (N, C).
        truth: Those of the measured ones, (M, C).
    """
    have, lack = ((learnt == value).sum(0) for value in (TRUE, FALSE))
    return np.flatnonzero((have >= ENOUGH) & (lack >= ENOUGH) & (truth == TRUE).any(0))


def _errors(scores: NDArray[np.float64], truth: NDArray[np.int8]) -> NDArray[np.float64]:
    return 1 - mean_average_precision_shares(scores, truth)


def _interval(errors: NDArray[np.float64], truth: NDArray[np.int8]) -> Interval:
    mean = min(max(1 - float(errors.mean()), 0.0), 1.0)
    return with_variance(mean, float(errors.var()) / len(errors), most=int((truth == TRUE).sum()))


def _order(labels: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.int64]:
    return order_of_kinds(Labels((), labels).rarest(), rng)


def _fewest(labels: NDArray[np.int8], rows: NDArray[np.int64]) -> int:
    return min(int((labels[rows] == value).sum(0).min()) for value in (TRUE, FALSE))


MEAN_AVERAGE_PRECISION = Measure(
    name="mean average precision",
    one="A label",
    hardly_any="the mean average precision is nearly 100 %",
    errors=_errors,
    interval=_interval,
    order=_order,
    fewest=_fewest,
)
