"""Predictions on the images that are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.core.equality import ByValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class HeldOut(ByValue):
    """Predictions on images that the predicting model was not fitted on.

    Attributes:
        rows: Rows of the table, (M,).
        probabilities: Calibrated, float64 (M, C).
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
