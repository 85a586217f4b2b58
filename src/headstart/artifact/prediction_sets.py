"""Sets of classes that hold the true one with a chosen probability: split-conformal prediction, at work.

The score of an image and a class is 1 minus the probability of the class (LAC: Sadinle, Lei and Wasserman 2019, "Least
ambiguous set-valued classifiers with bounded error levels"). A set holds every class whose score is at most a quantile
of the scores that held-out images had with their true classes (Vovk et al. 2005; Angelopoulos and Bates 2023). If the
image is drawn as those were (exchangeable), the set holds its true class with at least the probability asked for.

A set can be empty: where the model is right more often than is asked for, those images go without a class that are less
certain than nearly all held-out ones were. More coverage fills them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import ModelError, OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SCORES = 1000  # so many are kept of more: a coverage is then met to a thousandth
CAVEAT = (
    "Sets of classes hold the true one as often as asked for only on images that are drawn as the held-out images "
    "were: other cameras, places or classes void it."
)
_DIGITS = 6  # of a score that is kept


def record(scores: NDArray[np.float64]) -> dict[str, Any]:
    """What a model file keeps of the scores of held-out images.

    Args:
        scores: 1 minus the probability of the true class, (M,), in 0..1, M at least 1.

    Returns:
        ``images``, M, and ``scores``, at most `MAX_SCORES` of them in ascending order: the j-th of m is the one of rank
        ceil(j * M / m) among all.
    """
    count = len(scores)
    kept = min(count, MAX_SCORES)
    ordered = np.sort(scores)
    ranks = [-(-number * count // kept) for number in range(1, kept + 1)]
    return {"images": count, "scores": [float(f"{ordered[rank - 1]:.{_DIGITS}g}") for rank in ranks]}


def limit(conformal: Mapping[str, Any], coverage: float) -> float:
    """The largest score of a class in the sets of a coverage; infinite where there were too few images to say.

    Args:
        conformal: What `record` gave.
        coverage: Probability that a set holds the true class, above 0 and below 1.

    Raises:
        OptionError: The coverage is no such number.
    """
    if not 0 < coverage < 1:
        raise OptionError(f"A coverage of {coverage:g}; expected a number above 0 and below 1, such as 0.9.")
    images, scores = conformal["images"], conformal["scores"]
    needed = math.ceil(coverage * (images + 1) - 1e-9)  # of a product that is whole but for rounding
    # The first that is kept of this rank or above.
    return float(scores[(needed - 1) * len(scores) // images]) if needed <= images else math.inf


def members(probabilities: NDArray[Any], most: float) -> NDArray[np.int64]:
    """The classes of one image's set, from the most probable.

    Args:
        probabilities: (C,).
        most: What `limit` gave.
    """
    order = np.argsort(-probabilities, kind="stable")
    inside: NDArray[np.int64] = order[1 - probabilities[order].astype(np.float64) <= most]
    return inside


def parse(value: Any) -> dict[str, Any] | None:
    """The record of a model file, checked.

    Raises:
        ModelError: It is damaged.
    """
    if value is None:
        return None
    scores = value.get("scores") if isinstance(value, dict) else None
    if not isinstance(scores, list) or not all(type(one) in {int, float} and 0 <= one <= 1 for one in scores):
        raise ModelError("The model's metadata has no valid conformal scores.")
    images = value.get("images")
    if type(images) is not int or not 1 <= len(scores) == min(images, MAX_SCORES) or sorted(scores) != scores:
        raise ModelError("The model's metadata has conformal scores that are not in order, or not all there.")
    return {**value, "scores": [float(one) for one in scores]}
