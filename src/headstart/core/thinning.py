"""Fewer rows of many, evenly spaced: which they are depends on nothing but how many there are, and of what kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """So many of the numbers 0..count-1 at most, int64 (M,), rising, with the first and the last."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)


def of_each(kinds: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """So many rows at most, int64 (M,), kind by kind: of each kind its share, which may be none of a rare one.

    Args:
        kinds: Kind of each row, such as its class, (N,).
        most: How many.
    """
    by_kind: NDArray[np.int64] = np.argsort(kinds, kind="stable")[evenly(len(kinds), most)]
    return by_kind
