"""Predictions on the images that are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from headstart.core.equality import ByValue

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.targets import Calibration


@dataclass(frozen=True, eq=False)
class HeldOut(ByValue):
    """Predictions on images that the predicting model was not fitted on.

    Attributes:
        rows: Rows of the table, (M,).
        probabilities: Calibrated, float64 (M, C).
        calibrations: The `headstart.targets.Calibration` that made the probabilities of each, (M,): in a
            cross-validation each fold has its own.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    calibrations: NDArray[np.object_]

    @classmethod
    def by(cls, rows: NDArray[np.int64], probabilities: NDArray[np.float64], calibration: Calibration) -> Self:
        """Those of a single model."""
        return cls(rows, probabilities, np.full(len(rows), calibration, object))

    def found(self) -> NDArray[np.bool_]:
        """The names whose probability reaches their threshold, of half where a task has none; bool (M, C)."""
        even = (0.5,) * self.probabilities.shape[1]
        thresholds = np.array([one.thresholds or even for one in self.calibrations]).reshape(-1, len(even))
        return np.asarray(self.probabilities >= thresholds)

    def take(self, some: NDArray[np.bool_]) -> Self:
        """Those of some images: their places, or a mask, bool (M,)."""
        return type(self)(self.rows[some], self.probabilities[some], self.calibrations[some])
