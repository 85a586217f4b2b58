"""Prediction sets: what they are calibrated with, and their coverage on held-out images.

The method is that of `headstart.modelfile.prediction_sets`, which the model file's user runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.intervals import Interval, wilson
from headstart.modelfile.prediction_sets import CAVEAT, Conformal, Measured, Mistakes, limit, measured

if TYPE_CHECKING:
    from numpy.typing import NDArray

COVERAGE = 0.9  # of the sets that a run reports
__all__ = [
    "CAVEAT", "COVERAGE", "Measured", "Reported", "Sets", "calibrate", "held_out", "limit", "measure", "measured",
    "scores",
]  # fmt: skip


@dataclass(frozen=True)
class Sets:
    """How the sets of a nominal coverage do on held-out images.

    Attributes:
        coverage: What was asked for, in 0..1.
        images: Number of images.
        empty: Share of sets without a class, in 0..1; 0 where none may be.
        single: Share of sets of one class.
        covered: Share of sets that hold the true class.
        interval: 95 % Wilson interval of it.
    """

    coverage: float
    images: int
    empty: float
    single: float
    covered: float
    interval: Interval


@dataclass(frozen=True)
class Reported:
    """What a run says of prediction sets.

    Attributes:
        sets: How those that are never empty fare at the coverage `COVERAGE`.
        calibrated_on: Number of held-out images that they are made with.
    """

    sets: Sets
    calibrated_on: int

    def as_dict(self) -> dict[str, object]:
        """The record as JSON values."""
        return asdict(self.sets) | {"calibrated_on": self.calibrated_on, "caveat": CAVEAT}


def calibrate(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> Conformal:
    """The record of a model file, from predictions on images that the model was not trained on.

    Args:
        probabilities: Calibrated, (M, C), M at least 1.
        labels: (M,).
    """
    return Conformal.of(scores(probabilities, labels))


def held_out(probabilities: NDArray[np.float64], labels: NDArray[np.int64], split: str, *, apart: bool) -> Mistakes:
    """What the record of a model file keeps under ``measured``, from which the coverage of any level follows.

    Args:
        probabilities: Calibrated, (M, C), M at least 1.
        labels: (M,).
        split: Which images they are.
        apart: They are others than those that were calibrated with; else they must be the same.
    """
    return Mistakes.of(scores(probabilities, labels), probabilities.argmax(1) != labels, split, apart=apart)


def scores(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 minus the probability of the true class, (M,), in 0..1."""
    return np.clip(1 - probabilities[np.arange(len(labels)), labels], 0, 1)


def measure(
    conformal: Conformal,
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    coverage: float = COVERAGE,
    *,
    allow_empty: bool = False,
) -> Sets:
    """How the sets of a coverage fare on other images than they were calibrated with.

    Args:
        conformal: What `calibrate` gave.
        probabilities: Calibrated, (M, C), M at least 1.
        labels: (M,).
        coverage: Above 0 and below 1.
        allow_empty: Leave sets empty, rather than with the most probable class.
    """
    inside = 1 - probabilities <= limit(conformal, coverage)
    if not allow_empty:
        inside[np.arange(len(labels)), probabilities.argmax(1)] = True
    sizes = inside.sum(1)
    hits = int(inside[np.arange(len(labels)), labels].sum())
    return Sets(
        coverage=coverage,
        images=len(labels),
        empty=float((sizes == 0).mean()),
        single=float((sizes == 1).mean()),
        covered=hits / len(labels),
        interval=wilson(hits, len(labels)),
    )
